"""What is printed arrives on a stream of any encoding, and a reader that leaves is no failure."""

import io
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fahw.cli import terminal
from tests.support.strategies import ROOT

ENCODINGS = ["ascii", "cp1252", "cp437", "latin-1", "utf-8"]


def ran(arguments, **environment):
    """A command in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-m", "fahw.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, timeout=120)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["list", "simulate", "check"])
def test_commands_print_on_streams_of_any_encoding(encoding, name, tmp_path):
    """With ×, µ and names of any letters: the exit code is that of UTF-8, and nothing is said of encodings."""
    arguments = {"list": ["technology"], "simulate": ["edge_dual", "mlp_digits"], "check": ["Ω é.yaml"]}[name]
    done = ran([name, *arguments], PYTHONIOENCODING=encoding, PYTHONUTF8="0", LC_ALL="C.UTF-8")
    assert done.returncode == {"check": 2}.get(name, 0)
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).decode(encoding)


@given(st.text(max_size=20), st.sampled_from(ENCODINGS))
def test_any_text_is_printed_on_a_stream_of_any_encoding(text, encoding):
    """Nothing fails, no control character arrives, and letters that the encoding has stay."""
    stream, before = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n"), sys.stdout
    sys.stdout = stream
    try:
        terminal.prepare()
        terminal.say(f"{text}|abc")
    finally:
        sys.stdout = before
    shown = stream.buffer.getvalue().decode(encoding)
    assert shown.endswith("|abc\n")
    assert all(char.isprintable() or char in "\n" or char.isspace() for char in shown)
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_signs_are_spelt_out():
    """As readers of ASCII know them."""
    assert terminal.plain("12 µJ ± 3 ×, −4 é ² \u202f5 Ω") == "12 uJ +/- 3 x, -4 e 2  5 \\u03a9".replace("  5", "  5")


@pytest.mark.skipif(os.name != "posix", reason="pipes as shells make them")
def test_a_reader_that_leaves_ends_the_command_quietly():
    """`fahw train ... | head -1`: no traceback, the code of shells."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fahw.cli", "train", "mlp_digits", "--epochs", "4000"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline().startswith(b"epoch")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=120), err) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full")
def test_an_output_that_cannot_be_written_is_said_once():
    """`fahw list rules > /dev/full`."""
    command = f"{sys.executable} -m fahw.cli list rules > /dev/full"
    done = subprocess.run(["sh", "-c", command], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"No space left" in done.stderr
