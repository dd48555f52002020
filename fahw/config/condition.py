"""Conditions of a sweep (`when:`): comparisons, and/or/not and arithmetic over its axes. Nothing is ever run as Python.

rule == 'dfa' or chip.precision.feedback <= chip.precision.weight
batch_size * chip.arrays.forward_array.rows <= 4096 and rule in ['bp', 'dfa']
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from math import isfinite
from typing import Any

from fahw.errors import suggestion

Values = Mapping[str, Any]
Term = Callable[[Values], Any]
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<name>[A-Za-z_]\w*(?:\.\w+)*)|(?P<sign>//|<=|>=|==|!=|[-+*/%<>()\[\],])|(?P<end>$)|(?P<bad>.))",
    re.DOTALL,
)
_WORDS = ("and", "or", "not", "in", "true", "false", "True", "False")
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_EQUAL: dict[str, Callable[[Any, Any], Any]] = {"==": operator.eq, "!=": operator.ne}
_SUMS: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub}
_PRODUCTS: dict[str, Callable[[Any, Any], Any]] = {
    "*": operator.mul, "/": operator.truediv, "//": operator.floordiv, "%": operator.mod,
}  # fmt: skip
_MOST_CHARACTERS = 2000
_DEEPEST = 40


class ConditionError(Exception):
    """The condition cannot be understood, or has no answer for some values; its text says why."""


@dataclass(frozen=True)
class Condition:
    """A condition: `holds(values)` answers for a mapping of axes to values."""

    text: str
    term: Term

    def holds(self, values: Values) -> bool:
        """Whether it is true. Raises ConditionError where it has no answer (text compared with a number, say)."""
        try:
            return _truth(self.term(values), self.text)
        except ArithmeticError as error:
            raise ConditionError(f"{self.text}: {error}") from None


def parse_condition(text: str, axes: Mapping[str, Collection[Any] | None], others: Collection[str] = ()) -> Condition:
    """Parse `text`; `axes` gives the values of every name that may stand in it (None where they are not listed), and
    `others` has names that are known but have no value here, for advice.

    Raises ConditionError: unknown name, wrong grammar, a text that an axis never takes.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ConditionError(f"is longer than {_MOST_CHARACTERS:,} characters")
    parser = _Parser(text, axes, others)
    term, _ = parser.either()
    parser.expect("end", "")
    return Condition(text, term)


@dataclass(frozen=True)
class _Leaf:
    """What a term is where it is a single name or text, for advice."""

    name: str = ""
    text: str | None = None


