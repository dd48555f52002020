"""The plan under which a step is counted before its search."""

import gc
import weakref

from fahw.chip.cost import simulate
from fahw.hardware.load import load_chip


def test_what_a_search_began_with_is_gone_without_garbage_collection():
    """It is thousands of objects, which would wait for the collection of all that lives."""
    cost = simulate(load_chip("edge_dual", {"mapping": "best"}), "lenet5", "bp", 20)
    gone = weakref.ref(cost.work.counted.plan)
    gc.disable()
    try:
        del cost
        assert gone() is None
    finally:
        gc.enable()
