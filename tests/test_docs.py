"""The documents: their commands and code run, their links lead somewhere, and nothing public goes without a word."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml

import fahw
from fahw.cli.main import main
from fahw.cli.verbs import app
from fahw.config.sweep import Sweep
from fahw.hardware.chip import Chip
from fahw.hardware.load import load_chip
from fahw.network.model_file import Model
from fahw.study.sweeps.load import load_sweep

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *DOCS]
OF_NOTEBOOKS = ROOT / "docs" / "studies"
"""Pages that are rendered from notebooks, whose code test_notebooks.py runs."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
MARK = re.compile(r"\*Not run by the tests: [a-z][^*]{5,}\.\*\s*\Z")
"""The line before a block that is not run; the reason is there for the reader too."""
QUICK = re.compile(r"fahw (simulate(?!.* --(trace|plots))|list|schema|export-topology) ")
"""Commands that take a fraction of a second; the others are run with the slow tests."""
SLOW_CODE = "fahw.compare("


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. `language` is empty for shell commands."""

    page: Path
    line: int
    language: str
    text: str
    skipped: bool

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self):
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


def blocks_of(page):
    text = page.read_text()
    for found in FENCE.finditer(text):
        before = text[: found.start()]
        yield Block(page, before.count("\n") + 1, found[1], found[2], bool(MARK.search(before)))


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
CODE = [
    block
    for block in BLOCKS
    if block.language == "python" and not block.skipped and OF_NOTEBOOKS not in block.page.parents
]
SHELL = [block for block in BLOCKS if block.language == "" and not block.skipped]
WITH_COMMANDS = list(dict.fromkeys(block.page for block in SHELL))


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def looks_like_a_checkout(folder):
    for name in ("hwconfigs", "models", "examples", "docs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(looks_like_a_checkout(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """One folder for all pages, so that what one has trained the next finds done; examples train for an epoch."""
    folder = looks_like_a_checkout(tmp_path_factory.mktemp("pages"))
    (folder / "examples").unlink()
    (folder / "examples").mkdir()
    for example in (ROOT / "examples").glob("*.yaml"):
        text = re.sub(r"^(epochs|seeds): \d+", r"\1: 1", example.read_text(), flags=re.MULTILINE)
        (folder / "examples" / example.name).write_text(text)
    return folder


def shortened(words):
    """A command with small settings: an epoch, where it says nothing of them."""
    trains = words[0] == "fahw" and words[1] in ("train", "compare", "attack")
    return [*words, "--epochs", "1"] if trains and "--epochs" not in words else words


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_says_what_it_is(block):
    """No language: shell commands, which run, or a reason stands before them. Else a language that tests know."""
    assert block.language in ("", "python", "yaml", "text")
    if block.language == "" and not block.skipped:
        assert [line for line in block.commands if line.split()[0] not in ("fahw", "cp", "make")] == []


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_quick_commands_run(page, folder, monkeypatch, capsys):
    """Those of a page that only simulate or list, in this process."""
    for block in (block for block in SHELL if block.page == page):
        for line in block.commands:
            words = shlex.split(line)
            if words[0] == "cp":
                (folder / words[2]).write_text((folder / words[1]).read_text())
            elif QUICK.match(line):
                monkeypatch.setattr(sys, "argv", words)
                with pytest.raises(SystemExit) as done:
                    main()
                assert not done.value.code, f"{block}: {line}\n{capsys.readouterr().err}"


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_commands_run(page, shared_folder):
    """Every command of a page, in order. Targets of make are the business of .ci/run."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for block in (block for block in SHELL if block.page == page):
        for line in block.commands:
            words = shortened(shlex.split(line))
            if words[0] == "fahw":
                words = [sys.executable, "-m", "fahw.cli", *words[1:]]
            if words[0] != "make":
                done = subprocess.run(words, cwd=shared_folder, env=environment, capture_output=True, text=True)
                assert done.returncode == 0, f"{block}: {line}\n{done.stderr}"


@pytest.mark.parametrize("block", [block for block in CODE if SLOW_CODE not in block.text], ids=str)
def test_python_blocks_run(block, folder):
    """Every Python block, by itself."""
    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in CODE if SLOW_CODE in block.text], ids=str)
def test_slow_python_blocks_run(block, folder):
    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=str)
def test_yaml_blocks_are_valid(block, tmp_path):
    """Whole files load; of fragments, every key is one of the schema."""
    value = yaml.safe_load(block.text)
    file = tmp_path / "block.yaml"
    file.write_text(block.text)
    if "arrays" in value and "memories" in value:
        load_chip(file)
    elif "layers" in value:
        fahw.load_model(file)
    elif "grid" in value or "rule" in value:
        load_sweep(file)
    elif isinstance(value, dict):
        known = {field.alias or name for schema in (Chip, Model, Sweep) for name, field in schema.model_fields.items()}
        assert set(value) <= known


def anchors_of(page):
    """Anchors of the headings, as GitHub makes them; mkdocs in strict mode checks its own."""
    text = FENCE.sub("", page.read_text())
    titles = (re.sub(r"[`*\\]|\]\([^)]*\)|\[", "", title) for title in HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    """Relative links and pictures exist, and so do the headings that they point at."""
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        path, _, anchor = target.partition("#")
        goal = page if not path else page.parent / path
        if "://" not in target and (not goal.exists() or (anchor and anchor not in anchors_of(goal))):
            dead.append(target)
    assert dead == []


def section(page, title):
    """Text under the heading `title`, up to the next heading of any level."""
    text = FENCE.sub(_without_hashes, page.read_text())
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section '{title}' in {page.name}"
    return found[1]


def _without_hashes(found):
    """A fence whose comments cannot be taken for headings."""
    return found[0].replace("\n#", "\n ")


@pytest.mark.parametrize("name", fahw.__all__)
def test_every_public_name_has_an_example(name):
    title = name if name != "__version__" else r"\_\_version\_\_"
    text = section(ROOT / "docs" / "api.md", title)
    assert any(f"fahw.{name}" in code for language, code in FENCE.findall(text) if language == "python")


def verbs():
    """Names of all verbs with their options, as the command line has them."""
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        below = getattr(command, "commands", None)
        for inner, found in (below or {"": command}).items():
            options = [opt for item in found.params for opt in item.opts if opt.startswith("--") and opt != "--help"]
            yield pytest.param(f"{name} {inner}".strip(), options, id=f"{name} {inner}".strip())


@pytest.mark.parametrize(("verb", "options"), list(verbs()))
def test_every_verb_and_option_has_a_word(verb, options):
    page = ROOT / "docs" / "verbs.md"
    text = section(page, verb)
    assert f"fahw {verb}" in text
    assert [option for option in options if option not in text and f"`{option}" not in section(page, "The verbs")] == []
