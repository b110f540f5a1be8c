# make demo · make test · make check · make ui — each sets up .venv by itself
PYTHON ?= python3
VENV := .venv
PORT ?= 5000
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Hundreds of processes of the tests would compile everything that they import.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-system test-slow test-faults test-fuzz test-all check faults fuzz bench ui lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      the whole chain on generated scenes: maps, shapefiles, scores, a run to look at"
	@echo "make ui        the dashboard on http://127.0.0.1:$(PORT)"
	@echo "make test      the tests that take minutes; make test-system: real processes, servers, outages, memory"
	@echo "make test-all  both, and faults and damaged inputs in short"
	@echo "make fuzz      ten thousand damaged inputs, into docs/reliability.md; COUNT=1000 for fewer, SEED=1 for others"
	@echo "make check     ruff, mypy and the house test"
	@echo "make faults    faults at up to 40 writes of each step; writes the table in docs/reliability.md"
	@echo "make bench     side by side with peers; make bench ROWS=\"tiles loader\" for some rows; needs gdal-bin"

$(VENV)/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "swath needs Python 3.11 or newer, found $$($(PYTHON) --version); try: make PYTHON=python3.12 demo"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	$(VENV)/bin/uv pip sync --quiet --compile-bytecode --python $(VENV)/bin/python requirements.lock
	@touch $@

demo: $(VENV)/.installed
	mlflow run . -e pipeline --env-manager local --experiment-name demo

# One process per core, each with one thread: threads of several processes would wait for each other.
PYTEST := OMP_NUM_THREADS=1 python -m pytest -n auto
test: $(VENV)/.installed
	$(PYTEST) --dist loadfile -m "not system and not slow and not faults and not fuzz"

# A file's tests share nothing that is dear here, so they are spread one by one.
test-system: $(VENV)/.installed
	$(PYTEST) --dist worksteal -m "system and not slow"

test-slow: $(VENV)/.installed
	$(PYTEST) --dist worksteal -m slow

test-faults: $(VENV)/.installed
	$(PYTEST) --dist loadfile -m faults

# The fuzzer takes all processors itself.
test-fuzz: $(VENV)/.installed
	OMP_NUM_THREADS=1 python -m pytest -m fuzz

test-all: test test-system test-slow test-faults test-fuzz

COUNT ?= 10000
SEED ?= 0
fuzz: $(VENV)/.installed
	PYTHONPATH=code python -m tests.fuzz.run --count $(COUNT) --seed $(SEED) --report docs/reliability.md

check: $(VENV)/.installed
	ruff check .
	ruff format --check .
	mypy
	python -m pytest tests/test_house.py

# Renews the table in docs/reliability.md. POSITIONS=3 is what make test-faults looks at.
POSITIONS ?= 40
faults: $(VENV)/.installed
	PYTHONPATH=code OMP_NUM_THREADS=1 python -m tests.faults.matrix --positions $(POSITIONS) --write

bench: $(VENV)/.installed
	python experiments/benchmarks/run.py $(ROWS)

ui: $(VENV)/.installed
	PYTHONPATH=code python -m swath.tracking.dashboard $(PORT)

lock: $(VENV)/.installed
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra dask --extra pretrained --no-annotate \
		--custom-compile-command "make lock" pyproject.toml --upgrade -o requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
