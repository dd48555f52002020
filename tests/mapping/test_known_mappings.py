"""Mappings that are remembered: what was found in more room is the answer in less only where a search says the same."""

from dataclasses import replace

import numpy as np
import pytest

from fahw.errors import ConfigError
from fahw.mapping import mapper
from tests.support.random_products import random_product


def found(product):
    """The best mapping, or the mistakes."""
    try:
        return mapper.best_mapping(product)
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize("seed", range(60))
def test_what_is_remembered_is_what_a_search_finds(seed):
    """Of one product in rooms of many sizes, asked for in any order, some twice; the room is in fractions of bits."""
    rng = np.random.default_rng(4100 + seed)
    product = random_product(rng, granules=20)
    names = sorted({product.left.memory, product.right.memory, product.result.memory})
    rooms = [
        tuple((name, float(2 ** rng.uniform(3, 20))) for name in names[: rng.integers(len(names) + 1)])
        for _ in range(12)
    ]
    asked = [replace(product, room=room) for room in [*rooms, *rooms[:3]]]
    remembered = [found(one) for one in asked]
    for one, mapping in zip(asked, remembered, strict=True):
        mapper._known.cache_clear()
        mapper._best_or_problems.cache_clear()
        assert mapping == found(one)
