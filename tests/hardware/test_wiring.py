"""Faults of a chip that no rule gets around are said when the file is read, at their place."""

import re

import pytest

from fahw.chip.cost import simulate
from fahw.chip.transport_forms import forms_of
from fahw.errors import ConfigError
from fahw.hardware.load import check_chip, load_chip
from fahw.hardware.wiring import CHECKS, TENSORS_REACHED, chip_problems
from fahw.rules.catalogue import COMPARED, RULES
from fahw.work.training_step import NONE
from tests.support.strategies import CHIP, MODEL, SHIPPED_CHIPS, chip_of, marked, network_of, swap

LINKS = CHIP[CHIP.index("links:") : CHIP.index("write_through]")]
PRNG = """\
    kind: prng
    pj_per_bit: 1
    area_mm2: 0
    width_bits: 32
    read_bits_per_cycle: 32
"""
FAULTS = {
    "forward array not at the weights": ("[weights, buffer, state]", "@@[buffer, state]", "forward.*weights"),
    "forward array not at the activations": ("[weights, buffer, state]", "@@[weights, state]", "forward.*activation"),
    "update not at the state": ("[weights, buffer, state]", "@@[weights, buffer]", "update.*master"),
    "error array not at the errors": ("[copies, buffer]", "@@[copies]", "error runs on bwd.*buffer, where error"),
    "no home for the errors": ("[psum, mask, error, activation]", "[psum, mask, activation]", "no memory holds error"),
    "no home for master": ("[param, master, ", "[param, ", "no memory holds master"),
    "nothing to round with": ("error: nearest", "error: stochastic", "needs a rounding_generator"),
}
STRICT = {
    "error array not at the feedback": ("[copies, buffer]", "@@[buffer]", "error runs on bwd.*copies, where feedback"),
    "no links": (LINKS, "transport: [@@copy, ", "copy needs a link from weights to copies: add it to `links`"),
    "a link the other way": (
        "name: wire\n    from: weights\n    to: copies",
        "@@name: wire\n    from: copies\n    to: weights",
        "copy needs a link from weights to copies; this one leads the other way",
    ),
    "no home for the copy": ("holds: [feedback]", "holds: [io]", "copy: no memory holds feedback"),
}


def found_in(text, tmp_path, load=load_chip):
    (tmp_path / "chip.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "chip.yaml")
    return caught.value.problems


@pytest.mark.parametrize("fault", [*FAULTS, *STRICT])
def test_a_fault_that_every_rule_meets_is_said_when_the_chip_is_loaded(fault, tmp_path):
    """With file:line:col and the key; what keeps the chip from hosting only some rules is said by `check`."""
    old, new, message = (FAULTS | STRICT)[fault]
    text, places = marked(swap(CHIP, old, new))
    found = found_in(text, tmp_path, check_chip if fault in STRICT else load_chip)
    if fault in STRICT:
        assert load_chip(tmp_path / "chip.yaml")
    matching = [problem for problem in found if re.search(message, problem.message)]
    assert matching, found
    assert all(problem.place.startswith(f"{tmp_path / 'chip.yaml'}:") and problem.key for problem in found)
    if places:
        assert matching[0].place.endswith(places[0])


SHARED = ("[copies, buffer]\n", "[weights, buffer]\n"), ("[copy, write_through]", "[transposable]")


def test_one_memory_for_both_directions_needs_no_link(tmp_path):
    """Nothing moves; a memory of feedback beside it must still be read by the array of the error."""
    text = swap(swap(CHIP, LINKS, "transport: [copy, "), *SHARED[1])
    text = swap(text, *SHARED[0])
    (problem,) = found_in(text, tmp_path, check_chip)
    assert "not wired to copies" in problem.message
    assert chip_of(tmp_path, swap(text, "[weights, buffer]\n", "[weights, copies, buffer]\n")).error_reaches_weights


def test_a_generator_of_feedback_needs_no_link(tmp_path):
    """What no rule can write, nothing is moved to."""
    start = CHIP.index("    size_kib", CHIP.index("holds: [feedback]"))
    text = CHIP[:start] + PRNG + CHIP[CHIP.index("    assumed", start) :]
    assert chip_of(tmp_path, swap(text, LINKS, "transport: [copy, ")).home("feedback") is None


def test_a_chip_for_rules_that_move_nothing_says_so(tmp_path):
    """No form of transport, no link; what would move weights is refused, also in a sweep's terms."""
    chip, network = (
        chip_of(tmp_path, swap(CHIP, LINKS + "write_through]", "transport: []")),
        network_of(tmp_path, MODEL),
    )
    assert simulate(chip, network, "dfa", 2).transport == NONE
    assert simulate(chip, network, "dfa", 2) == simulate(chip, network, "dfa", 2, NONE)
    assert simulate(chip, network, "bp", 2, "shared").energy_pj > 0
    for rule, form in (("bp", None), ("usf", "copy"), ("dfa", "copy")):
        with pytest.raises(ConfigError, match="transport"):
            simulate(chip, network, rule, 2, form)
    assert forms_of(chip, "bp") == ["shared"]


def test_a_missing_link_is_said_once_with_what_else_is_wrong(tmp_path):
    """A link that leads nowhere, or whose key is misspelt, is not also said to be missing."""
    for old, new in (("to: copies", "to: copis"), ("links:", "link:")):
        (problem,) = found_in(swap(CHIP, old, new), tmp_path, check_chip)
        assert "did you mean" in problem.message


@pytest.mark.parametrize("phase", TENSORS_REACHED)
def test_what_is_said_to_be_needed_is_needed_by_every_rule(phase, tmp_path):
    """The table of the checks against the work itself: without that wire no rule can be priced, whatever its path."""
    network, whole = network_of(tmp_path, MODEL), chip_of(tmp_path)
    for tensor in TENSORS_REACHED[phase]:
        index = whole.arrays.index(whole.array_of(phase))
        home = whole.home(tensor).name
        wires = tuple(name for name in whole.arrays[index].memories if name != home)
        arrays = list(whole.arrays)
        arrays[index] = arrays[index].model_copy(update={"memories": wires})
        chip = whole.model_copy(update={"arrays": tuple(arrays)})
        assert list(chip_problems(chip, str))
        for rule in (RULES[name] for name in COMPARED):
            form = None if rule.reads_weight else NONE
            with pytest.raises(ConfigError):
                simulate(chip, network, rule.name, 2, form)


def test_shipped_chips_and_every_check_by_itself():
    """Shipped chips pass each check, and so do their baselines without a feedback memory."""
    for name in SHIPPED_CHIPS:
        chip = load_chip(name)
        for value in (chip, chip.without_feedback_memory()):
            assert [list(check(value)) for check in CHECKS] == [[]] * len(CHECKS)
