# Every target sets up what it needs in .venv, once. Needs Python 3.11, 3.12 or 3.13 with venv, and nothing else.
#
#   make demo      drive through the bundled world model and write a GIF to out/
#   make test      the test suite
#   make lint      ruff and mypy
#   make install   everything a developer needs
#   make weights   train the bundled weights again, into runs/mini (about two hours on two cores)
#
# PYTHON=... picks the interpreter. On a machine without a GPU a smaller download is
#   make TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu" demo

VENV := .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PROJECT := pyproject.toml constraints.txt

# A name on the PATH may be a shim that does not run, and Debian's python3 may come without venv: so each is tried.
FIND_PYTHON = for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done

.PHONY: demo test lint install weights clean

demo: $(VENV)/.user
	$(BIN)/occsora demo

test: $(VENV)/.developer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(VENV)/.developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.developer

# A run that was stopped goes on where it was.
weights: $(VENV)/.developer
	$(BIN)/occsora make-scenes sumo --seeds 0:40 --out runs/mini/scenes --jobs 2
	$(BIN)/occsora train-tokenizer --preset mini --scenes runs/mini/scenes --out runs/mini/tokenizer
	$(BIN)/occsora train-agent-flow --preset mini --scenes runs/mini/scenes --out runs/mini/flow
	$(BIN)/occsora train-world-model --preset mini --scenes runs/mini/scenes --tokenizer runs/mini/tokenizer --flow runs/mini/flow \
		--out runs/mini/world
	$(BIN)/python benchmarks/world_model.py --preset runs/mini/world --networks 3 --clips 12 \
		--json runs/mini/world/measured.json

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@python=$$($(FIND_PYTHON)); test -n "$$python" || { echo "make: needs Python 3.11 to 3.13 with venv; set PYTHON=/path/to/python" >&2; exit 1; }; \
	echo "making $(VENV) with $$python"; $$python -m venv $(VENV)

# torch comes first and alone, so that its index, if one is given, serves nothing else.
$(VENV)/.torch: | $(BIN)/python
	$(PIP) $(TORCH)
	@touch $@

$(VENV)/.user: $(VENV)/.torch $(PROJECT)
	@echo "installing the project"
	$(PIP) -c constraints.txt -e '.[data]'
	@touch $@

$(VENV)/.developer: $(VENV)/.torch $(PROJECT)
	@echo "installing the project and what its tests need"
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.user
