"""Random bits take time: a generator yields `bits_per_cycle`, and what needs more waits."""

from math import ceil, fsum

import pytest

from fahw.chip.cost import simulate
from fahw.hardware.load import load_chip


def cost_at(rate, generator, rule):
    chip = load_chip("edge_dual", {f"{generator}.bits_per_cycle": rate})
    return simulate(chip, "mlp_digits", rule, 8)


def generated_bits(cost, generator):
    return [
        count.count for task in cost.work.tasks for count in task.counts
        if (count.component, count.action) == (generator, "generate")
    ]  # fmt: skip


@pytest.mark.parametrize(("generator", "rule"), [("feedback_generator", "brsf"), ("rounding_generator", "bp")])
def test_slow_generators_hold_a_step_up(generator, rule):
    """At a bit per cycle a step takes at least as many cycles as it draws bits; at a rate that no task needs, as many
    as at any other; energy per bit is the same."""
    slow, middle, fast, faster = (cost_at(rate, generator, rule) for rate in (1, 64, 100_000, 1_000_000))
    bits = generated_bits(slow, generator)
    assert slow.interval_cycles >= sum(bits) == slow.timing.busy[generator]
    assert middle.timing.busy[generator] == pytest.approx(sum(bits) / 64, abs=len(bits))
    assert slow.interval_cycles > middle.interval_cycles >= fast.interval_cycles == faster.interval_cycles
    dynamic = [fsum(row.energy_pj for row in cost.ledger if row.component == generator) for cost in (slow, fast)]
    assert dynamic[0] == pytest.approx(dynamic[1])


def test_rounded_results_wait_for_their_bits():
    """The error of a layer at batch 1, alone: its last drain ends no earlier than its bits at one per cycle allow."""
    cost = cost_at(1, "rounding_generator", "fa")
    spans = {(span.phase, span.layer): span for span in cost.timing.spans}
    for task in cost.work.tasks:
        bits = sum(count.count for count in task.counts if count.component == "rounding_generator")
        span = spans[task.phase, task.layer]
        assert span.end - span.start >= ceil(bits)
