"""The language of `when:`: against Python itself on random expressions, and what it refuses."""

import re

import pytest
from hypothesis import given
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
    try:
        wanted = eval(python, {"a": 3, "b_c": 7, "rule": "dfa"})
    except ZeroDivisionError:
        with pytest.raises(ConditionError, match=r"zero|modulo"):
            parse_condition(text, AXES).holds(VALUES)
        return
    assert parse_condition(text, AXES).holds(VALUES) is wanted


def pieces(text):
    """The condition in words and signs, as a reader would cut it."""
    return re.findall(r"not in \[|in \[|//|[<>=!]=|'[^']*'|\"[^\"]*\"|[\w.]+|\S", text)


def problem(text):
    """What parsing says of the text; nothing where it takes it."""
    try:
        parse_condition(text, AXES)
    except ConditionError as error:
        return str(error)
    return ""


@given(conditions, st.data())
def test_what_is_cut_off_ends_too_early(text, data):
    """The beginning of a condition is one itself, or goes on: nothing in it is called wrong."""
    whole = pieces(text)
    assert problem(" ".join(whole[: data.draw(st.integers(0, len(whole)))]))[:14] in ("", "ends too early")


PIECES = ("a", "b.c", "2", "'dfa'", "true", "(", ")", "-", "+", "*", "<", "==", "and", "or", "not", "in [", "]", ",")


@given(conditions, st.sampled_from(PIECES), st.integers(0, 50), st.booleans())
def test_with_one_piece_changed_it_is_refused_or_means_what_python_means(text, piece, at, instead):
    """Nothing but a ConditionError comes out; where a piece is called wrong, it stands at that place."""
    changed = pieces(text)
    at %= len(changed)
    changed[at : at + instead] = [piece]
    text = " ".join(changed)
    wrong = re.match(r"(.*) at character (\d+) is not expected", problem(text))
    assert wrong is None or text[int(wrong[2]) - 1 :].startswith(wrong[1])
    try:
        found = parse_condition(text, AXES).holds(VALUES)
    except ConditionError:
        return
    assert found is eval(text.replace("b.c", "b_c").replace("true", "True"), {"a": 3, "b_c": 7, "rule": "dfa"})


@pytest.mark.parametrize(
    "text",
    [
        "model.layers.1.out >= 08",
        "a > 2\n  and chip.if.not < 3\n",
        r"path == 'c:\new'",
        "TRUE and a != 1e999",
        "a in [(a < 3), 3, a / 0]",
        "b.c == 99 or not a != 3.0",
        "not a < 3 and not a < 2" + " and a > 2" * 150,
        "+".join("a" * 300) + " == 900",
        "(" * 39 + "a" + ")" * 39 + " > 1",
        "-" * 40 + "a > 1",
    ],
)
def test_what_python_would_read_otherwise_or_not_at_all(text):
    """Keys with numbers and words of Python, leading zeros, line breaks, texts without escapes; long ones too."""
    values = {"a": 3, "b.c": 7, "model.layers.1.out": 16, "chip.if.not": 2, "path": r"c:\new"}
    assert parse_condition(text, dict.fromkeys(values)).holds(values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a(3) > 1", "( at character 2 is not expected there"),
        ("a[3] > 1", "[ at character 2"),
        ("a in [1, 3,]", "] at character 12"),
        ("a in []", "] at character 7"),
        ("a in [a < 3]", "< at character 9 is not expected there; expected ]"),
        ("a in [3] * 2", "* at character 10"),
        ("a in [3] < 4", "< at character 10"),
        ("a in (1, 3)", "in at character 3 is not expected there; expected in [..]"),
        ("rule is 'dfa'", "is at character 6"),
        ("(a < 3 b.c) > 1", "b.c at character 8 is not expected there; expected )"),
        ("(a < 3] > 1", "] at character 7 is not expected there; expected )"),
        ("a < 3) or (a > 1", ") at character 6"),
        ("a, a", ", at character 2"),
        ("(a, a)", ", at character 3"),
        ("+a > 1", "+ at character 1"),
        ("a > 0x10", "x10 at character 6"),
        ("a > 1_000", "_000 at character 6"),
        ("a > 1j", "j at character 6"),
        ("rule == 'dfa' 'x'", "'x' at character 15"),
        ("rule == f'dfa'", "no axis f"),
        ("lambda: a", ": at character 7"),
        ("a if a else a", "if at character 3"),
        ("a > 1 # b", "# at character 7"),
        ("a > 1; a", "; at character 6"),
        ("a \\\n> 1", "\\ at character 3"),
        ("a\0 > 1", "\0 at character 2"),
        ("a := 3", ": at character 3"),
        ("a > \ud800", "\ud800 at character 5"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(text, said):
    """Counted by hand, from 1; most of it Python would take."""
    assert said in problem(text)


@pytest.mark.parametrize(
    "piece",
    [
        "(",
        "[",
        "-",
        "not ",
        "a in [",
        "(a in [",
        "a (",
        "-(not (",
        "(a<",
        "a+(",
        "not a<(",
        "()",
        ")(",
        "''",
        "a,",
        "a<a ",
    ],
)
@pytest.mark.parametrize("end", ["", "a", "a a"])
def test_whatever_is_repeated_is_answered_at_once(piece, end):
    """Neither Python's parser nor the stack overflows, and no bracket doubles the time (which would be for ever)."""
    with pytest.raises(ConditionError):
        parse_condition((piece * 2000)[: 1990 // len(piece) * len(piece)] + end, AXES).holds(VALUES)


def test_a_sum_is_answered_or_refused_however_long():
    """One of nearly a thousand terms is as deep as the stack."""
    with pytest.raises(ConditionError, match="nested too deeply"):
        parse_condition("+".join("a" * 998) + ">1", AXES).holds(VALUES)


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
