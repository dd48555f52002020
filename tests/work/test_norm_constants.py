"""What the error path reads of a batch norm besides its input: its scale and the batch's statistics, never for free."""

import pytest

from fahw.hardware.load import load_chip
from fahw.rules.catalogue import RULES
from tests.support.models import graph
from tests.support.steps import counts, step

CHANNELS = 7
NETWORK = graph(
    (2, 6, 6),
    {"kind": "conv2d", "name": "conv", "out": CHANNELS, "kernel": 3},
    {"kind": "batchnorm2d"},
    {"kind": "relu"},
    {"kind": "flatten"},
    {"kind": "linear", "name": "out", "out": 4},
)
RECEIVING = [name for name, rule in RULES.items() if rule.trains == "all"]
WORD = 64
"""Bits of a word of the chips' memories."""


def words(values, bits):
    return -(-values * bits // WORD)


@pytest.mark.parametrize("rule", RECEIVING)
def test_an_error_array_without_the_parameters_gets_scales_with_the_statistics_under_every_rule(rule):
    """edge_dual: two 32-bit statistics per channel and a 16-bit scale, written by the forward task where activations
    lie, and read by the error task from there, once per batch."""
    work = step("edge_dual", NETWORK, rule, batch=5)
    bare = step("edge_dual", without_norm(), rule, batch=5)

    read = {"component": "buffer_sram", "action": "read", "phase": "error"}
    assert counts(work, tensor="param", **read) == words(CHANNELS, 16)
    values = CHANNELS * 16 * 5
    assert counts(work, tensor="activation", **read) - counts(bare, tensor="activation", **read) == (
        words(2 * CHANNELS, 32) + words(values, 8)
    )
    written = [
        counts(item, component="buffer_sram", action="write", tensor="activation", phase="forward", layer="conv")
        for item in (work, bare)
    ]
    assert written[0] - written[1] == words(2 * CHANNELS, 32) + words(CHANNELS, 16) + words(values, 8)


def test_one_array_reads_the_scales_where_they_lie():
    """edge_shared: the parameters' memory is wired to the array that runs `error`."""
    work = step("edge_shared", NETWORK, "bp", batch=5)
    memory = load_chip("edge_shared").home("param").name

    assert counts(work, component=memory, action="read", tensor="param", phase="error") == words(CHANNELS, 16)


def test_every_micro_batch_has_its_own_statistics():
    """Two micro-batches leave and read twice as many."""
    chip = load_chip("edge_dual", {"micro_batch": "3"})

    read = {"component": "buffer_sram", "action": "read", "phase": "error", "tensor": "param"}
    assert counts(step(chip, NETWORK, "bp", batch=5), **read) == 2 * words(CHANNELS, 16)


def test_nothing_is_left_for_an_error_that_does_not_come():
    """Under `last` no error reaches the norm."""
    work = step("edge_dual", NETWORK, "last", batch=5)

    assert counts(work, tensor="param", phase="error") == 0


def without_norm():
    """The network with its norm left out."""
    return graph(
        (2, 6, 6),
        {"kind": "conv2d", "name": "conv", "out": CHANNELS, "kernel": 3},
        {"kind": "relu"},
        {"kind": "flatten"},
        {"kind": "linear", "name": "out", "out": 4},
    )
