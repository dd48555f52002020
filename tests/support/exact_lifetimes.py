"""The most that shares can gain, by HiGHS: of given choices, and where every gap between two uses has its own share."""

from itertools import pairwise

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix


class Rows:
    """Inequalities of a linear programme, written one after the other."""

    def __init__(self):
        self.entries, self.limits = [], []

    def add(self, terms, limit):
        """The sum of these (column, factor) is at most the limit."""
        self.entries += [(len(self.limits), column, factor) for column, factor in terms]
        self.limits.append(limit)

    def most(self, gains):
        """The largest gain that the rows allow with columns from 0 to 1."""
        scale = max(gains, default=0.0)
        if scale <= 0:
            return 0.0
        row, column, factor = np.array(self.entries).T
        shape = len(self.limits), len(gains)
        matrix = coo_matrix((factor, (row.astype(int), column.astype(int))), shape=shape).tocsr()
        found = linprog(-np.array(gains) / scale, A_ub=matrix, b_ub=self.limits, bounds=(0, 1), method="highs")
        assert found.success, found.message
        return -found.fun * scale


def room_rows(rows, taken, capacity):
    """Adds the rows of room: what (column, bits) take of a memory at a moment, in shares of the capacity."""
    for (memory, moment), terms in taken.items():
        limit = max(capacity[memory][moment], 0.0)
        scale = limit if limit > 0 else 1.0
        rows.add([(column, bits / scale) for column, bits in terms], limit / scale)


def best_gain(choices, capacity):
    """The most that shares of these choices gain."""
    rows, taken, tensors = Rows(), {}, {}
    for column, choice in enumerate(choices):
        tensors.setdefault(choice.tensor, []).append((column, 1.0))
        for moment, copies in choice.moments:
            taken.setdefault((choice.memory, moment), []).append((column, choice.bits * copies))
    for terms in tensors.values():
        rows.add(terms, 1.0)
    room_rows(rows, taken, capacity)
    return rows.most([choice.gain for choice in choices])


class FreeShares:
    """The freer form: a share of each gap between two uses of a tensor, and one of its write, at most all of these.

    At a moment between two gaps the larger of both takes room.
    """

    def __init__(self, step):
        self.step, self.rows, self.taken, self.gains = step, Rows(), {}, []
        for tensor in step.tensors:
            if tensor.lasting:
                gain = tensor.write_gain + sum(gain for _, gain in tensor.reads)
                self.hold(tensor, self.column(gain), 0, step.moments - 1, ())
            else:
                self.gaps(tensor)
        room_rows(self.rows, self.taken, step.capacity)

    def column(self, gain):
        """A new share with its gain."""
        self.gains.append(gain)
        return len(self.gains) - 1

    def hold(self, tensor, column, first, last, joints):
        """Takes room from first to last, save at joints."""
        for moment, copies in self.step.held_by(tensor, first, last):
            if moment not in joints:
                self.taken.setdefault((tensor.memory, moment), []).append((column, tensor.bits * copies))

    def gaps(self, tensor):
        """The shares of a tensor that does not last."""
        write, ends = self.column(tensor.write_gain), [tensor.written, *(moment for moment, _ in tensor.reads)]
        joints, before = set(ends[1:-1]), None
        for (first, last), (_, gain) in zip(pairwise(ends), tensor.reads, strict=True):
            gap = self.column(gain)
            self.rows.add([(write, 1.0), (gap, -1.0)], 0.0)
            self.hold(tensor, gap, first, last, joints)
            if before is not None:
                larger = self.column(0.0)
                self.rows.add([(before, 1.0), (larger, -1.0)], 0.0)
                self.rows.add([(gap, 1.0), (larger, -1.0)], 0.0)
                self.hold(tensor, larger, first, first, ())
            before = gap

    def most(self):
        """The largest gain."""
        return self.rows.most(self.gains)
