"""Products whose operands are on the chip: what is found without a search is what the search finds."""

from dataclasses import replace

import numpy as np
import pytest

from fahw.errors import ConfigError
from fahw.mapping.mapper import best_mapping
from fahw.mapping.untiled import best_of
from tests.support.random_products import random_product


@pytest.mark.parametrize("seed", range(120))
def test_a_product_that_needs_no_tiles_is_mapped_as_by_the_search(seed):
    """Operands wholly there, memories small and large, static power or none: the same mapping and counts."""
    problem = random_product(np.random.default_rng(1300 + seed), granules=20)
    there = [replace(operand, resident=1.0) for operand in problem.operands]
    array = replace(problem.array, dataflows=problem.array.dataflows[:1])
    problem = replace(problem, left=there[0], right=there[1], array=array)
    try:
        expected = best_mapping(problem)
    except ConfigError:
        with pytest.raises(ConfigError):
            best_of(problem)
    else:
        assert best_of(problem) == expected
