"""Garbage collection is as it was when a cost has been computed, or could not be."""

import gc

import pytest

from fahw.chip.cost import simulate
from fahw.errors import ConfigError
from fahw.garbage import without_garbage_collection


def test_a_context_without_garbage_collection_leaves_it_as_it_was():
    """Inside of another one it stays off."""
    with without_garbage_collection():
        with without_garbage_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.parametrize("transport", ["transposable", "shared"])
def test_a_step_that_cannot_be_priced_leaves_garbage_collection_on(transport):
    """Whether it fails before or while it is priced."""
    with pytest.raises(ConfigError):
        simulate("dfa_prng", "lenet5", "bp" if transport != "shared" else "dfa", 8, transport)
    assert gc.isenabled()
