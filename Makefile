# The two commands: `make run` starts a node, `make test` tests everything. Both need Python 3.11 or newer and make, and
# set up .venv from the lock files in requirements/ the first time, and again only when those change.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
COMPILE := .venv-lock/bin/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links
ARGS ?=
# A test that takes so long hangs: the run ends there, and says where each thread stands.
HUNG := -o faulthandler_exit_on_timeout=true -o faulthandler_timeout

.PHONY: run test lint unit campaign compat compat-kafka tables lock clean

# One node on localhost:9092, its data in ./kpybroker-data. Options: make run ARGS='--listen localhost:9192'
run: .venv/.package
	@$(BIN)/kpybroker serve $(ARGS)

test: lint unit compat

lint: .venv/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict -p kpybroker
	$(BIN)/lint-imports

# What has processes and ports of its own, and deadlines, runs by itself; the rest in two processes.
REAL := tests/broker tests/peers tests/server tests/tools tests/test_start.py

unit: .venv/.test
	$(BIN)/pytest tests -n 2 --dist loadfile $(addprefix --ignore=,$(REAL)) $(ARGS)
	$(BIN)/pytest $(REAL) $(HUNG)=300 $(ARGS)

# Random tests at full size; as tests they run at token size. For example
# make campaign ARGS='tests/storage/test_damage.py --campaign-size 20000 --campaign-seed 7'
campaign: .venv/.test
	$(BIN)/pytest -s $(ARGS)

# Stock clients of Apache Kafka against a node. Those in Python come with the lock file; those in JavaScript, Go, Rust and
# Java are fetched and built the first time, and skipped, and named, where there is no node, go, cargo, java or mvn.
compat: .venv/.test
	$(BIN)/pytest compat-tests -rsx $(HUNG)=900 $(ARGS)

# The same tests against Apache Kafka itself, which proves the tests. Not part of CI.
compat-kafka: .venv/.test
	$(BIN)/pytest compat-tests -rsx --broker kafka $(ARGS)

# docs/clients.md and docs/apis.md, from a run of the tests on both. Not part of CI.
tables: .venv/.test
	@mkdir -p build
	$(BIN)/pytest compat-tests -rsx --record build/kpybroker.json $(ARGS)
	$(BIN)/pytest compat-tests -rsx --record build/kafka.json --broker kafka $(ARGS)
	$(BIN)/python compat-tests/tables.py build/kpybroker.json build/kafka.json

# A changed lock file gets a new environment, so that nothing stays that the lock does not name.
.venv/.run: requirements/run.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kpybroker needs Python 3.11 or newer; try: make PYTHON=python3.13")'
	@echo "setting up .venv"
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) --require-hashes -r requirements/run.txt
	@touch $@

.venv/.package: .venv/.run pyproject.toml
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.test: .venv/.package requirements/test.txt
	@$(PIP) --require-hashes -r requirements/test.txt
	@touch $@

# Write the lock files anew from requirements/*.in and pyproject.toml.
lock: .venv-lock/.done
	$(COMPILE) --upgrade --output-file requirements/run.txt requirements/run.in pyproject.toml
	$(COMPILE) --upgrade --output-file requirements/prometheus.txt requirements/prometheus.in
	$(COMPILE) --upgrade --output-file requirements/test.txt requirements/test.in
	$(COMPILE) --upgrade --output-file requirements/bench.txt requirements/bench.in
	$(COMPILE) --upgrade --output-file requirements/lock.txt requirements/lock.in

.venv-lock/.done: requirements/lock.txt
	@$(PYTHON) -m venv --clear .venv-lock
	@.venv-lock/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/lock.txt
	@touch $@

clean:
	rm -rf .venv .venv-lock build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
