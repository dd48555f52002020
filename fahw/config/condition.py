"""Conditions of a sweep (`when:`): comparisons, and/or/not and arithmetic over its axes. Nothing is ever run as Python.

rule == 'dfa' or chip.precision.feedback <= chip.precision.weight
batch_size * chip.arrays.forward_array.rows <= 4096 and rule in ['bp', 'dfa']

Python's parser tells what belongs to what. Of the text it sees signs and the words and, or, not, in; for each name,
number and quoted text it gets a name made here (`_3` for the token of index 3). It would itself refuse
`model.layers.1.out`, line breaks and 08, and would take 0x10, escapes and comments.
"""

from __future__ import annotations

import ast
import operator
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any

from fahw.errors import nearest_name, suggestion

Values = Mapping[str, Any]
Term = Callable[[Values], Any]
Axes = Mapping[str, Collection[Any] | None]
_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<sign>//|<=|>=|==|!=|[-+*/%<>(),\]]|(?:not\s+)?in\s*\[|(?:and|or|not)(?!\w|\.\w))"
    r"|(?P<name>[A-Za-z_]\w*(?:\.\w+)*)|(?P<bad>\S)"
)
# After a star Python wants an item (so a list is never empty, nor ends in a comma), and no comparison without brackets.
_STARRED = str.maketrans({"[": "[*", ",": ",*"})
_ORDER: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Lt: ("<", operator.lt), ast.LtE: ("<=", operator.le), ast.Gt: (">", operator.gt), ast.GtE: (">=", operator.ge),
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add), ast.Sub: ("-", operator.sub), ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv), ast.FloorDiv: ("//", operator.floordiv), ast.Mod: ("%", operator.mod),
}  # fmt: skip
_ALLOWED = (
    ast.Expression, ast.Name, ast.Load, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare,
    *_ORDER, ast.Eq, ast.NotEq, ast.In, ast.NotIn, ast.List, ast.Starred, ast.BinOp, *_ARITHMETIC,
)  # fmt: skip
_MAX_CHARACTERS = 2000
_MAX_DEPTH = 40


class ConditionError(Exception):
    """The condition cannot be understood, or has no answer for some values; its text says why."""


@dataclass(frozen=True)
class Condition:
    """A parsed condition; `term` computes it from a mapping of axes to values."""

    text: str
    term: Term

    def holds(self, values: Values) -> bool:
        """Whether it is true for `values`. Raises ConditionError where it has no answer (text with a number, say)."""
        try:
            return _truth(self.term(values), self.text)
        except ArithmeticError as error:
            raise ConditionError(f"{self.text}: {error}") from None
        except RecursionError:
            raise ConditionError("is nested too deeply") from None


def parse_condition(text: str, axes: Axes, others: Collection[str] = ()) -> Condition:
    """Parse `text`; `axes` gives the values of every name that may stand in it (None where they are not listed), and
    `others` has names that are known but have no value here, for advice.

    Raises ConditionError: unknown name, wrong grammar, a text that an axis never takes.
    """
    tokens = _tokens(text)
    words = [" ".join(token[0].split()) if token.lastgroup == "sign" else f"_{i}" for i, token in enumerate(tokens)]
    tree = _tree(words)
    fitting = len(words) if tree else _longest_beginning(words)
    written = {word: token for word, token in zip(words[:fitting], tokens, strict=False) if token.lastgroup != "sign"}
    operands = {word: _operand(token, axes, others) for word, token in written.items()}
    if not tree:
        wanted = _continuation(words[:fitting])
        wrong = _unexpected(tokens[fitting]) if fitting < len(words) else "ends too early"
        raise ConditionError(wrong + (f"; expected {wanted}" if wanted else ""))
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            _check_comparison(node, written, axes)
    try:
        return Condition(text, _term(tree.body, operands))
    except RecursionError:
        raise ConditionError("is nested too deeply") from None


