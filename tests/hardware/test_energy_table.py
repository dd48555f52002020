"""Energies that a user gives: an Accelergy energy reference table, or the chip file's own; and what the report says."""

import json
from dataclasses import replace
from math import ceil, fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fahw.chip.constants import constants_used
from fahw.chip.cost import simulate
from fahw.chip.ledger import action_rows, total_pj
from fahw.chip.unit_prices import Prices
from fahw.cli.main import main
from fahw.errors import ConfigError
from fahw.hardware.energy_table import actions_of, read_table
from fahw.hardware.generator import GENERATORS
from fahw.hardware.load import load_chip
from fahw.technology.scaling import NODES
from fahw.work.counts.record import Count, local_name
from tests.support.models import graph
from tests.support.strategies import CHIP, HOSTED, chip_of, marked, network_of

TABLE = """\
ERT:
  version: 0.4
  tables:
  - name: system.chip.weights[1..1]
    actions:
    - name: read
      arguments: {data_delta: 0, address_delta: 1}
      energy: 1.5
    - name: read
      arguments: {data_delta: 1, address_delta: 1}
      energy: 2.5
    - name: leak
      arguments: {global_cycles: 1}
      energy: 0.25
    - name: idle
      arguments: {}
      energy: 0
  - name: system.chip.fwd
    actions:
    - {name: mac, arguments: null, energy: 7}
"""


def chip_with(folder, table, more="energy_table: ert.yaml\n", overrides=None):
    """The tiny chip with a table beside it."""
    (folder / "ert.yaml").write_text(table, encoding="utf-8")
    return chip_of(folder, CHIP + more, overrides)


def units(cost, component, action):
    """The units of an action, and what they rest on."""
    rows = [row for row in cost.ledger if (row.component, row.action) == (component, action)]
    assert rows
    return {(row.unit_pj, row.price.source, row.price.given) for row in rows}


def test_a_table_replaces_the_estimates_it_names(tmp_path):
    """The largest energy of an action counts, once per word or MAC; leakage per cycle; the source is the file."""
    network = network_of(tmp_path)
    cost = simulate(chip_with(tmp_path, TABLE), network, "bp", 4)
    source = "ert.yaml (energy_table)"
    assert units(cost, "weights", "read") == {(2.5, source, True)}
    assert units(cost, "fwd", "mac") == {(7.0, source, True)}
    (static,) = units(cost, "weights", "static")
    assert static[0] == pytest.approx(0.25)
    assert static[1:] == (source, True)


def test_what_a_table_does_not_name_stays_as_it_was(tmp_path):
    """Counts stay, and so do the units of every other action."""
    network = network_of(tmp_path)
    plain = simulate(chip_of(tmp_path), network, "bp", 4).ledger
    priced = simulate(chip_with(tmp_path, TABLE), network, "bp", 4).ledger
    named = {("weights", "read"), ("weights", "static"), ("fwd", "mac")}
    assert [(r.component, r.action, r.count) for r in plain] == [(r.component, r.action, r.count) for r in priced]
    for before, after in zip(plain, priced, strict=True):
        same = before.unit_pj == after.unit_pj and before.price == after.price
        assert same == ((before.component, before.action) not in named)


def test_given_energies_do_not_scale_with_the_supply(tmp_path):
    """A number of the user's is at the user's voltage; estimates go with the square."""
    network = network_of(tmp_path)
    low = chip_with(tmp_path, TABLE, overrides={"technology.vdd_v": "0.45"})
    cost = simulate(low, network, "bp", 4)
    assert {unit for unit, *_ in units(cost, "fwd", "mac")} == {7.0}
    full = simulate(chip_with(tmp_path, TABLE), network, "bp", 4)
    quarter = {unit / 4 for unit, *_ in units(full, "bwd", "mac")}
    assert sorted(unit for unit, *_ in units(cost, "bwd", "mac")) == pytest.approx(sorted(quarter))


def test_the_chip_files_own_energies_win(tmp_path):
    """`energies` of the chip file over its `energy_table`, with their own source and uncertainty."""
    more = (
        "energy_table: ert.yaml\nenergies:\n  - {component: fwd, action: mac, pj: 3, uncertainty: 1.2, source: ours}\n"
    )
    chip = chip_with(tmp_path, TABLE, more)
    cost = simulate(chip, network_of(tmp_path), "bp", 4)
    assert units(cost, "fwd", "mac") == {(3.0, "ours", True)}
    assert {row.price.factor for row in cost.ledger if (row.component, row.action) == ("fwd", "mac")} == {1.2}
    assert {unit for unit, *_ in units(cost, "weights", "read")} == {2.5}


@pytest.mark.parametrize("version", ["0.2", "0.3", "0.4", '"0.4"'])
def test_versions(tmp_path, version):
    """The versions differ in nothing that matters here; a table without its root is read too."""
    path = tmp_path / "ert.yaml"
    path.write_text(TABLE.replace("0.4", version), encoding="utf-8")
    entries = [(e.component, e.action, e.pj) for e in read_table(path)]
    assert len(entries) == 4
    path.write_text("\n".join(line[2:] for line in TABLE.splitlines()[1:]), encoding="utf-8")
    assert [(e.component, e.action, e.pj) for e in read_table(path)] == entries


