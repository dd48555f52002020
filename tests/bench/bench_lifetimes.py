"""Time of the shares that stay on the chip, and what other ways to find them would gain, on random steps.

    python -m tests.bench.bench_lifetimes [--steps N]

exact     processor time of `best_shares` and of HiGHS, and how far their gains are apart, on random steps of 3 to 40
          layers, on those of about 340 choices and 146 moments, and on those of 100 and 200 layers
greedy    what whole tensors first, shares by gain per room, prices of room, and the best of the three miss of the most
room      how far a gain falls at most where all memories grow, by .3 % at first, four times in the end
large     processor time for ten thousand tensors at 512 moments, and the gain as a part of a bound that prices give
free      what choices from the write alone, and from a read too, miss of what a share of each gap of a tensor gains
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fahw.mapping import lifetimes
from fahw.mapping.lifetimes import Choice, best_shares
from fahw.mapping.shares import greedy
from fahw.mapping.shares.prices import Market
from tests.support.exact_lifetimes import FreeShares, best_gain
from tests.support.random_lifetimes import Step, random_step

Capacity = Mapping[str, Sequence[float]]
GROWN = (1, 1.003, 1.01, 1.03, 1.1, 1.3, 2, 4)
WAYS = ("exact", "whole tensors", "shares by gain per room", "prices of room", "best of three")


def say(line: str) -> None:
    """Writes a line."""
    sys.stdout.write(f"{line}\n")


def timed(function, *arguments) -> tuple[float, float]:
    """Milliseconds of processor time of the faster of two calls, and the value."""
    times = []
    for _ in range(2):
        start = time.process_time()
        value = function(*arguments)
        times.append((time.process_time() - start) * 1e3)
    return min(times), value


def best(choices: Sequence[Choice], capacity: Capacity) -> float:
    """What the best shares gain."""
    return sum(choice.gain * share for choice, share in zip(choices, best_shares(choices, capacity), strict=True))


def by_each_way(choices: Sequence[Choice], capacity: Capacity) -> list[float]:
    """The gain of each of the ways."""
    programme = lifetimes._guarded(lifetimes._programme(choices, capacity))
    blocked = programme.per_choice(programme.room * programme.grain > programme.capacity[programme.row]) > 0
    rest = programme.among((programme.gain > 0) & ~blocked)
    rest = rest.within(rest.taken(np.ones(len(rest.gain))) > rest.capacity)
    even = greedy.density(rest, 1 / rest.capacity)
    found = [greedy.wholes_first(rest, even), greedy.in_order(rest, even)]
    gains = [float(rest.gain @ shares) for shares in found]
    gains.append(float(rest.gain @ greedy.priced(rest, max(gains))) if len(rest.row) else gains[0])
    return [best(choices, capacity), *gains, max(gains)]


def said(name: str, lost: Iterable[float]) -> None:
    """Writes the distribution of losses, as parts of 1."""
    values = np.array(list(lost)) * 100
    say(
        f"  {name:28} median {np.median(values):6.2f} %, one in ten {np.quantile(values, 0.9):6.2f} %, "
        f"worst {values.max():6.2f} %, above .5 %: {(values > 0.5).sum()} of {len(values)}"
    )


def measured(step: Step, later: bool) -> tuple[float, ...]:
    """Choices, moments, milliseconds of ours and of HiGHS, and how far both gains are apart, as a part."""
    choices = step.choices(later)
    ours, gain = timed(best, choices, step.capacity)
    theirs, most = timed(best_gain, choices, step.capacity)
    return len(choices), step.moments, ours, theirs, abs(gain / most - 1) if most else 0.0


def exact(steps: Sequence[Step]) -> None:
    """Writes times and distances."""
    sets = {"random steps": steps}
    for layers in (36, 100, 200):
        sets[f"of {layers} layers"] = [random_step(np.random.default_rng(seed), layers) for seed in range(20)]
    for name, members in sets.items():
        choices, moments, ours, theirs, apart = np.array([measured(step, "36" in name) for step in members]).T
        say(
            f"  {name:14} {np.median(choices):4.0f} choices, {np.median(moments):3.0f} moments: median "
            f"{np.median(ours):5.1f} ms, longest {ours.max():5.1f}; HiGHS and its matrix {np.median(theirs):4.0f} ms; "
            f"apart by {apart.max():.0e}"
        )


def losses(steps: Sequence[Step]) -> None:
    """Writes what greedy ways lose, and how far gains fall with more room."""
    lost, fell = [], []
    for step in steps:
        rooms = [{name: [bits * more for bits in room] for name, room in step.capacity.items()} for more in GROWN]
        gains = np.array([by_each_way(step.choices(later=True), room) for room in rooms])
        if gains[0, 0] > 0:
            lost.append(1 - gains[0] / gains[0, 0])
            fell.append((1 - gains[1:] / np.maximum.accumulate(gains)[:-1]).max(axis=0).clip(0))
    for head, table in (("greedy", lost), ("room", fell)):
        say(head)
        for way, values in zip(WAYS, np.array(table).T, strict=True):
            said(way, values)


def large() -> None:
    """Writes how long very many tensors take, with room for a tenth and a half of what is there on average."""
    rng, choices = np.random.default_rng(0), []
    for tensor in range(10_000):
        first, bits = int(rng.integers(500)), float(np.round(10 ** rng.uniform(3, 6)))
        last = first + int(min(511 - first, rng.exponential(60) + 1))
        for end, gain in (((first + last) // 2, 10), (last, 30)):
            moments = tuple((moment, 1) for moment in range(first, end + 1))
            choices.append(Choice(tensor, "buffer", bits, bits * gain * rng.uniform(0.5, 2), moments))
    mean = sum(choice.bits * len(choice.moments) for choice in choices[1::2]) / 512
    for part in (0.1, 0.5):
        room = {"buffer": [mean * part] * 512}
        spent, gain = timed(best, choices, room)
        market = Market(lifetimes._programme(choices, room), gain)
        for _ in range(300):
            market.trade(0.1)
        say(f"  {part:.0%} of the room: {spent / 1e3:.2f} s, {gain / market.bound:.2%} of the bound")


def free(steps: Sequence[Step]) -> None:
    """Writes what the choices lose."""
    free = [FreeShares(step).most() for step in steps]
    for name, later in (("from the write", False), ("from a read, too", True)):
        gains = [best_gain(step.choices(later), step.capacity) for step in steps]
        said(name, [1 - gain / most for gain, most in zip(gains, free, strict=True) if most])


def main() -> None:
    """Writes all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    steps = [random_step(np.random.default_rng(seed)) for seed in range(parser.parse_args().steps)]
    say("exact")
    exact(steps)
    losses(steps)
    say("large")
    large()
    say("free")
    free(steps)


if __name__ == "__main__":
    main()
