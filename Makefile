# Everything starts from an empty clone: the first target that needs Python packages
# makes a virtual environment in .venv with the pinned versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
SUITE ?= fipa-1d
BIN := $(VENV)/bin
# OpenMP threads that wait must sleep: spinning makes a busy machine ten times slower.
OMP_WAIT_POLICY ?= passive
# The matrices that scipy solves are too small for several threads.
OPENBLAS_NUM_THREADS ?= 1
export OMP_WAIT_POLICY OPENBLAS_NUM_THREADS
READY := $(VENV)/ready
# The peer of make peer has an environment of its own; the project does not need it.
PEER := .peer
JAX := jax==0.10.2

.PHONY: help install demo flower-demo test test-slow lint verify study benchmark tune
.PHONY: figures pages speed peer memory cost steps ranks docs links clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

install: $(READY)  ## make .venv with everything installed

$(READY): setup.cfg pyproject.toml constraints.txt
	@echo "Installing into $(VENV), once; this takes a few minutes ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fedsciml needs Python 3.11 or newer; set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[dev]'
	@# Weights that a test reads; the code beside them would ask for TensorFlow.
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --no-deps textgenrnn
	@touch $@
	@echo "Installed."

demo: $(READY)  ## two problems, three methods: table and pictures; a minute
	@$(BIN)/python scripts/demo.py

flower-demo: $(READY)  ## three sites over Flower, 2 min; ARGS=--secure for secure sums, 4 min
	@$(BIN)/python scripts/flower_demo.py $(ARGS)

test: $(READY)  ## run the tests on all cores; 2 to 3 minutes on two
	@$(BIN)/python -m pytest -q -n auto

test-slow: $(READY)  ## run the tests that take minutes, one after the other
	@$(BIN)/python -m pytest -q -m slow

lint: $(READY)  ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

verify: $(READY)  ## is FIPA's step centralised Gauss-Newton's? about 4 minutes
	@$(BIN)/python scripts/verify_gn.py

study: $(READY)  ## how far from Gauss-Newton with less rank, training, ...; 15 minutes
	@$(BIN)/python -m scripts.experiments trajectory
	@$(BIN)/python -m scripts.experiments spectra

benchmark: $(READY)  ## every method on the 1-D problems, 5 starts; SUITE=fipa for all
	@$(BIN)/python -m scripts.experiments $(SUITE) --jobs 2

tune: $(READY)  ## search the baselines' best options; hours, can be interrupted
	@$(BIN)/python -m scripts.experiments tuning
	@$(BIN)/python -c 'import json; best = json.load(open("figures/data/tuning.json"))["best"]; \
	  open("fedsciml/command/tuned.json", "w").write(json.dumps(best, indent=1) + "\n")'

figures: $(READY)  ## draw figures/ from the records in figures/data/
	@$(BIN)/python scripts/make_figures.py

pages: $(READY)  ## write the tables and numbers of the records into README and docs/
	@$(BIN)/python -m scripts.experiments pages

steps: $(READY)  ## scoreboard of the step policies; hours, can be interrupted
	@$(BIN)/python -m scripts.experiments steps

ranks: $(READY)  ## error against bytes of the rank schedules; an hour
	@$(BIN)/python -m scripts.experiments ranks

speed: $(READY)  ## where the time goes, beside other ways to get a Jacobian
	@$(BIN)/python -m scripts.experiments speed --fresh --threads 2

peer: $(READY) $(PEER)/ready  ## beside JAX, in its own environment in .peer; 10 minutes
	@$(BIN)/python -m scripts.experiments peer --fresh

$(PEER)/ready:
	@echo "Installing $(JAX) into $(PEER), once ..."
	@$(PYTHON) -m venv $(PEER)
	@$(PEER)/bin/python -m pip install -qq '$(JAX)'
	@touch $@

memory: $(READY)  ## peak memory of rounds, beside the bound; quarter of an hour
	@$(BIN)/python -m scripts.experiments memory --fresh

cost: $(READY)  ## seconds of a round against p, n and M, and the figure; 5 minutes
	@$(BIN)/python -m scripts.experiments cost --fresh
	@$(BIN)/python -m scripts.experiments cost --figure

docs: $(READY)  ## build docs/_build/html and run the tutorials, 3 minutes; strict
	@echo "Building docs/_build/html. The first time it runs nine tutorials, a minute each"
	@echo "at most; later those that have changed (all of them after make clean) ..."
	@$(BIN)/python -m sphinx -aW --keep-going -j auto docs docs/_build/html
	@$(BIN)/python docs/_check.py docs/_build/html

links: $(READY)  ## ask the servers elsewhere whether what the documentation links is there
	@$(BIN)/python -m sphinx -b linkcheck docs docs/_build/links

clean:  ## remove .venv and caches; keep runs/
	rm -rf $(VENV) $(PEER) *.egg-info build dist docs/_build docs/generated .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
