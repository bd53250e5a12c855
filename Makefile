# Two commands: `make figures` regenerates every figure and table, `make test` checks everything.
PROFILE ?=
FRESH ?=
ONLY ?=
SEED ?= 0
JOBS ?= 2
SET ?=
PYTHON ?= python3
PY := .venv/bin/python
BOOK ?= build/book

# One thread a process: faster when several run, and the same numbers on any number of cores.
export OMP_NUM_THREADS := 1
# Kernels choose their own backend; with Agg from outside they would leave every picture out.
unexport MPLBACKEND

.DEFAULT_GOAL := help
.PHONY: help env data figures book test trials lint format strip clean sbom audit hashes gpu bench

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10
	@echo 'variables: PROFILE=smoke|reduced|full|paper  FRESH=1  ONLY="10_mnist 9"  SEED=0  JOBS=2  SET="epochs=2"'

env:  ## .venv with the pinned packages (first time about 3 minutes, 7 GB)
	@PYTHON=$(PYTHON) bash .ci/env

data: env  ## prepare all data sets: digits, outlines of LIDC readers, stand-ins
	@$(PY) -m data_prep

figures: data  ## run the notebooks, then every figure and table (PROFILE, FRESH, ONLY, SEED, JOBS, SET)
	@$(PY) notebooks/run_all.py --seed $(SEED) --jobs $(JOBS) \
		$(if $(PROFILE),--profile $(PROFILE)) $(if $(FRESH),--fresh) $(if $(ONLY),--only $(ONLY)) $(if $(SET),--set $(SET))

book: env  ## one static site of all pages, with course, reference and search: build/book
	@$(PY) -m sphinx -W --keep-going -E -q -c notebooks/book -b html -d $(BOOK).trees . $(BOOK)
	@echo 'open $(BOOK)/index.html'

lint: env  ## ruff and mypy: style, formatting, types
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

# Every part runs and reports, whatever failed before it; the exit status is the worst of them.
test: data  ## style, all tests, and every notebook executed and compared
	@status=0; \
	$(PY) -m ruff check . || status=1; \
	$(PY) -m ruff format --check . || status=1; \
	$(PY) -m mypy || status=1; \
	$(PY) -m pytest -n $(JOBS) --dist loadfile -p no:cacheprovider tests || status=1; \
	if ls notebooks/*.ipynb > /dev/null 2>&1; then \
		$(PY) -m pytest -n $(JOBS) --dist loadfile -p no:cacheprovider \
			--nbval-lax --nbval-current-env --nbval-cell-timeout 1200 notebooks/*.ipynb || status=1; \
	fi; \
	if [ $$status -ne 0 ]; then echo 'make test: something failed, see above' >&2; fi; \
	exit $$status

# Slow (an hour on two cores): faults of storage, tried in earnest. ONLY="kills writers" for some.
trials: env  ## kill, crash, damage: what is lost or wrong, to figures/source_data/reliability.csv
	@PYTHONPATH=.:tests nice -n 19 $(PY) -m trials $(ONLY)

format: env  ## let ruff fix and format
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

strip: env  ## remove timing noise and live widgets from the notebooks, keep outputs
	@$(PY) notebooks/strip.py notebooks/*.ipynb || true

sbom: env  ## what is installed, with checksums and licences: build/sbom.cdx.json (CycloneDX)
	@mkdir -p build && $(PY) .ci/pins.py sbom > build/sbom.cdx.json && echo build/sbom.cdx.json

audit: env  ## known vulnerabilities of the pinned packages (pip-audit; needs the network)
	@mkdir -p build && $(PY) .ci/pins.py all > build/pins.txt
	@$(PY) -m pip_audit --strict --disable-pip --require-hashes -r build/pins.txt || { \
		echo 'make audit: a package is vulnerable, or nobody could be asked: see above' >&2; exit 1; }

hashes: env  ## after a change of constraints.txt: .ci/hashes.txt anew (asks the package index)
	@$(PY) .ci/pins.py hash

gpu: env  ## on a machine with CUDA: agreement with the CPU, limits, speed
	@$(PY) benchmarks/gpu.py

bench: env  ## what the method costs beside a plain U-Net: source_data/bench.csv, scale.csv, bench.png
	@$(PY) benchmarks/bench.py && $(PY) benchmarks/scale.py

clean:  ## remove caches, executed notebooks and smoke tables; .venv, data and runs stay
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist runs/notebooks
	@rm -f figures/*.smoke.* figures/source_data/*.smoke.*
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
