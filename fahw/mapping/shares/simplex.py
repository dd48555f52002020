"""The packing programme solved exactly: a primal simplex in which every tensor's shares add up to one by themselves."""

from __future__ import annotations

import numpy as np

from fahw.mapping.shares.programme import Numbers, Values

_TINY = 1e-9
_REFACTORED_AFTER = 64
_GOLDEN = (5**0.5 - 1) / 2


def _spread(count: int) -> Values:
    """Numbers from 0 to 1, all different and far from regular: they part what would tie."""
    return np.arange(1.0, count + 1) * _GOLDEN % 1.0


class Vertex:
    """A vertex of the programme: one option of each tensor, its base, is what the shares of the others leave of 1.

    Options are the choices, then nothing for each tensor, then a void option, then the rows' slacks. `room` is a
    choice's by row, as shares of the rows' capacities.
    """

    def __init__(self, gain: Values, tensor: Numbers, room: Values, chosen: Numbers) -> None:
        """`chosen` are the options that the tensors have wholly at first, which together fit: a choice, or the number
        of choices plus that of the tensor."""
        rows, self.choices = room.shape
        self.tensors = len(chosen)
        self.void = self.choices + self.tensors
        self.columns = np.zeros((self.void + 1 + rows, rows))
        self.columns[: self.choices] = room.T
        self.columns[self.void + 1 :] = np.eye(rows)
        self.gain = np.zeros(self.void + 1 + rows)
        self.gain[: self.choices] = gain * (1 + 1e-7 * _spread(self.choices))
        self.tensor = np.concatenate([tensor, np.arange(self.tensors + 1), np.full(rows, self.tensors)])
        self.chosen = np.append(chosen, self.void)
        self.limits = 1 + 1e-8 * _spread(rows)
        self.basis = np.arange(rows) + self.void + 1
        self.refactor()

    def refactor(self) -> None:
        """Computes the inverse and all shares anew from the basis."""
        self.base = self.chosen[self.tensor]
        self.owner = self.tensor[self.basis]
        self.inverse = np.linalg.inv((self.columns[self.basis] - self.columns[self.base[self.basis]]).T)
        self.place(self.limits)

    def place(self, limits: Values) -> None:
        """Computes the shares from the inverse."""
        self.shares = self.inverse @ (limits - self.columns[self.chosen].sum(axis=0))
        self.left = 1 - np.bincount(self.owner, self.shares, self.tensors + 1)
        self.left[self.tensors] = np.inf

    def prices(self) -> Values:
        """What one more capacity of each row would gain."""
        gain: Values = self.gain[self.basis] - self.gain[self.base[self.basis]]
        return gain @ self.inverse

    def worth(self) -> Values:
        """What each option gains by the whole above its tensor's base, its room paid."""
        prices = self.prices()
        worth = self.gain.copy()
        worth[: self.choices] -= self.columns[: self.choices] @ prices
        worth[self.void + 1 :] -= prices
        worth -= worth[self.base]
        worth[self.basis] = 0.0
        return worth

    def improve(self, tolerance: float) -> bool:
        """Takes the best step to a neighbouring vertex; False where none gains more than the tolerance."""
        worth = self.worth()
        option = int(worth.argmax())
        if worth[option] <= tolerance:
            return False
        self._enter(option)
        return True

    def _enter(self, option: int) -> None:
        """Raises the option until a basic share or a tensor's base is down to nothing, and takes that one's place."""
        own = int(self.tensor[option])
        rate = self.inverse @ (self.columns[option] - self.columns[self.base[option]])
        fall = -np.bincount(self.owner, rate, self.tensors + 1)
        fall[own] += 1
        fall[self.tensors] = 0
        rates = np.concatenate([rate, fall])
        amounts = np.concatenate([self.shares, self.left])
        bound = np.full(len(rates), np.inf)
        np.divide(np.maximum(amounts, 0), rates, out=bound, where=rates > _TINY)
        step = bound.min()
        tied = np.flatnonzero(bound <= step + 1e-12)
        leaving = int(tied[rates[tied].argmax()])
        self.shares -= step * rate
        self.left -= step * fall
        if leaving < len(rate):
            self._exchange(leaving, option, rate, step)
        else:
            self._rebase(leaving - len(rate), option, rate, step)

    def _rebase(self, tensor: int, option: int, rate: Values, step: float) -> None:
        """Takes the tensor's base out: another of its options becomes the base."""
        own = tensor == self.tensor[option]
        members = np.flatnonzero(self.owner == tensor)
        if not len(members):
            self._set_base(tensor, option)
            self.left[tensor] = step
            return
        row = int(members[np.abs(self.shares[members]).argmax()])
        new, old = int(self.basis[row]), int(self.chosen[tensor])
        self.left[tensor] = self.shares[row]
        self.inverse[row] = -self.inverse[members].sum(axis=0)
        rate = rate.copy()
        rate[row] = own - rate[members].sum()
        self._set_base(tensor, new)
        self.basis[row] = old
        self.shares[row] = 0.0
        self._exchange(row, option, rate, step)

    def _set_base(self, tensor: int, option: int) -> None:
        self.chosen[tensor] = option
        self.base[self.tensor == tensor] = option

    def _exchange(self, row: int, option: int, rate: Values, step: float) -> None:
        """Puts the option into the basis in this row's place."""
        pivot = self.inverse[row] / rate[row]
        self.inverse -= rate[:, None] * pivot
        self.inverse[row] = pivot
        self.basis[row], self.owner[row] = option, self.tensor[option]
        self.shares[row] = step

    def found(self) -> Values:
        """The share of each choice."""
        self.refactor()
        self.place(np.ones(len(self.limits)))
        shares = np.zeros(self.void + 1 + len(self.limits))
        shares[self.chosen] = self.left
        shares[self.basis] = self.shares
        return np.clip(shares[: self.choices], 0.0, 1.0)


def best_vertex(gain: Values, tensor: Numbers, room: Values, chosen: Numbers) -> Values:
    """The share of each choice in the best vertex."""
    vertex = Vertex(gain / gain.max(), tensor, room, chosen)
    for pivots in range(1, 50 * (len(gain) + len(room)) + 1):
        if not vertex.improve(1e-9):
            break
        if pivots % _REFACTORED_AFTER == 0:
            vertex.refactor()
    return vertex.found()