def _tokens(text: str) -> list[re.Match[str]]:
    """The tokens of `text`. Raises ConditionError for a character that belongs to none, and for nesting that is so deep
    that Python's parser could fail on it."""
    if len(text) > _MAX_CHARACTERS:
        raise ConditionError(f"is longer than {_MAX_CHARACTERS:,} characters")
    tokens = list(_TOKEN.finditer(text))
    open_brackets = prefixes = 0
    for token in tokens:
        if token.lastgroup == "bad" or token[0] == "in":
            raise ConditionError(_unexpected(token) + ("; expected in [..]" if token[0] == "in" else ""))
        open_brackets += (token[0] == "(") - (token[0] == ")")
        prefixes = prefixes + 1 if token[0] in ("(", "-", "not") else 0
        if max(open_brackets, prefixes - 1) > _MAX_DEPTH:  # the first of many signs may be a subtraction
            raise ConditionError("is nested too deeply")
    return tokens


def _tree(words: Sequence[str]) -> ast.Expression | None:
    """Python's syntax tree of these words; None where they are no condition."""
    try:
        tree = ast.parse(" ".join(words).translate(_STARRED), mode="eval")
    except SyntaxError:
        return None
    except (MemoryError, RecursionError):
        raise ConditionError("is nested too deeply") from None
    return tree if all(map(_is_allowed, ast.walk(tree))) else None


def _longest_beginning(words: Sequence[str]) -> int:
    """How many of the words, from the first, can begin a condition."""
    return bisect_left(range(len(words)), True, key=lambda index: _continuation(words[: index + 1]) is None)


def _is_allowed(node: ast.AST) -> bool:
    """Whether conditions can have this node; a list is never an operand of arithmetic or of a further comparison."""
    match node:
        case ast.BinOp(left=ast.List()) | ast.Compare(ops=[ast.In() | ast.NotIn(), _, *_]):
            return False
    return isinstance(node, _ALLOWED)


def _continuation(words: Sequence[str]) -> str | None:
    """What can follow these words: the bracket that closes the last open one, '' for an operand or the end, or None
    where no continuation makes a condition of them.

    (Where Python itself sees a mistake is often another place, and depends on its version.)
    """
    closing: list[str] = []
    for word in words:
        if word[-1] in "([":
            closing.insert(0, ")" if word == "(" else "]")
        elif word in (")", "]"):
            del closing[:1]
    if _tree([*words, *closing]):
        return "".join(closing[:1])
    return "" if _tree([*words, "_", *closing]) else None


def _unexpected(token: re.Match[str]) -> str:
    """The message for a token that cannot stand where it does."""
    return f"{token[0]} at character {token.start() + 1} is not expected there"


def _operand(token: re.Match[str], axes: Axes, others: Collection[str]) -> Term:
    """The term of a name, number or text. Raises ConditionError for a name that is no axis."""
    word = token[0]
    value: Any = word[1:-1]
    if token.lastgroup == "number":
        value = float(word) if re.search(r"[.eE]", word) else int(word[:300])
    elif word.lower() in ("true", "false"):
        value = word.lower() == "true"
    elif token.lastgroup == "name":
        if word not in axes:
            hint = suggestion(word, axes) or _name_advice(word, others)
            raise ConditionError(f"no axis {word}{hint}; axes here: {', '.join(axes)}")
        return operator.itemgetter(word)
    return lambda values: value


def _name_advice(word: str, others: Collection[str]) -> str:
    """Advice for a name that is no axis: the name of `others` that may be meant, or quotes for a text."""
    match = nearest_name(word, others, 0.75)
    if not match:
        return f"; for text write '{word}' in quotes"
    subject = "it" if match == word else f"did you mean '{match}'? It"
    return f" ({subject} has no value here: make it an axis, or name it under 'set')"


