"""Mutations of text files (YAML, JSON, CSV) by tokens and by lines, and of any file by bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

_TOKEN = re.compile(rb"\s+|[\w.+-]+|.", re.S)
_WORD = re.compile(rb"[\w.+-]+")
_NUMBER = re.compile(rb"-?\d+\.?\d*(?:[eE][-+]?\d+)?")

NUMBERS = (
    b"0", b"-1", b"1", b"2", b"1e-300", b"1e308", b"1e400", b"-1e400", b".nan", b"NaN", b"nan", b".inf", b"-.inf",
    b"Infinity", b"inf", b"1_000", b"0x10", b"010", b"1e9", b"1000000", b"10000000", b"1000000000", b"4294967296",
    b"9223372036854775808", b"1000000000000", b"0.1", b"-0.0", b"1.5", b"9" * 50, b"9" * 400, b"9" * 5000,
    b"9" * 100_000, b"1" + b"0" * 400 + b".5", b"1e" + b"9" * 30,
)  # fmt: skip
"""Numbers that are none, that are too large for something, or that other readers take for something else."""
VALUES = (
    b"[]", b"{}", b"null", b"~", b"true", b"no", b"''", b'"x"', b"x", b"[1, 2]", b"{a: 1}", b'{"a": [1]}', b"- x",
    b"[[[]]]", b"=1+1", b"@x", b"'", b'"', b"|", b">", b"a, b", b"%", b"..", b"../../x", b"/dev/zero", b"C:\\x",
)  # fmt: skip
"""Values of the wrong kind, and signs that mean something in one of the formats."""
SIGNS = (
    *(bytes([code]) for code in (0, 1, 7, 8, 9, 11, 12, 13, 27, 127)),
    b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xff", b"\xc3\xa4", b"\xe4",
    b"\xf0\x9f\x98\x80", b"\xef\xbf\xbf", b"\xc0\x80", b":", b"?", b"-", b"#", b"&", b"*", b"!", b"%", b"@", b"`",
)  # fmt: skip
"""Control characters, marks and halves of characters, and what YAML gives a meaning."""
TAGS = (
    b"!!python/object/apply:os.getcwd []", b"!!binary aGk=", b"!!str ", b"!<x> ", b"!e!tag ", b"&a ", b"*a", b"*b",
    b"&a [*a]", b"<<: *a", b"&a {<<: *a}",
)  # fmt: skip
"""Tags, anchors and aliases."""


def mutated_text(random: Random, content: bytes) -> bytes:
    """The text with one to four changes, half of the time such as leave most of it readable."""
    changes = _GENTLE_CHANGES if random.random() < 0.5 else _TEXT_CHANGES
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        content = random.choice(changes)(random, content)
    return content


def mutated_bytes(random: Random, content: bytes) -> bytes:
    """The bytes with one to three changes."""
    for _ in range(random.choice((1, 1, 2, 3))):
        content = random.choice(_BYTE_CHANGES)(random, content)
    return content


def _span(random: Random, content: bytes, most: int = 40) -> tuple[int, int]:
    """A random slice of the content, at most `most` long."""
    start = random.randrange(len(content) + 1)
    return start, min(len(content), start + random.randint(0, most))


def flip(random: Random, content: bytes) -> bytes:
    """One bit of one byte is turned."""
    out = bytearray(content)
    if out:
        out[random.randrange(len(out))] ^= 1 << random.randrange(8)
    return bytes(out)


def cut(random: Random, content: bytes) -> bytes:
    """The content ends early."""
    return content[: random.randrange(len(content) + 1)]


def drop(random: Random, content: bytes) -> bytes:
    """A slice is missing."""
    start, end = _span(random, content)
    return content[:start] + content[end:]


def double(random: Random, content: bytes) -> bytes:
    """A slice stands twice, or many times."""
    start, end = _span(random, content, 200)
    times = random.choice((2, 2, 3, 10, 1000))
    return content[:start] + content[start:end] * times + content[end:]


def noise(random: Random, content: bytes) -> bytes:
    """Random bytes stand in place of a slice."""
    start, end = _span(random, content)
    return content[:start] + random.randbytes(random.randint(1, 20)) + content[end:]


def other(random: Random, content: bytes) -> bytes:
    """Nothing at all, or something that is no such file."""
    return random.choice((b"", b"\n", random.randbytes(200), b"\x00" * 100, b"PK\x03\x04" + content, content[::-1]))


def _at_word(random: Random, content: bytes, new: bytes, pattern: re.Pattern[bytes] = _WORD) -> bytes:
    """The content with `new` in place of one match."""
    matches = list(pattern.finditer(content))
    if not matches:
        return content + new
    match = random.choice(matches)
    return content[: match.start()] + new + content[match.end() :]


def wrong_number(random: Random, content: bytes) -> bytes:
    """A number is another."""
    return _at_word(random, content, random.choice(NUMBERS), _NUMBER)


def wrong_value(random: Random, content: bytes) -> bytes:
    """A word is a value of another kind."""
    return _at_word(random, content, random.choice(VALUES))


def swap(random: Random, content: bytes) -> bytes:
    """Two tokens have changed places."""
    tokens = _TOKEN.findall(content)
    if len(tokens) > 1:
        i, j = random.sample(range(len(tokens)), 2)
        tokens[i], tokens[j] = tokens[j], tokens[i]
    return b"".join(tokens)


def other_word(random: Random, content: bytes) -> bytes:
    """A word stands where another stood: keys with the values of others, misspelt names."""
    words = _WORD.findall(content) or [b"x"]
    word = random.choice(words)
    return _at_word(random, content, random.choice((word, word[:-1], word + b"s", word.upper())))


def sign(random: Random, content: bytes) -> bytes:
    """A sign that does not belong there."""
    at = random.randrange(len(content) + 1)
    return content[:at] + random.choice(SIGNS) + content[at:]


def tag(random: Random, content: bytes) -> bytes:
    """A tag, an anchor or an alias before a word, or in its place."""
    new = random.choice(TAGS)
    if random.random() < 0.5:
        return _at_word(random, content, new)
    words = list(_WORD.finditer(content))
    at = random.choice(words).start() if words else 0
    return content[:at] + new + content[at:]


def deep(random: Random, content: bytes) -> bytes:
    """A value is nested deeply."""
    depth, (left, right) = random.choice((5, 50, 99, 500, 20_000)), random.choice(((b"[", b"]"), (b'{"a": ', b"}")))
    return _at_word(random, content, left * depth + random.choice((b"", b"1")) + right * random.choice((depth, 0)))


def long(random: Random, content: bytes) -> bytes:
    """A word is very long."""
    return _at_word(
        random, content, random.choice((b"x", b"x ", b"x.", b"9", b"a,")) * random.choice((70, 5000, 200_000))
    )


def line(random: Random, content: bytes) -> bytes:
    """A line is doubled, missing, indented or elsewhere, or one of another file's stands in its place."""
    lines = content.splitlines(keepends=True) or [b"\n"]
    i, j = random.randrange(len(lines)), random.randrange(len(lines))
    kind = random.randrange(6)
    if kind == 0:
        lines[i] *= random.choice((2, 2, 20, 500))
    elif kind == 1:
        lines[i] = b""
    elif kind == 2:
        lines[i] = random.choice((b" ", b"  ", b"\t", b"- ", b"\xc2\xa0")) + lines[i]
    elif kind == 3:
        lines[i] = lines[i].lstrip()
    elif kind == 4:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines[i:i] = lines[min(i, j) : max(i, j)]
    return b"".join(lines)


