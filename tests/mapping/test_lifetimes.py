"""What stays on the chip: the most that can be gained, within the room there is, and never less with more room."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.mapping import lifetimes
from fahw.mapping.lifetimes import Choice, best_shares
from fahw.mapping.shares.greedy import greedy_shares, settled
from fahw.mapping.shares.prices import Market
from fahw.mapping.shares.programme import Programme
from fahw.mapping.shares.simplex import Vertex, best_vertex
from tests.support.random_lifetimes import random_step

SEEDS = st.integers(0, 2**32)
ONE = Choice(0, "buffer", 80.0, 5.0, ((0, 1), (1, 1)))
LATER = replace(ONE, tensor=1, moments=((2, 1),))


@st.composite
def small_programmes(draw):
    """A few choices in small whole numbers, so that much is tied, full, empty or there twice."""
    moments, tensors = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    places = st.lists(st.tuples(st.integers(0, moments - 1), st.integers(0, 2)), max_size=6)
    choice = st.builds(
        Choice, st.integers(0, tensors - 1), st.sampled_from("ab"), st.integers(0, 40).map(float),
        st.integers(0, 9).map(float), places.map(tuple),
    )  # fmt: skip
    capacity = {memory: draw(st.lists(st.integers(0, 80), min_size=moments, max_size=moments)) for memory in "ab"}
    return draw(st.lists(choice, min_size=1, max_size=14)), capacity


def gained(choices, shares):
    return sum(choice.gain * share for choice, share in zip(choices, shares, strict=True))


def check_room(choices, capacity, shares):
    """Shares are from 0 to 1, of a tensor at most 1 together, and nowhere above the capacity: in exact numbers."""
    tensors, taken = Counter(), Counter()
    for choice, share in zip(choices, map(Fraction, shares), strict=True):
        assert 0 <= share <= 1
        tensors[choice.tensor] += share
        for moment, copies in choice.moments:
            taken[choice.memory, moment] += share * Fraction(choice.bits) * copies
    assert all(total <= 1 for total in tensors.values())
    assert all(bits <= max(0, capacity[memory][moment]) for (memory, moment), bits in taken.items())


def check_best(choices, capacity):
    """There is room, and HiGHS gains no more."""
    exact = pytest.importorskip("tests.support.exact_lifetimes")
    shares = best_shares(choices, capacity)
    check_room(choices, capacity, shares)
    assert gained(choices, shares) == pytest.approx(exact.best_gain(choices, capacity), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("seed", "later"), [(seed, seed % 2 == 0) for seed in range(8)])
def test_random_steps_gain_as_much_as_an_exact_solver_finds(seed, later):
    """Some of the fifty steps of the next test."""
    step = random_step(np.random.default_rng(seed))
    check_best(step.choices(later), step.capacity)


@pytest.mark.slow
def test_fifty_random_steps_gain_as_much_as_an_exact_solver_finds():
    """With choices from the write alone, and with those from a read, than which a freer form gains hardly more."""
    exact = pytest.importorskip("tests.support.exact_lifetimes")
    for seed in range(50):
        step = random_step(np.random.default_rng(seed))
        check_best(step.choices(), step.capacity)
        check_best(step.choices(later=True), step.capacity)
        free = exact.FreeShares(step).most()
        assert 0.995 * free <= exact.best_gain(step.choices(later=True), step.capacity) <= free * (1 + 1e-9)


@given(small_programmes())
@settings(max_examples=200)
def test_small_programmes_gain_as_much_as_an_exact_solver_finds(programme):
    """Ties, empty and full memories, choices of nothing, moments named twice."""
    check_best(*programme)


@pytest.mark.long
@given(small_programmes())
@settings(max_examples=5000)
def test_thousands_of_small_programmes_gain_as_much_as_an_exact_solver_finds(programme):
    """The same on thousands."""
    check_best(*programme)


def random_matrix(rng):
    """Gain, tensor and room by row of random choices, over many orders of size."""
    choices, rows = int(rng.integers(1, 120)), int(rng.integers(1, 60))
    room = 10 ** rng.uniform(-4, 3, (rows, choices)) * (rng.random((rows, choices)) < rng.random())
    return 10 ** rng.uniform(-4, 4, choices), rng.integers(0, choices, choices), room


@given(SEEDS)
def test_prices_of_rows_prove_that_a_vertex_is_best(seed):
    """What rows at their prices cost, and what tensors gain beyond, is what the vertex gains: none has more."""
    gain, tensor, room = random_matrix(np.random.default_rng(seed))
    shares = best_vertex(gain, tensor, room)
    assert (room @ shares <= 1 + 1e-6).all()
    assert (np.bincount(tensor, shares) <= 1 + 1e-6).all()
    vertex = Vertex(gain / gain.max(), np.unique(tensor, return_inverse=True)[1], room)
    while vertex.improve(1e-11):
        pass
    prices = vertex.prices() * gain.max()
    beyond = np.zeros(tensor.max() + 1)
    np.maximum.at(beyond, tensor, gain - prices @ room)
    assert (prices >= 0).all()
    assert gain @ shares == pytest.approx(prices.sum() + beyond.sum(), rel=1e-5)


@given(SEEDS, st.sampled_from([1.0, 1.001, 1.1, 2.0, 10.0]), st.booleans())
@settings(max_examples=60)
def test_more_room_never_gains_less(seed, factor, everywhere):
    """In all memories, or at some moments alone."""
    rng = np.random.default_rng(seed)
    step = random_step(rng, layers=int(rng.integers(3, 14)))
    choices = step.choices(later=True)
    more = {
        memory: [room * factor if everywhere or rng.random() < 0.5 else room for room in rooms]
        for memory, rooms in step.capacity.items()
    }
    before, after = (gained(choices, best_shares(choices, room)) for room in (step.capacity, more))
    assert after >= before * (1 - 1e-6)


@given(SEEDS)
@settings(max_examples=40)
def test_sums_of_parts_of_bits_pass_no_capacity_either(seed):
    """Bits that are no whole numbers, and capacities that are none."""
    rng = np.random.default_rng(seed)
    step = random_step(rng, layers=5)
    choices = [replace(choice, bits=choice.bits * float(rng.random())) for choice in step.choices()]
    capacity = {memory: [room * float(rng.random()) for room in rooms] for memory, rooms in step.capacity.items()}
    check_room(choices, capacity, best_shares(choices, capacity))


@given(SEEDS)
@settings(max_examples=40)
def test_a_unit_of_gain_or_of_room_changes_nothing(seed):
    """Gains in other units, bits and capacities by eight, and choices in another order."""
    rng = np.random.default_rng(seed)
    step = random_step(rng, layers=6)
    choices = step.choices(later=True)
    shares = best_shares(choices, step.capacity)
    assert best_shares([replace(choice, gain=choice.gain * 2.0**-40) for choice in choices], step.capacity) == shares
    wider = [replace(choice, bits=choice.bits * 8) for choice in choices]
    capacity = {memory: [room * 8 for room in rooms] for memory, rooms in step.capacity.items()}
    assert best_shares(wider, capacity) == pytest.approx(shares, abs=1e-5)
    order = rng.permutation(len(choices))
    turned = [choices[number] for number in order]
    assert gained(turned, best_shares(turned, step.capacity)) == pytest.approx(gained(choices, shares), rel=1e-6)


def test_where_everything_fits_all_is_kept_without_a_programme(monkeypatch):
    """The best choice of each tensor by the whole, and no other."""
    monkeypatch.setattr(lifetimes, "best_vertex", None)
    step = random_step(np.random.default_rng(0))
    choices = step.choices()
    most = {choice.tensor: choice.gain for choice in sorted(choices, key=lambda choice: choice.gain)}
    room = {memory: [sum(choice.bits * 2 for choice in choices)] * step.moments for memory in step.capacity}
    shares = best_shares(choices, room)
    assert set(shares) == {0.0, 1.0}
    assert gained(choices, shares) == pytest.approx(sum(most.values()))


def test_what_is_never_scarce_stays_wholly_beside_what_is():
    """Shares are 1, not nearly 1, where there is room to a bit."""
    choices = [replace(ONE, tensor=number, bits=bits) for number, bits in enumerate((80.0, 1e6 + 1, 3.0))]
    later = [replace(choice, tensor=choice.tensor + 3, moments=((2, 1), (3, 2))) for choice in choices]
    shares = best_shares([*choices, *later], {"buffer": [1e6 + 84, 1e6, 1e6 + 84, 2 * (1e6 + 84)]})
    assert shares[3:] == (1, 1, 1)
    assert (shares[0], shares[2]) == (1, 1)
    assert shares[1] == pytest.approx((1e6 - 83) / (1e6 + 1), abs=1e-6)


@pytest.mark.parametrize(
    ("choices", "capacity", "shares"),
    [
        ([], [10], ()),
        ([ONE], [80, 80], (1,)),
        ([ONE], [80, 20], (0.25,)),
        ([ONE], [80, 0], (0,)),
        ([ONE], [80, -5], (0,)),
        ([ONE], [80, float("inf")], (1,)),
        ([replace(ONE, gain=0.0)], [80, 80], (1,)),
        ([replace(ONE, gain=0.0)], [80, 79], (0,)),
        ([replace(ONE, gain=-1.0)], [80, 80], (0,)),
        ([replace(ONE, bits=0.0)], [0, 0], (1,)),
        ([replace(ONE, moments=())], [0, 0], (1,)),
        ([replace(ONE, moments=((1, 4),))], [0, 80], (0.25,)),
        ([replace(ONE, moments=((1, 1), (0, 1), (1, 3)))], [80, 80], (0.25,)),
        ([ONE, replace(ONE, gain=4.0)], [80, 80], (1, 0)),
        ([replace(ONE, gain=4.0), ONE], [80, 80], (0, 1)),
        ([ONE, replace(ONE, gain=4.0, bits=40.0)], [40, 40], (0, 1)),
        ([ONE, replace(ONE, tensor=7, gain=6.0)], [100, 100], (0.25, 1)),
        ([ONE, replace(ONE, tensor=7, gain=0.0)], [100, 100], (1, 0)),
        ([ONE, replace(ONE, tensor=7, gain=4.0), replace(LATER, gain=0.0)], [80, 80, 80], (1, 0, 1)),
        ([replace(ONE, bits=8e9)], [4e9, 4e9], (0.5,)),
    ],
)  # fmt: skip
def test_shares_of_one_or_two_choices(choices, capacity, shares):
    """Those that are plain to see."""
    assert best_shares(choices, {"buffer": capacity}) == shares


def test_ten_tenths_of_a_bit_are_more_than_a_bit():
    """As numbers that a computer holds they are, though it adds them up to less."""
    choices, capacity = [replace(ONE, tensor=number, bits=0.1) for number in range(10)], {"buffer": [1.0, 1.0]}
    shares = best_shares(choices, capacity)
    check_room(choices, capacity, shares)
    assert gained(choices, shares) == pytest.approx(50)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ((1, 1, 0), (1, 0.25, 0)),
        ((0.25, 1, 1), (0.25, 1, 0)),
        ((0, 2.0**-9, 0), (1, 0.25, 0)),
        ((1 - 1e-12, 0.25, 0), (1, 0.25, 0)),
    ],
)
def test_shares_that_are_asked_for_are_cut_to_the_room_and_what_is_left_is_given_out(asked, given):
    """Of two tensors of 80 bits at 100, the second in two ways: the nearest to all first, then those that gain most."""
    tensors, entries = np.array([0, 1, 1]), np.arange(3)
    programme = Programme(np.array([5.0, 4.0, 3.0]), tensors, entries, entries * 0, np.full(3, 80.0), np.array([100.0]))
    assert settled(programme, np.array(asked, float)).tolist() == list(given)


def test_a_small_share_that_is_asked_for_is_cut_not_dropped():
    """A tensor that is far larger than its memory."""
    one = np.zeros(1, np.int64)
    programme = Programme(np.ones(1), one, one, one, np.array([2.0**20]), np.array([64.0]))
    assert settled(programme, np.array([2.0**-13])).tolist() == [2.0**-14]


def test_a_moment_without_a_capacity_is_an_error():
    """It would be taken for one of the next memory."""
    with pytest.raises(ValueError, match="no capacity"):
        best_shares([ONE], {"buffer": [80], "other": [80]})


def dense_programme(rng):
    """A random programme in arrays."""
    gain, tensor, room = random_matrix(rng)
    choice, row = np.nonzero(room.T)
    return Programme(gain, tensor, choice, row, np.ceil(room[row, choice] * 1e5), np.full(len(room), 1e5))


@given(SEEDS)
@settings(max_examples=30)
def test_a_markets_bound_is_never_below_the_best(seed):
    """Whatever prices are, no shares gain more than rows cost and tensors gain beyond: greedy's measure of itself."""
    rng = np.random.default_rng(seed)
    programme = dense_programme(rng)
    best = programme.gain @ best_vertex(programme.gain, programme.tensor, programme.dense())
    greedy = programme.gain @ greedy_shares(programme)
    market = Market(programme, greedy)
    for _ in range(50):
        market.trade(0.1)
    assert greedy <= best * (1 + 1e-6)
    assert market.bound >= best * (1 - 1e-6)


@pytest.mark.parametrize("seed", [60, 61, 63])
def test_large_steps_are_filled_greedily_and_well(seed, monkeypatch):
    """There is room for the shares, and they gain within 3 % of the most; steps of 60 layers."""
    step = random_step(np.random.default_rng(seed), layers=60)
    choices = step.choices()
    best = gained(choices, best_shares(choices, step.capacity))
    monkeypatch.setattr(lifetimes, "_MOST_CELLS", 0)
    monkeypatch.setattr(lifetimes, "best_vertex", None)
    shares = best_shares(choices, step.capacity)
    check_room(choices, step.capacity, shares)
    assert 0.97 * best <= gained(choices, shares) <= best * (1 + 1e-6)


def test_where_rounding_makes_the_exact_way_fail_shares_are_greedy(monkeypatch):
    """As of steps that are too large."""
    monkeypatch.setattr(lifetimes, "best_vertex", lambda *_: np.linalg.inv(np.zeros((2, 2))))
    assert best_shares([ONE, replace(ONE, tensor=7, gain=6.0)], {"buffer": [100, 100]}) == (0.25, 1)