def _check_comparison(node: ast.Compare, written: Mapping[str, re.Match[str]], axes: Axes) -> None:
    """Raise ConditionError for `in` in a chain, and for an axis that is compared with a text which it never takes."""
    for op, left, right in _steps(node):
        if isinstance(right, ast.List) and left is not node.left:
            raise ConditionError("'in' cannot follow another comparison; use brackets")
        for item in right.elts if isinstance(right, ast.List) else [right]:
            item = item.value if isinstance(item, ast.Starred) else item
            if op not in _ORDER and isinstance(left, ast.Name) and isinstance(item, ast.Name):
                _check_text(written[left.id][0], written[item.id][0], axes)
                _check_text(written[item.id][0], written[left.id][0], axes)


def _check_text(name: str, text: str, axes: Axes) -> None:
    """Raise ConditionError where `text` is quoted and the axis `name` never has that value."""
    values, word = axes.get(name), text[1:-1]
    if values is not None and text[0] in "'\"" and word not in values:
        axis_values = sorted({str(value) for value in values})
        listed = ", ".join(axis_values[:10])
        raise ConditionError(f"{name} is never '{word}'{suggestion(word, axis_values)}; its values: {listed}")


def _steps(node: ast.Compare) -> Iterator[tuple[type[ast.cmpop], ast.expr, ast.expr]]:
    """The comparisons of a chain, each an operator with its left and right operand."""
    for op, (left, right) in zip(node.ops, pairwise([node.left, *node.comparators]), strict=True):
        yield type(op), left, right


def _term(node: ast.expr, operands: Mapping[str, Term]) -> Term:
    """The value of `node` as a function of the values of the axes."""
    match node:
        case ast.Name():
            return operands[node.id]
        case ast.Starred():
            return _term(node.value, operands)
        case ast.List():
            items = [_term(item, operands) for item in node.elts]
            return lambda values: (item(values) for item in items)
        case ast.BoolOp():
            parts = [_term(part, operands) for part in node.values]
            join, word = (all, "'and'") if isinstance(node.op, ast.And) else (any, "'or'")
            return lambda values: join(_truth(part(values), word) for part in parts)
        case ast.UnaryOp():
            inner, is_not = _term(node.operand, operands), isinstance(node.op, ast.Not)
            return lambda values: not _truth(inner(values), "'not'") if is_not else -_number(inner(values), "-")
        case ast.BinOp():
            (sign, apply), left = _ARITHMETIC[type(node.op)], _term(node.left, operands)
            right = _term(node.right, operands)
            return lambda values: apply(_number(left(values), sign), _number(right(values), sign))
        case ast.Compare():
            steps = [(op, _term(left, operands), _term(right, operands)) for op, left, right in _steps(node)]
            return lambda values: all(_compared(op, left(values), right(values)) for op, left, right in steps)
    raise AssertionError(f"{type(node).__name__} is no form of a condition")


def _compared(op: type[ast.cmpop], left: Any, right: Any) -> bool:
    """The answer of one comparison. Raises ConditionError where an order is asked for of anything but two numbers or
    two texts."""
    if op in (ast.In, ast.NotIn):
        return any(_same(left, item) for item in right) == (op is ast.In)
    if op in (ast.Eq, ast.NotEq):
        return _same(left, right) == (op is ast.Eq)
    sign, apply = _ORDER[op]
    if not isinstance(left, str) or not isinstance(right, str):
        _number(left, sign)
        _number(right, sign)
    return bool(apply(left, right))


def _same(left: Any, right: Any) -> bool:
    """Whether two values are equal; unlike in Python, true is not 1."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _truth(value: Any, where: str) -> bool:
    """The value, which must be true or false: raises ConditionError otherwise, naming the place `where`."""
    if not isinstance(value, bool):
        raise ConditionError(f"{where}: {value!r} is neither true nor false; compare it with something")
    return value


def _number(value: Any, sign: str) -> Any:
    """The value, which must be a number of ordinary size: raises ConditionError otherwise, naming the operator."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConditionError(f"'{sign}' needs numbers (got {value!r})")
    if (isinstance(value, int) and value.bit_length() > 1000) or not isfinite(value):
        raise ConditionError(f"a number at '{sign}' is too large")
    return value
