# Everything runs in a virtual environment of its own; nothing is installed twice.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
OUT ?= out/demo

.PHONY: demo test slow long lint types check schemas validation studies site bench clean

demo: $(VENV)/.installed
	$(BIN)/fahw compare edge_dual mlp_digits --out $(OUT)

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not long"

slow: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "slow and not long"

long: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m long

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

check: lint types test

bench: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/bench_step.py
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python tests/bench/bench_simulate.py
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.bench_best
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/bench_sweep.py

validation: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.validation

studies: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python examples/notebooks/render.py

site: $(VENV)/.installed-docs
	@# not --quiet: warnings that are not shown do not count in strict mode
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site: out/site/index.html"

schemas: $(VENV)/.installed
	for name in chip model sweep; do $(BIN)/fahw schema $$name > fahw/data/schemas/$$name.json; done

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) --editable ".[fast]" || $(PIP) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable ".[dev]"
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) out
