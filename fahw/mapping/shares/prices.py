"""Prices of room: they rise where tensors that each take what gains them most ask for more than there is."""

from __future__ import annotations

import numpy as np

from fahw.mapping.shares.programme import Numbers, Programme, Values, spread

_ROUNDS = 300
_PART_OF_NEWEST = 0.1
_PATIENCE = 5


class Runs:
    """The entries of choices as runs of rows in which a choice takes the same room: sums over rows are differences."""

    def __init__(self, programme: Programme) -> None:
        """Finds the runs."""
        choice, row, room = programme.choice, programme.row, programme.room
        begins = np.ones(len(row), bool)
        begins[1:] = (np.diff(choice) != 0) | (np.diff(row) != 1) | (np.diff(room) != 0)
        first = np.flatnonzero(begins)
        last = np.append(first[1:], len(row)) - 1
        self.choice, self.room, self.first, self.end = choice[first], room[first], row[first], row[last] + 1
        self.choices, self.rows = len(programme.gain), len(programme.capacity)

    def cost(self, price: Values) -> Values:
        """What each choice's room costs at these prices of a bit by row."""
        total = np.concatenate([[0.0], np.cumsum(price)])
        cost = self.room * (total[self.end] - total[self.first])
        return np.bincount(self.choice, cost, self.choices).astype(np.float64)

    def taken(self, shares: Values) -> Values:
        """Bits that these shares take of each row."""
        bits = self.room * shares[self.choice]
        change = np.bincount(self.first, bits, self.rows + 1) - np.bincount(self.end, bits, self.rows + 1)
        return np.cumsum(change)[:-1]


class Market:
    """Rounds in which tensors choose at prices, and prices follow the mean of what they chose (the volume algorithm of
    Barahona and Anbil, Mathematical Programming 87, 2000): the mean comes near the best shares."""

    def __init__(self, programme: Programme, reached: float) -> None:
        """`reached` is what shares that are known gain."""
        self.gain = programme.gain * (1 + 1e-7 * spread(len(programme.gain)))
        self.capacity, self.reached, self.runs = programme.capacity, reached, Runs(programme)
        self.order: Numbers = np.argsort(programme.tensor, kind="stable")
        tensors = programme.tensor[self.order]
        self.starts = np.flatnonzero(np.append(True, np.diff(tensors) != 0))
        self.sizes = np.diff(np.append(self.starts, len(tensors)))
        self.price = self.best_price = np.zeros(len(self.capacity))
        self.mean = np.zeros(len(self.gain))
        self.bound, self.step, self.idle = np.inf, 1.0, 0

    def chosen(self, net: Values) -> Values:
        """Each tensor wholly at what is worth most to it, where that is worth anything."""
        ordered = net[self.order]
        most = np.repeat(np.maximum.reduceat(ordered, self.starts), self.sizes)
        shares = np.zeros(len(net))
        shares[self.order] = (ordered == most) & (most > 0)
        return shares

    def trade(self, newest: float) -> None:
        """One round: prices are per capacity of a row; the mean takes the newest choice with this part."""
        net = self.gain - self.runs.cost(self.price / self.capacity)
        chosen = self.chosen(net)
        self._judge(float(self.price.sum() + net @ chosen))
        self.mean += newest * (chosen - self.mean)
        lack = self.runs.taken(self.mean) / self.capacity - 1
        step = self.step * max(self.bound - 0.98 * self.reached, 0.0) / max(float(lack @ lack), 1e-12)
        self.price = np.maximum(self.best_price + step * lack, 0)

    def _judge(self, bound: float) -> None:
        """Keeps these prices if they bound the best gain closer than any before; shorter steps where none do."""
        if bound < self.bound:
            self.bound, self.best_price, self.idle = bound, self.price, 0
        else:
            self.idle += 1
            if self.idle % _PATIENCE == 0:
                self.step *= 2 / 3


def market_shares(programme: Programme, reached: float) -> tuple[Values, Values]:
    """Shares near the best, which may take somewhat too much, and what choices gain beyond the price of their room."""
    market = Market(programme, reached)
    for turn in range(_ROUNDS):
        market.trade(max(_PART_OF_NEWEST, 1 / (turn + 1)))
    net = market.gain - market.runs.cost(market.best_price / market.capacity)
    return np.clip(market.mean, 0.0, 1.0), net
