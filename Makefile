# Keyferry. `make help` lists what there is. Needs Python 3.11 or later with its headers, a C compiler, make.

PYTHON ?= python3
VENV ?= .venv
STATE ?= .keyferry
N ?= 20
JOBS ?= 3
LONG_JOBS ?= 4
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check
BUILDS_WITH = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])
CORE := pyproject.toml setup.py $(wildcard workers/codec/*_cy.py workers/codec/*.pxd)

# URLs go through the environment, character by character: a password may hold what make or the shell would expand.
override SOURCE := $(value SOURCE)
override TARGET := $(value TARGET)
export SOURCE TARGET STATE

LOCK := deploy/container/requirements.txt

.PHONY: sync test test-long test-all old-servers lint bench bench-service bench-scale chaos cuts simulation fuzz asan picture deploy-tools lock site clean help
.DEFAULT_GOAL := help

# Installs with $(1) as extras, and says nothing unless it fails.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed; name one with PYTHON=..." >&2; exit 1; }
	@echo "setting up $(VENV) (once; about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	  || { echo "Python's venv module is needed (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	@{ $(BIN)/python -c '$(BUILDS_WITH)' | xargs $(PIP) && KEYFERRY_NO_COMPILE=1 $(PIP) --no-build-isolation -e '.$(1)' \
	  && $(BIN)/python setup.py build_ext --inplace; } > $(VENV)/install.log 2>&1 \
	  || { cat $(VENV)/install.log >&2; exit 1; }
	@$(BIN)/python -c 'import glob, sys; sys.exit(not glob.glob("workers/codec/*_cy.*.so"))' \
	  || echo "the core did not compile (gcc or Python.h missing?): it runs in plain Python, slowly" >&2
endef

$(VENV)/.run: $(CORE)
	$(call install,)
	@touch $@

$(VENV)/.test: $(CORE)
	$(call install,[test])
	@touch $@ $(VENV)/.run

sync: $(VENV)/.run  ## SOURCE=redis://.. TARGET=redis://..: keep TARGET in step with SOURCE; without both: a demo
	@if [ -n "$$SOURCE" ] && [ -n "$$TARGET" ]; then exec $(BIN)/keyferry sync --state "$$STATE" "$$SOURCE" "$$TARGET"; \
	elif [ -z "$$SOURCE$$TARGET" ]; then exec $(BIN)/keyferry demo; \
	else echo "give both: make sync SOURCE=redis://host:port TARGET=redis://host:port" >&2; exit 2; fi

old-servers: $(VENV)/.test  ## compiles Redis 3.2 and 5.0, which no wheel brings, for the tests: some minutes
	@$(BIN)/python -m tests.old_servers

lint: $(VENV)/.test  ## ruff, mypy, layers
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

test: $(VENV)/.test  ## unit tests, and the main job on real servers: about a minute
	@$(BIN)/python -m pytest -q -n $(JOBS) -m "not long"

test-long: $(VENV)/.test  ## every scenario, and the rest of what CI runs: a quarter of an hour
	@$(BIN)/python -m pytest -q -n $(LONG_JOBS) --dist worksteal -m "long and not rare"

test-all: $(VENV)/.test  ## after those two: each scenario once more with every other pair of servers
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal -m rare

bench: $(VENV)/.test  ## speed against native replication; KEYS=4000000 WRITES=2000000
	@$(BIN)/python -m tests.benchmarks $(if $(KEYS),--keys $(KEYS)) $(if $(WRITES),--writes $(WRITES))

bench-service: $(VENV)/.test  ## memory and CPU of 50 idle tasks, a tick over 1000, a cold start
	@$(BIN)/python -m tests.benchmarks.service

bench-scale: $(VENV)/.test  ## a full sync by 1, 2 and 4 hosts; 200 tasks at once
	@$(BIN)/python -m tests.benchmarks.scale

chaos: $(VENV)/.test  ## N=20: so many kills at random moments under live traffic, and comparisons key by key; ALL=1: with filters, mapping, throttles, TRANSFORM=1: and a transform
	@$(BIN)/python -m tests.chaos --kills $(N) $(if $(ALL),--all-on) $(if $(TRANSFORM),--transform)

cuts: $(VENV)/.test  ## N=20: so many connections cut at a random byte under live traffic, and the same comparisons
	@$(BIN)/python -m tests.cuts --cuts $(N)

simulation: $(VENV)/.test  ## N=100000 SEED=0: so many histories of the protocol with random faults, in memory
	@$(BIN)/python -m tests.simulation $(if $(filter-out file,$(origin N)),--histories $(N)) --seed $(or $(SEED),0)

fuzz: $(VENV)/.test  ## SECONDS=3600 SEED=0: damaged snapshots for the parsers, compiled and in plain Python
	@$(BIN)/python -m tests.fuzz $(if $(SECONDS),--seconds $(SECONDS)) --seed $(or $(SEED),0)

asan: $(VENV)/.test  ## SECONDS=60: the same under AddressSanitizer, with a core that is built for it in build/asan
	@rm -rf build/asan && mkdir -p build/asan && cp -r setup.py sync_tasks workers scheduler tests build/asan
	@cd build/asan && rm -f workers/codec/*.so \
	  && { KEYFERRY_SANITIZE=1 $(abspath $(BIN))/python setup.py build_ext --inplace > build.log 2>&1 || { cat build.log >&2; exit 1; }; } \
	  && LD_PRELOAD=$$($(or $(CC),cc) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PYTHONPATH=. \
	  KEYFERRY_REQUIRE_CORE=1 $(abspath $(BIN))/python -m tests.fuzz --seconds $(or $(SECONDS),60) --seed $(or $(SEED),0)

picture: $(VENV)/.test  ## docs/flower.png anew, by a headless Chromium
	@$(BIN)/python -m tests.picture

deploy-tools: $(VENV)/.test  ## Helm and the schemas of Kubernetes, for the tests of deploy/: 20 MB, once
	@$(BIN)/python -m tests.deploy.tools

lock:  ## what the container image is made of, anew: the newest that fits, each file by its hash
	@$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(VENV)/lock/bin/uv pip compile --quiet --upgrade pyproject.toml --extra flower --extra objects --extra postgresql --extra s3 \
	  --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --output-file $(LOCK)

site: $(VENV)/.test  ## the pages of docs/ as a site in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:  ## remove what the targets above have made (not state directories)
	@rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@rm -f workers/codec/*.so workers/codec/*.c
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST)
