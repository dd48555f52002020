"""The documents: their commands and code run, their links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_HERE = ("data fetch", "mnist --data", "mlp_mnist --rule bp --chip edge_dual --data-dir", "make ")
"""Commands that need the network, a data set that does not ship, or a fresh checkout."""


def blocks(page, language):
    return [text for found, text in BLOCK.findall(page.read_text()) if found == language]


def commands(page):
    lines = [line for text in blocks(page, "") for line in text.replace("\\\n", " ").splitlines()]
    wanted = [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?(fahw|cp) ", line)]
    return [line for line in wanted if not any(word in line for word in NOT_HERE)]


@pytest.fixture
def folder(tmp_path):
    """A folder that looks like a checkout."""
    for name in ("hwconfigs", "models", "examples", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_run(page, folder):
    """Every `fahw` command of a page, in order, in one folder."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for line in commands(page):
        words = shlex.split(line)
        if words[0] == "fahw":
            words = [sys.executable, "-m", "fahw.cli", *words[1:]]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_blocks_run(page, folder):
    """Every Python block of a page, by itself."""
    for text in blocks(page, "python"):
        done = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    """Relative links and pictures exist."""
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
