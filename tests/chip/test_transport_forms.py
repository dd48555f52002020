"""Without a form of transport, `fahw simulate` shows the rule under every form that the chip allows."""

import json

import pytest

import fahw
from fahw.chip.transport_forms import TransportCost, cheapest, simulate_forms
from fahw.errors import ConfigError

EDGE = {
    ("edge_dual", "bp"): ["copy", "write_through", "shared"], ("edge_dual", "usf"): ["copy", "write_through"],
    ("edge_dual", "dfa"): ["none"], ("edge_shared", "bp"): ["transposable", "accumulate"],
}  # fmt: skip


@pytest.mark.parametrize(("names", "forms"), EDGE.items(), ids=str)
def test_each_form_costs_what_it_costs_alone(names, forms):
    """The default first; one weight memory (`shared`) is another form only where the chip has two."""
    chip, rule = fahw.load_chip(names[0]), names[1]
    network = fahw.load_model("mlp_digits")
    cost, found = simulate_forms(chip, network, rule, 32)
    assert [offer.transport for offer in found] == forms
    assert cost == fahw.simulate(chip, network, rule, 32)
    for offer in found:
        assert offer.cost == fahw.simulate(
            chip, network, rule, 32, None if offer.transport == "none" else offer.transport
        )


def test_a_form_that_is_asked_for_stands_alone():
    """`--transport` shows that form and no other."""
    chip, network = fahw.load_chip("edge_dual"), fahw.load_model("mlp_digits")
    cost, found = simulate_forms(chip, network, "bp", 32, "write_through")
    assert [offer.transport for offer in found] == ["write_through"] == [cost.transport]


def test_json_is_the_default_form_with_a_list_of_all(command):
    """The object of the default form is that of `--transport`; `forms` says which needs the least energy."""
    values = []
    for more in ([], ["--transport", "copy"]):
        code, out, _ = command("simulate", "edge_dual", "mlp_mnist", "--rule", "bp", "--json", *more)
        assert code == 0
        values.append(json.loads(out))
    forms = [value.pop("forms") for value in values]
    assert values[0] == values[1]
    assert [form["transport"] for form in forms[0]] == ["copy", "write_through", "shared"]
    assert [form["transport"] for form in forms[1]] == ["copy"]
    assert forms[0][0]["energy_pj"] == values[0]["energy_pj"]
    best = min(forms[0], key=lambda form: form["energy_pj"])
    assert [form["least_energy"] for form in forms[0]] == [form is best for form in forms[0]]


def test_the_terminal_shows_a_line_per_form(command):
    """Form, cycles, interval, energy; the default and the least are marked; no table where there is but one form."""
    _, out, _ = command("simulate", "edge_dual", "mlp_mnist", "--rule", "bp")
    lines = [line for line in out.splitlines() if line.startswith(("  copy ", "  write_through ", "  shared ("))]
    assert len(lines) == 3
    assert "the default" in lines[0]
    assert sum("least energy" in line for line in lines) == 1
    for rule in ("dfa", "fa"):
        assert "forms of transport" not in command("simulate", "edge_dual", "mlp_mnist", "--rule", rule)[1]


def test_a_form_that_changes_nothing_is_said_to(command):
    """A rule that moves no weights costs the same under every form; commands of a sweep's points may still name one."""
    arguments = ["simulate", "edge_dual", "mlp_digits", "--rule", "dfa"]
    _, plain, quiet = command(*arguments)
    code, out, err = command(*arguments, "--transport", "copy")
    assert (code, out, quiet) == (0, plain, "")
    assert err == "note: dfa moves no weights: --transport copy changes nothing\n"
    assert command(*arguments, "--transport", "none")[2] == ""
    assert command(*arguments[:-1], "bp", "--transport", "copy")[2] == ""


NO_PSUM = ["--set", "chip.memories.buffer_sram.holds=[mask, error, activation]"]
"""Without a memory for partial sums there is no `accumulate`."""


def test_a_form_that_cannot_be_hosted_says_why(command):
    """The default stands; the other keeps its line with the reason, and nothing that looks like a cost."""
    arguments = ["simulate", "edge_shared", "mlp_digits", "--rule", "bp", *NO_PSUM]
    code, out, _ = command(*arguments, "--json")
    assert code == 0
    default, other = json.loads(out)["forms"]
    assert (default["transport"], default["hosted"], default["reason"]) == ("transposable", True, "")
    assert (other["transport"], other["hosted"], other["energy_pj"], other["least_energy"]) == (
        "accumulate", False, None, False,
    )  # fmt: skip
    assert "psum" in other["reason"]
    assert "accumulate              not possible: " in command(*arguments)[1]


def test_one_weight_memory_takes_the_form_that_is_possible(command):
    """`shared` is the better of the two forms that are left to it, not an error because one of them is impossible."""
    _, out, _ = command("simulate", "edge_dual", "mlp_digits", "--rule", "bp", "--json", *NO_PSUM)
    shared = json.loads(out)["forms"][-1]
    assert (shared["transport"], shared["form"]) == ("shared", "transposable")


def test_the_least_is_found_among_those_that_are_hosted():
    """What cannot be hosted has no energy; nothing hosted, no least."""
    cost = fahw.simulate("edge_dual", "mlp_digits", "bp", 32)
    assert cheapest([TransportCost("shared", None, "no"), TransportCost("copy", cost)]) is cost
    assert cheapest([TransportCost("copy", None, "no")]) is None


def test_a_default_that_cannot_be_hosted_is_an_error():
    """As for `fahw.simulate`: with advice, not an empty table."""
    chip, network = fahw.load_chip("edge_dual"), fahw.load_model("mlp_digits")
    with pytest.raises(ConfigError, match="link"):
        simulate_forms(chip.model_copy(update={"links": ()}), network, "bp", 32)