MISTAKES = {
    "component": ("name: system.chip.fwd", "name: @@system.chip.fwt", "no component.*did you mean 'fwd'"),
    "action": ("name: mac", "name: @@mack", "no action 'mack' of fwd.*did you mean 'mac'"),
    "text for energy": ("energy: 7", "energy: @@much", "number of pJ"),
    "negative": ("energy: 7", "energy: @@-7", "number of pJ"),
    "no energy": ("{name: mac, arguments: null, energy: 7}", "@@{name: mac, arguments: null}", "number of pJ"),
    "no name": ("- name: system.chip.fwd\n    actions", "- @@actions", "needs a name"),
    "no actions": ("    - {name: mac, arguments: null, energy: 7}", "", "list of actions"),
    "no tables": ("  tables:", "  @@table:", "not an energy reference table"),
    "duplicate key": ("energy: 2.5", "energy: 2.5\n      @@energy: 3", "duplicate key"),
    "idle energy": ("energy: 0\n", "energy: 4\n", "no action 'idle' of weights"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_a_table_have_places(tmp_path, name):
    """Every mistake is an input error at its place in the table, with advice."""
    old, new, message = MISTAKES[name]
    assert old in TABLE
    text, places = marked(TABLE.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        chip_with(tmp_path, text)
    if places and name != "no tables":
        assert f"{tmp_path / 'ert.yaml'}:{places[0]}" in {problem.place for problem in caught.value.problems}


def test_all_mistakes_at_once(tmp_path):
    """Wrong names are listed together."""
    text = TABLE.replace("chip.fwd", "chip.fwt").replace("chip.weights", "chip.waits")
    with pytest.raises(ConfigError) as caught:
        chip_with(tmp_path, text)
    assert len(caught.value.problems) >= 2


def test_a_table_that_is_not_there(tmp_path):
    """A missing file, and a name that is not its component's, are input errors."""
    with pytest.raises(ConfigError, match="no such file"):
        chip_of(tmp_path, CHIP + "energy_table: nowhere.yaml\n")


@pytest.mark.parametrize(
    ("energies", "message"),
    [
        ("{component: fwt, action: mac, pj: 1}", "did you mean 'fwd'"),
        ("{component: fwd, action: max, pj: 1}", "did you mean 'mac'"),
        ("{component: system.fwd, action: mac, pj: 1}", "the name is fwd, mac"),
        ("{component: weights, action: leak, pj: 1}", "the name is weights, static"),
        ("{component: fwd, action: mac, pj: -1}", "greater than or equal to 0"),
        ("{component: fwd, action: mac, pj: 1}\n  - {component: fwd, action: mac, pj: 2}", "comes twice"),
    ],
)
def test_mistakes_in_the_chip_files_own_energies(tmp_path, energies, message):
    """Unknown names get advice; an action has one energy."""
    with pytest.raises(ConfigError, match=message) as caught:
        chip_of(tmp_path, f"{CHIP}energies:\n  - {energies}\n")
    assert "chip.yaml:" in caught.value.problems[0].place


@pytest.mark.parametrize(("chip", "rule"), HOSTED)
def test_every_action_of_a_ledger_can_be_given(chip, rule):
    """The names that a table may use are those that ledgers have; only the arrays' and DRAM's static power is not."""
    value = load_chip(chip)
    known = actions_of(value)
    for row in simulate(value, "lenet5", rule, 4).ledger:
        name = local_name(row.component)
        static = row.action == "static" and not any(name == memory.name for memory in value.memories)
        unsaid = row.action == "static" and value.memory(name).kind == "prng" if not static else True
        assert static or unsaid or row.action in known[name], (row.component, row.action)
    assert set(GENERATORS) & set(known) == {name for name in GENERATORS if getattr(value, name)}


@pytest.mark.parametrize("node", NODES)
def test_a_chip_at_any_node(tmp_path, node):
    """Every node of the scaling law prices a step; SRAM without a table of its node says so and is less sure."""
    chip = chip_of(tmp_path, overrides={"technology.node_nm": str(node)})
    cost = simulate(chip, network_of(tmp_path), "bp", 4)
    assert all(0 < row.energy_pj < 1e15 for row in cost.ledger)
    reads = {row.price for row in cost.ledger if (row.component, row.action) == ("weights", "read")}
    assert {price.factor for price in reads} == {2.0 if node in (65, 45, 32, 22) else 4.0}
    assert all((f"{node} nm from" in price.source) == (node not in (65, 45, 32, 22)) for price in reads)


def test_a_warm_chip_leaks_more(tmp_path):
    """`temp_c` raises the leakage of memories and nothing else; beyond its limits it is an input error."""
    network = network_of(tmp_path)
    cold, warm = (
        simulate(chip_of(tmp_path, overrides={"technology.temp_c": text}), network, "bp", 4) for text in ("27", "77")
    )
    for before, after in zip(cold.ledger, warm.ledger, strict=True):
        leaks = before.action == "static" and before.price.kind == "leakage" and "Aladdin" not in before.price.source
        assert (after.unit_pj > 2 * before.unit_pj) if leaks else (after.unit_pj == before.unit_pj)
    with pytest.raises(ConfigError, match="temp_c"):
        chip_of(tmp_path, overrides={"technology.temp_c": "125"})


@given(st.lists(st.tuples(st.sampled_from(("read", "write")), st.integers(0, 10**12)), max_size=20))
def test_energy_is_linear_in_the_counts(counts):
    """The rows' sum is the sum over the counts; no work, no energy; twice the work, twice the energy."""
    prices = Prices(load_chip("edge_dual"))

    def energy(scale):
        found = [Count("weight_sram", action, "weight", scale * number) for action, number in counts]
        return total_pj(action_rows(found, prices, "forward", "one"))

    expected = [
        number * prices.unit_price(Count("weight_sram", action, "weight", 1)).value for action, number in counts
    ]
    assert energy(1) == pytest.approx(fsum(expected), rel=1e-12)
    assert energy(0) == 0
    assert energy(2) == pytest.approx(2 * energy(1), rel=1e-12)


ARRAY = st.sampled_from(("mac", "shift_operand", "shift_psum", "clock", "idle"))


@given(ARRAY, st.lists(st.integers(1, 32), min_size=4, max_size=4), st.integers(0, 3))
def test_a_wider_action_of_an_array_never_costs_less(action, widths, wider):
    """One more bit of any operand, accumulator or shifted value."""
    prices = Prices(load_chip("edge_dual"))
    more = [width + (index == wider) for index, width in enumerate(widths)]
    here, there = (
        prices.unit_price(Count("forward_array", action, "activation", 1, tuple(w))).value for w in (widths, more)
    )
    assert there >= here > 0


def test_constants_are_listed_with_their_origin(tmp_path):
    """Each constant once, given or estimated, with source and factor; together they are all that the ledger used."""
    cost = simulate(chip_with(tmp_path, TABLE), network_of(tmp_path), "bp", 4)
    used = constants_used(cost.ledger)
    assert len(set(used)) == len(used)
    assert {(row.component, row.action, row.unit_pj) for row in cost.ledger} == {
        (one.component, one.action, one.unit_pj) for one in used
    }
    origins = {(one.component, one.action): one.origin for one in used}
    assert origins["weights", "read"] == origins["fwd", "mac"] == "given"
    assert origins["weights", "write"] == origins["bwd", "mac"] == "estimated"
    assert all(one.source and one.factor >= 1 for one in used)


def test_simulate_says_where_constants_come_from(tmp_path, capsys, monkeypatch):
    """`simulate` prints the origin per component, and with --json every constant."""
    chip_with(tmp_path, TABLE)
    network_of(tmp_path)
    words = ["fahw", "simulate", str(tmp_path / "chip.yaml"), str(tmp_path / "model.yaml"), "--rule", "bp"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match="0"):
        main()
    (line,) = [x for x in capsys.readouterr().out.split("constants")[1].splitlines() if x.split()[:1] == ["weights"]]
    assert "from the file: read, static" in line
    assert "estimated: write ×/÷ 2" in line
    monkeypatch.setattr("sys.argv", [*words, "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    constants = json.loads(capsys.readouterr().out)["constants"]
    (mac,) = [c for c in constants if (c["component"], c["action"]) == ("fwd", "mac")]
    assert mac == {
        "component": "fwd", "action": "mac", "unit_pj": 7.0, "origin": "given", "factor": 1.0,
        "source": "ert.yaml (energy_table)",
    }  # fmt: skip


def test_a_published_update_is_an_update_whatever_it_computes():
    """Loihi's 120 pJ per synaptic update: as many of them as weights with a gradient and biases, under any rate, and no
    other multiplication at that price."""
    chip = load_chip("loihi_like")
    network = graph(
        (1, 8, 8), {"kind": "conv2d", "out": 2, "kernel": 3}, {"kind": "avgpool2d", "kernel": 2}, {"kind": "flatten"},
        {"kind": "linear", "out": 4},
    )  # fmt: skip
    share = [1 - (1 - 0.2 * 0.2) ** (4 * positions) for positions in (36, 1)]
    updates = sum(ceil(n * part) + biases for n, part, biases in zip((18, 72), share, (2, 4), strict=True))
    for recipe in ({"power_of_two_rates": True}, {"power_of_two_rates": False}, {"optimizer": "sign_sgd"}):
        changed = replace(network, recipe=network.recipe.model_copy(update=recipe))
        rows = simulate(chip, changed, "dfa", 4).ledger
        found = [row for row in rows if row.phase == "update" and row.component.endswith("core.vector")]
        assert {row.action for row in found} == {"update"}
        assert sum(row.energy_pj for row in found) == pytest.approx(120 * updates)
        products = [row.unit_pj for row in rows if row.action == "multiply"]
        assert products
        assert max(products) < 1


def test_without_a_given_energy_an_update_is_its_operations():
    rows = simulate("edge_dual", "mlp_digits", "dfa", 4).ledger
    assert not any(row.action == "update" for row in rows)
