# Both targets set everything up by themselves; they need Python 3.11 or later and make.
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $(name))))
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types contracts cluster tutorials audit pytest budget docs clean

demo: $(VENV)/.demo
	$(BIN)/paperworks run slicegpt

# Two at a time: types are checked by one process, beside which the tests begin.
test: $(VENV)/.dev
	@$(MAKE) --no-print-directory -j2 lint types contracts pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests scripts benchmarks
	$(BIN)/ruff format --check src tests scripts benchmarks

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

# Runs on a cluster of two nodes on this machine, one of which is killed. Not in `make test`: starting nodes takes minutes.
cluster: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	$(BIN)/pytest tests/runs/test_cluster.py tests/page/jobs/test_ray_worker.py tests/embedding/test_embedding_shards_ray.py tests/embedding/test_embedding_on_ray.py

# All tutorials as they stand, and what they quote. Not in `make test`: they take some minutes.
tutorials: $(VENV)/.dev
	PAPERWORKS_TUTORIALS=1 $(BIN)/pytest tests/test_tutorials.py

audit: $(VENV)/.dev
	$(BIN)/python scripts/audit_dependencies.py

# The tests again, with the budget of processor time (tests/budget.py) held without its margin: for a quiet machine.
budget: $(VENV)/.dev
	$(BIN)/python scripts/temporary_postgres.py $(BIN)/pytest -n 2 --dist loadgroup --hold-budget

# The documentation site, in site/; any warning is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# A private PostgreSQL stands beside the tests that run on both databases. Three workers for two cores: a fifth of the time
# of two is spent waiting for servers, browsers and children.
pytest: $(VENV)/.dev
	$(BIN)/python scripts/temporary_postgres.py $(BIN)/pytest -n 3 --dist loadgroup

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: found none; install it or say make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[llm]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[circuits,dev,encoder,llm,mcp,medical,music,postgres,video,vision]'
	touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) site .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
