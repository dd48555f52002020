"""The language of `when:`: against Python itself on random expressions, and what it refuses."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fahw.config.condition import ConditionError, parse_condition

AXES = {"a": None, "b.c": None, "rule": ("bp", "dfa")}
VALUES = {"a": 3, "b.c": 7, "rule": "dfa"}

numbers = st.recursive(
    st.sampled_from(("a", "b.c", "0", "2", "1.5", "10")),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from((" + ", "-", " * ", "/", " // ", " % ")), inner).map("".join),
        inner.map("({})".format),
        inner.map("-{}".format),
    ),
    max_leaves=5,
)
comparisons = st.one_of(
    st.tuples(numbers, st.sampled_from(("<", " <= ", ">", " >= ", " == ", "!=")), numbers).map("".join),
    st.tuples(numbers, st.just(" < "), numbers, st.just(" <= "), numbers).map("".join),
    st.tuples(numbers, st.sampled_from((" in ", " not in ")), st.just("[1, 3, 7]")).map("".join),
    st.sampled_from(("rule == 'dfa'", 'rule != "bp"', "rule in ['bp']", "true", "rule < 'e'")),
)
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from((" and ", " or ")), inner).map("".join),
        inner.map("not ({})".format),
        inner.map("({})".format),
    ),
    max_leaves=5,
)


@given(conditions)
def test_a_condition_means_what_python_means(text):
    """Precedence, chains and arithmetic as in Python, whose own reading of the same text is the oracle."""
    python = text.replace("b.c", "b_c").replace("true", "True")
    assume("--" not in text)
    try:
        wanted = eval(python, {"a": 3, "b_c": 7, "rule": "dfa"})
    except ZeroDivisionError:
        with pytest.raises(ConditionError, match=r"zero|modulo"):
            parse_condition(text, AXES).holds(VALUES)
        return
    assert parse_condition(text, AXES).holds(VALUES) is wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch_sise > 3", "no axis batch_sise (did you mean 'batch_size'? It has no value here: make it an axis"),
        ("batch_size > 3", "no axis batch_size (it has no value here: make it an axis, or name it under 'set'"),
        ("rule == data", "no axis data (it has no value here"),
        ("rule == dfa", "for text write 'dfa' in quotes"),
    ],
)
def test_a_name_without_a_value_here_is_told_from_one_that_does_not_exist(text, said):
    """`others` are known, but the sweep gives them no value."""
    with pytest.raises(ConditionError) as caught:
        parse_condition(text, AXES, ("batch_size", "data"))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ends too early"),
        ("a <", "ends too early"),
        ("a < 3 b.c", "b.c at character 7"),
        ("a = 3", "= at character 3"),
        ("(a < 3", "expected )"),
        ("a", "neither true nor false"),
        ("a < 'x'", "needs numbers"),
        ("aa < 3", "did you mean 'a'?"),
        ("rule == dfa", "for text write 'dfa' in quotes"),
        ("rule == 'dfb'", "did you mean 'dfa'?"),
        ("rule in ['bp', 'x']", "rule is never 'x'; its values: bp, dfa"),
        ("a < 3 in [1]", "use brackets"),
        ("__import__('os')", "no axis __import__"),
        ("a.__class__ == 3", "no axis a.__class__"),
        ("a ** 9 > 1", "* at character 4"),
        ("(" * 100 + "a" + ")" * 100 + " > 1", "nested too deeply"),
        ("-" * 500 + "a > 1", "nested too deeply"),
        ("a > " + "9" * 3000, "longer than"),
        ("a/0 > 1", "zero"),
        (" * ".join(["9" * 250] * 6) + " > a", "too large"),
        ("not rule", "neither true nor false"),
    ],
)
def test_what_cannot_be_understood_is_said(text, said):
    """One sentence; nothing is run as Python."""
    with pytest.raises(ConditionError) as caught:
        parse_condition(text, AXES).holds(VALUES)
    assert said in str(caught.value)