class _Parser:
    """Recursive descent; every method returns a term and what it is if it is a single name or text."""

    def __init__(self, text: str, axes: Mapping[str, Collection[Any] | None], others: Collection[str]) -> None:
        self._others = others
        self._axes, self._tokens, self._at, self._depth = axes, list(_tokens(text)), 0, 0

    def either(self) -> tuple[Term, _Leaf]:
        """Terms joined by `or`."""
        return self._joined("or", self._both, lambda terms, say: lambda v: any(_truth(t(v), say) for t in terms))

    def _both(self) -> tuple[Term, _Leaf]:
        return self._joined("and", self._negated, lambda terms, say: lambda v: all(_truth(t(v), say) for t in terms))

    def _joined(
        self, word: str, inner: Callable[[], tuple[Term, _Leaf]], join: Callable[[list[Term], str], Term]
    ) -> tuple[Term, _Leaf]:
        first, leaf = inner()
        terms = [first]
        while self._take("name", word):
            terms.append(inner()[0])
        return (first, leaf) if len(terms) == 1 else (join(terms, f"'{word}'"), _Leaf())

    def _negated(self) -> tuple[Term, _Leaf]:
        if not self._take("name", "not"):
            return self._comparison()
        inner, _ = self._deeper(self._negated)
        return lambda values: not _truth(inner(values), "'not'"), _Leaf()

    def _comparison(self) -> tuple[Term, _Leaf]:
        sides = [self._sum()]
        tests: list[str] = []
        while (sign := self._sign((*_ORDER, *_EQUAL))) or self._is_membership():
            if not sign:
                return self._membership(sides[0], bool(tests))
            sides.append(self._sum())
            tests.append(sign)
            if sign in _EQUAL:
                self._reachable(sides[-2][1], sides[-1][1])
        if not tests:
            return sides[0]
        steps = list(zip(pairwise(term for term, _ in sides), tests, strict=True))
        return lambda values: all(_compared(sign, a(values), b(values)) for (a, b), sign in steps), _Leaf()

    def _is_membership(self) -> bool:
        kind, word = self._tokens[self._at][:2]
        return kind == "name" and word in ("in", "not")

    def _membership(self, left: tuple[Term, _Leaf], chained: bool) -> tuple[Term, _Leaf]:
        negated = self._take("name", "not")
        self.expect("name", "in")
        if chained:
            raise ConditionError("'in' cannot follow another comparison; use brackets")
        self.expect("sign", "[")
        items = [self._sum()]
        while self._take("sign", ","):
            items.append(self._sum())
        self.expect("sign", "]")
        for _, leaf in items:
            self._reachable(left[1], leaf)
        terms = [term for term, _ in items]

        def among(values: Values) -> bool:
            value = left[0](values)
            return any(_same(value, term(values)) for term in terms) != negated

        return among, _Leaf()

    def _sum(self) -> tuple[Term, _Leaf]:
        return self._arithmetic(self._product, _SUMS)

    def _product(self) -> tuple[Term, _Leaf]:
        return self._arithmetic(self._signed, _PRODUCTS)

    def _arithmetic(
        self, inner: Callable[[], tuple[Term, _Leaf]], signs: Mapping[str, Callable[[Any, Any], Any]]
    ) -> tuple[Term, _Leaf]:
        term, leaf = inner()
        while sign := self._sign(signs):
            term, leaf = _applied(sign, signs[sign], term, inner()[0]), _Leaf()
        return term, leaf

    def _signed(self) -> tuple[Term, _Leaf]:
        if not self._sign(("-",)):
            return self._atom()
        inner, _ = self._deeper(self._signed)
        return lambda values: -_number(inner(values), "-"), _Leaf()

    def _atom(self) -> tuple[Term, _Leaf]:
        kind, word, at = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            value = float(word) if re.search(r"[.eE]", word) else int(word[:300])
            return lambda values: value, _Leaf()
        if kind == "text":
            return lambda values: word[1:-1], _Leaf(text=word[1:-1])
        if kind == "name" and word.lower() in ("true", "false"):
            return lambda values: word.lower() == "true", _Leaf()
        if kind == "name" and word not in _WORDS:
            return self._name(word)
        if (kind, word) == ("sign", "("):
            inner = self._deeper(self.either)
            self.expect("sign", ")")
            return inner
        raise ConditionError(_unexpected(kind, word, at))

    def _name(self, word: str) -> tuple[Term, _Leaf]:
        if word not in self._axes:
            hint = suggestion(word, self._axes) or self._beside(word)
            raise ConditionError(f"no axis {word}{hint}; axes here: {', '.join(self._axes)}")
        return lambda values: values[word], _Leaf(name=word)

    def _beside(self, word: str) -> str:
        near = get_close_matches(word.lower(), self._others, n=1, cutoff=0.75)
        if not near:
            return f"; for text write '{word}' in quotes"
        meant = "it" if near[0] == word else f"did you mean '{near[0]}'? It"
        return f" ({meant} has no value here: make it an axis, or name it under 'set')"

    def _reachable(self, a: _Leaf, b: _Leaf) -> None:
        """Refuse a comparison of an axis with a text that it never takes: a typing mistake."""
        name, text = (a.name, b.text) if a.name else (b.name, a.text)
        values = self._axes.get(name) if name else None
        if values is not None and text is not None and text not in values:
            known = sorted({str(value) for value in values})
            listed = ", ".join(known[:10])
            raise ConditionError(f"{name} is never '{text}'{suggestion(text, known)}; its values: {listed}")

    def _deeper(self, inner: Callable[[], tuple[Term, _Leaf]]) -> tuple[Term, _Leaf]:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ConditionError("is nested too deeply")
        found = inner()
        self._depth -= 1
        return found

    def _sign(self, known: Collection[str]) -> str:
        kind, word, _ = self._tokens[self._at]
        if kind != "sign" or word not in known:
            return ""
        self._at += 1
        return word

    def _take(self, kind: str, word: str) -> bool:
        found = self._tokens[self._at][:2] == (kind, word)
        self._at += found
        return found

    def expect(self, kind: str, word: str) -> None:
        """Step over a token. Raises ConditionError where another one stands."""
        if not self._take(kind, word):
            wanted = f"; expected {word}" if word else ""
            raise ConditionError(_unexpected(*self._tokens[self._at]) + wanted)


def _tokens(text: str) -> list[tuple[str, str, int]]:
    """Kind, word and place (counted from 1) of every token, the end included."""
    found: list[tuple[str, str, int]] = []
    at = 0
    while not found or found[-1][0] != "end":
        match = _TOKEN.match(text, at)
        assert match is not None
        kind = match.lastgroup or "bad"
        found.append((kind, match[kind], match.start(kind) + 1))
        if kind == "bad":
            raise ConditionError(_unexpected(*found[-1]))
        at = match.end()
    return found


def _unexpected(kind: str, word: str, at: int) -> str:
    return "ends too early" if kind == "end" else f"{word} at character {at} is not expected there"


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConditionError(f"{where}: {value!r} is neither true nor false; compare it with something")
    return value


def _number(value: Any, sign: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConditionError(f"'{sign}' needs numbers (got {value!r})")
    if (isinstance(value, int) and value.bit_length() > 1000) or not isfinite(value):
        raise ConditionError(f"a number at '{sign}' is too large")
    return value


def _applied(sign: str, apply: Callable[[Any, Any], Any], a: Term, b: Term) -> Term:
    return lambda values: apply(_number(a(values), sign), _number(b(values), sign))


def _same(a: Any, b: Any) -> bool:
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _compared(sign: str, a: Any, b: Any) -> bool:
    if sign in _EQUAL:
        return _same(a, b) == (sign == "==")
    if not isinstance(a, str) or not isinstance(b, str):
        _number(a, sign)
        _number(b, sign)
    return bool(_ORDER[sign](a, b))
