# Everything a newcomer needs: `make run` and `make test`, each of which sets itself up. Python >= 3.11, git and make suffice.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run demo test test-long fuzz lint types bench clean

run: $(VENV)/.ready-run  ## Serve on 127.0.0.1:8080; without OPENAI_API_KEY the sandbox is the upstream.
	@BIN=$(BIN) sh deploy/run.sh

demo: $(VENV)/.ready-run  ## One image request from end to end, offline.
	$(BIN)/framegate demo

test: $(VENV)/.ready-test  ## The whole suite; what a machine lacks is skipped in words.
	$(BIN)/python -m pytest -m "not long" -n auto --maxprocesses 4 --dist worksteal

test-long: $(VENV)/.ready-test  ## What takes minutes.
	$(BIN)/python -m pytest -m long

FUZZ_SECONDS ?= 60
FUZZ ?= scanner operation multipart rewrite

fuzz: $(VENV)/.ready-test  ## Look for bytes that break our readers, FUZZ_SECONDS=60 for each; FUZZ=scanner: only that.
	@$(PIP) --only-binary atheris --editable '.[fuzz]' || { echo "Fuzzing is skipped: there is no wheel of atheris for this Python."; exit 0; }; \
	for target in $(FUZZ); do $(BIN)/python -m tests.fuzz $$target -max_total_time=$(FUZZ_SECONDS) || exit 1; done

lint: $(VENV)/.ready-test  ## Style.
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.ready-test  ## Types, strict.
	$(BIN)/mypy && $(BIN)/mypy tests/typing

bench: $(VENV)/.ready-bench  ## What it costs beside others, ten minutes; QUICK=1: one. LITELLM=1 PORTKEY=1 PLUGIN=... PROFILE=1
	@$(BIN)/python -m bench

clean:  ## Forget what was set up.
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz build dist *.egg-info

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Framegate needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.ready-run: $(VENV)/.made setup.cfg pyproject.toml constraints.txt
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.ready-test: $(VENV)/.made setup.cfg pyproject.toml constraints.txt
	$(PIP) --editable '.[demo,test,suite]'
	@touch $@ $(VENV)/.ready-run

$(VENV)/.ready-bench: $(VENV)/.made setup.cfg pyproject.toml constraints.txt
	$(PIP) --editable '.[speed,images]'
	@touch $@