def many(random: Random, content: bytes) -> bytes:
    """Thousands of keys, items or cells that nobody asked for."""
    at = content.find(b"\n", random.randrange(len(content) + 1)) + 1
    count = random.choice((300, 3000, 30_000))
    form = random.choice(("k{}: 1\n", "- {}\n", "{},", "a: {}\n", '"k{}": 1,', "&a{} x\n", "*a{}\n", "x{},1,2,3\n"))
    return content[:at] + "".join(form.format(i) for i in range(count)).encode() + content[at:]


def encoded(random: Random, content: bytes) -> bytes:
    """Another encoding, a byte order mark, or other ends of lines."""
    text = content.decode("utf-8", "replace")
    kind = random.randrange(7)
    if kind < 3:
        return text.encode(("utf-16", "utf-16-be", "utf-32")[kind])
    if kind == 3:
        return b"\xef\xbb\xbf" + content
    if kind == 4:
        return ("\u00e4 # \u00fc\n" + text).encode("latin-1", "replace")
    return content.replace(b"\n", random.choice((b"\r\n", b"\r", b"\xc2\x85", b"\n\n", b"\n\x00", b"\x0c\n")))


_BYTE_CHANGES: tuple[Callable[[Random, bytes], bytes], ...] = (flip, flip, flip, cut, drop, double, noise, sign, other)
_GENTLE_CHANGES = (wrong_number, wrong_number, wrong_number, wrong_value, other_word, other_word, line)
_TEXT_CHANGES: tuple[Callable[[Random, bytes], bytes], ...] = (
    flip, cut, drop, double, noise, other, wrong_number, wrong_number, wrong_number, wrong_number, wrong_value,
    wrong_value, wrong_value, swap, swap, other_word, other_word, other_word, sign, sign, tag, deep, long, line, line,
    line, many, encoded,
)  # fmt: skip
