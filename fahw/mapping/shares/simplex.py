"""The packing programme solved exactly: a primal simplex in which every tensor's shares add up to one by themselves."""

from __future__ import annotations

import numpy as np

from fahw.mapping.shares.programme import Numbers, Values, spread

_TINY, _TOLERANCE = 1e-9, 1e-11
_REFACTORED_AFTER = 64


class Vertex:
    """A vertex of the programme: one option of each tensor, its base, is what the shares of the others leave of 1.

    Options are the choices, then nothing for each tensor, then a void option, then the rows' slacks. `room` is a
    choice's by row, as shares of the rows' capacities.
    """

    def __init__(self, gain: Values, tensor: Numbers, room: Values, start: Numbers | None = None) -> None:
        """Nothing is kept at first; or, where each tensor must have one of its choices, these `start`, which fit."""
        rows, self.choices = room.shape
        self.tensors = int(tensor.max()) + 1
        self.void = self.choices + self.tensors
        self.columns = np.zeros((self.void + 1 + rows, rows))
        self.columns[: self.choices] = room.T
        self.columns[self.void + 1 :] = np.eye(rows)
        self.gain = np.zeros(self.void + 1 + rows)
        self.gain[: self.choices] = gain * (1 + 1e-7 * spread(self.choices))
        self.tensor = np.concatenate([tensor, np.arange(self.tensors + 1), np.full(rows, self.tensors)])
        self.chosen = self.choices + np.arange(self.tensors + 1)
        if start is not None:
            self.gain[self.choices : self.void] = -np.inf
            self.chosen[:-1] = start
        self.limits = 1 + 1e-8 * spread(rows)
        self.basis = np.arange(rows) + self.void + 1
        self.refactor()

    def refactor(self) -> None:
        """Computes the inverse and all shares anew from the basis."""
        self.base = self.chosen[self.tensor]
        self.owner = self.tensor[self.basis]
        self.inverse = self._inverted()
        self.place(self.limits)

    def _inverted(self) -> Values:
        """The basis' inverse; of rows whose own slack is basic it needs no solving."""
        slack = self.basis > self.void
        own = self.basis[slack] - self.void - 1
        tight = np.setdiff1d(np.arange(len(self.basis)), own)
        columns = (self.columns[self.basis[~slack]] - self.columns[self.base[self.basis[~slack]]]).T
        inverse = np.zeros((len(self.basis),) * 2)
        core = np.linalg.inv(columns[tight])
        inverse[np.ix_(~slack, tight)] = core
        inverse[np.flatnonzero(slack), own] = 1.0
        inverse[np.ix_(slack, tight)] = -columns[own] @ core
        return inverse

    def place(self, limits: Values) -> None:
        """Computes the shares from the inverse."""
        self.shares = self.inverse @ (limits - self.columns[self.chosen].sum(axis=0))
        self.left = 1.0 - np.bincount(self.owner, self.shares, self.tensors + 1).astype(np.float64)
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
        return bool(worth[option] > tolerance) and self._enter(option)

    def _enter(self, option: int) -> bool:
        """Raises the option until a basic share or a tensor's base is down to nothing, and takes that one's place.

        False where rounding lets nothing fall.
        """
        rate = self.inverse @ (self.columns[option] - self.columns[self.base[option]])
        fall = -np.bincount(self.owner, rate, self.tensors + 1)
        fall[self.tensor[option]] += 1
        fall[self.tensors] = 0
        step, leaving = _first_empty(np.concatenate([self.shares, self.left]), np.concatenate([rate, fall]))
        if step == np.inf:
            return False
        self.shares -= step * rate
        self.left -= step * fall
        if leaving < len(rate):
            self._exchange(leaving, option, rate, step)
        else:
            self._rebase(leaving - len(rate), option, rate, step)
        return True

    def _rebase(self, tensor: int, option: int, rate: Values, step: float) -> None:
        """Takes the tensor's base out: another of its options becomes the base."""
        own = tensor == self.tensor[option]
        members = (self.owner == tensor).nonzero()[0]
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
        """Makes the option the base of the tensor."""
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


def _first_empty(amounts: Values, rates: Values) -> tuple[float, int]:
    """How far it is until one of these amounts is down to nothing, and which: of several the fastest."""
    falling = (rates > _TINY).nonzero()[0]
    if not len(falling):
        return np.inf, 0
    rate = rates[falling]
    bound = np.maximum(amounts[falling], 0) / rate
    step = float(np.minimum.reduce(bound))
    tied = (bound <= step + 1e-12).nonzero()[0]
    return step, int(falling[tied[rate[tied].argmax()]])


def best_vertex(gain: Values, tensor: Numbers, room: Values) -> Values:
    """The share of each choice in the best vertex; gains are above 0, `room` is a choice's by row."""
    return solved(Vertex(gain / gain.max(), np.unique(tensor, return_inverse=True)[1], room)).found()


def solved(vertex: Vertex) -> Vertex:
    """The vertex, moved to the best one."""
    for pivots in range(1, 10 * sum(vertex.columns.shape) + 1):
        if not vertex.improve(_TOLERANCE):
            break
        if pivots % _REFACTORED_AFTER == 0:
            vertex.refactor()
    return vertex
