"""The shipped rules: their names in stored results, and what is asked of rules that have none there."""

from dataclasses import replace

import pytest

from fahw.errors import ConfigError
from fahw.hardware.load import load_chip
from fahw.network.load import load_model
from fahw.rules.catalogue import RULES, stored_name
from fahw.study.costs.cost_record import Request, network_key, pack_chip
from fahw.study.vectors import export_vectors


def test_a_shipped_rule_is_stored_by_its_name():
    assert [stored_name(rule) for rule in RULES.values()] == list(RULES)


def test_another_rule_of_the_same_name_is_stored_as_another():
    """Titles, sources and descriptions do not matter; any choice does."""
    dfa, others = RULES["dfa"], [{"density": 0.5}, {"rank": 3}, {"magnitude": "constant"}, {"pruned": 0.5}]
    names = {stored_name(replace(dfa, **choice)) for choice in others}
    assert len(names) == len(others)
    assert "dfa" not in names
    own = replace(dfa, name="mine")
    assert stored_name(own) == stored_name(replace(own, title="Mine", source="me", does="something"))


def test_a_changed_rule_has_a_cost_of_its_own(monkeypatch):
    network = load_model("mlp_digits")
    request = Request(pack_chip(load_chip("edge_dual")), network, "dfa", 8, None)
    before = request.key(network_key(network))
    monkeypatch.setitem(RULES, "dfa", replace(RULES["dfa"], density=0.5))
    assert request.key(network_key(network)) != before


@pytest.mark.parametrize(("rule", "form"), [("sdfa", "sparse"), ("lrfa", "products of two")])
def test_golden_vectors_are_of_whole_matrices(rule, form, tmp_path):
    with pytest.raises(ConfigError, match=f"those of {rule} are {form}"):
        export_vectors("edge_dual", "mlp_digits", rule, 1, tmp_path / "vectors")
