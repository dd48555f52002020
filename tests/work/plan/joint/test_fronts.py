"""Fronts of mappings against a comparison of each with all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fahw.work.plan.joint import fronts
from fahw.work.plan.joint.fronts import Fronts

INF = float("inf")


@st.composite
def mappings(draw):
    number, memories = draw(st.integers(0, 25)), draw(st.integers(0, 3))
    costs = st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0, INF])
    cost = np.array(draw(st.lists(costs, min_size=number, max_size=number)), float)
    rooms = draw(st.lists(st.lists(st.integers(0, 3), min_size=number, max_size=number), min_size=memories,
                          max_size=memories))  # fmt: skip
    left = draw(st.sets(st.integers(0, max(0, number - 1)))) if number else set()
    return cost, np.array(rooms, float).reshape(memories, number), np.array(sorted(left), np.int64)


def expected(cost, rooms, left):
    """Those for which no other costs and takes as little or less; of equal ones the first."""
    found = []
    for own in left:
        key = cost[own], *rooms[:, own]
        others = [((cost[n], *rooms[:, n]), n) for n in left if n != own]
        is_beaten = any(
            all(a <= b for a, b in zip(other, key, strict=True)) and (other != key or n < own) for other, n in others
        )
        if np.isfinite(cost[own]) and not is_beaten:
            found.append(own)
    return found


@pytest.mark.parametrize("most_cells", [1 << 20, 2])
def test_a_front_has_what_no_other_beats(monkeypatch, most_cells):
    monkeypatch.setattr(fronts, "_MOST_CELLS", most_cells)  # with 2 nearly all are compared one by one

    @settings(max_examples=300, deadline=None)
    @given(mappings())
    def check(given):
        cost, rooms, left = given
        assert sorted(Fronts(rooms, left).of(cost).tolist()) == expected(cost, rooms, left)

    check()
