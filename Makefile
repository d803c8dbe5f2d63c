# make test: all that a change has to pass, in an environment of its own, against the wheel that users would install.
# It needs make, and a Python >= 3.11 that has venv and pip. PYTHON=... chooses one.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

# What a developer's shell points to must not stand in for the wheel, and what is compiled once is kept.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

# Whether a command is a Python that this project can use. A command of that name alone proves nothing: version managers
# put stubs on PATH that only print a message.
USABLE := import sys, venv, ensurepip; sys.exit(sys.implementation.name != "cpython" or sys.version_info < (3, 11))
CANDIDATES := python3.14 python3.13 python3.12 python3.11 python3

# Looked up when an environment is made, not whenever make runs.
FIND_PYTHON = for python in $(or $(PYTHON),$(CANDIDATES)); do \
	    if "$$python" -c '$(USABLE)' >/dev/null 2>&1; then echo "$$python"; exit; fi; \
	done; \
	echo "No usable Python among: $(or $(PYTHON),$(CANDIDATES))." >&2; \
	echo "Install CPython 3.11 or later with its venv and ensurepip modules (Debian and Ubuntu: the package python3-venv)," >&2; \
	echo "or name one: make test PYTHON=/path/to/python3" >&2; exit 1

VENV := .venv
# Not the scripts in bin/: they name the folder that the environment was made in, and a checkout may be moved. -P keeps
# the checkout off sys.path.
RUN := $(VENV)/bin/python -P -m
# Each process has its own servers; tests/conftest.py says how many there are.
PARALLEL := -n auto --dist worksteal
PIP := -P -m pip --disable-pip-version-check --no-input install --quiet

# $(call make-environment,folder,python)
make-environment = echo "$(2) -m venv $(1)" && "$(2)" -m venv --clear $(1) && \
	{ $(1)/bin/python $(PIP) uv || echo "uv can't be installed; pip does its work."; }

# $(call uv,folder) what
uv = $(1)/bin/python -P -m uv pip install --quiet --python $(1)/bin/python

# $(call install,folder,what): uv takes 3 s where pip takes 30. Where uv can't, as with a mirror that only pip's settings
# name, pip does; it reads [dependency-groups] from 25.1 on.
install = { echo "Installing into $(1): $(2)"; $(call uv,$(1)) $(2) || \
	{ $(if $(findstring --group,$(2)),$(1)/bin/python $(PIP) 'pip>=25.1' &&) $(1)/bin/python $(PIP) $(2); }; }

# Directories are in the list so that a deleted file is noticed too.
SOURCES := $(shell find asecretcache ! -name '*.pyc' ! -name __pycache__) pytest_asecretcache.py pyproject.toml LICENSE $(wildcard README.md)

.PHONY: help test lint demo test-all test-union test-sdk test-templates build site bench replay soak mutants clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
	    printf '  make %-14s %s\n' "$$name" "$$text"; done

test: lint $(VENV)/wheel.stamp ## Lint, then run the tests with coverage against the built wheel
	$(RUN) pytest $(PARALLEL) --cov --cov-report=term-missing

lint: $(VENV)/wheel.stamp ## Check style, format and types
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy --num-workers auto

demo: .venv-demo/demo.stamp ## Show the cache at work against a local stand-in for AWS
	@.venv-demo/bin/python examples/demo.py

bench: build/wheel.stamp build/bench/tools/bench.stamp ## Measure, and other clients too: 10 minutes; QUICK=1: a look; ONLY="hit cold": these
	build/bench/tools/bin/python benchmarks/run.py $(if $(QUICK),--quick) $(ONLY)

replay: $(VENV)/wheel.stamp ## Show what happens in one run of the simulation: make replay SEED=123
	cd tests && ../$(VENV)/bin/python -m simulation.replay $(SEED)

# Bounded in count, so in time: two to three minutes by default.
INVOCATIONS := 10000
GETS := 1000000
SEEDS := 8000

soak: $(VENV)/wheel.stamp ## Use a cache for long and see that nothing is left over; GETS=, INVOCATIONS=, SEEDS=
	cd tests && ../$(VENV)/bin/python -m simulation.soak --invocations $(INVOCATIONS) --gets $(GETS) --seeds $(SEEDS)

# docs/mutants.md tells of those that may survive.
mutants: $(VENV)/mutants.stamp ## Change the code in 12,000 ways, and see that the tests notice 95 % of them: 2 to 4 hours
	$(RUN) mutmut run --max-children 4
	$(RUN) mutmut export-cicd-stats
	$(VENV)/bin/python -c 'import json; found = json.load(open("mutants/mutmut-cicd-stats.json")); print(found); \
	    exit(found["killed"] + found["timeout"] < 0.95 * found["total"])'

build: $(VENV)/tools.stamp ## Build the sdist, and from it the wheel, into dist/
	rm -rf dist
	$(RUN) build --outdir dist

site: $(VENV)/tools.stamp ## Build the documentation's site into build/site
	$(RUN) zensical build --strict

clean: ## Remove all that make has made
	rm -rf .venv .venv-* __pycache__ build dist mutants .cache .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find asecretcache tests examples benchmarks deploy -name __pycache__ -prune -exec rm -rf {} +

# --- Every CPython >= 3.11 on PATH or from pyenv, each in an environment of its own: .venv-3.11, .venv-3.12, ...
# A version may never reach the lines that are there for another, so here the union of the runs has to cover everything.

# Each goal that needs them looks the interpreters up; no other goal starts one.
ifneq ($(filter test-all test-union,$(MAKECMDGOALS)),)
VERSIONS := $(shell for python in $(CANDIDATES) "$$HOME"/.pyenv/versions/*/bin/python3; do \
	"$$python" -c '$(USABLE)' >/dev/null 2>&1 && "$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; \
	done | sort -u -t. -k1,1n -k2,2n)
endif

test-all: test-union ## Lint, then run the tests with every Python >= 3.11 that is found

test-union: lint $(VERSIONS:%=.venv-%/tested)
	@test -n "$(VERSIONS)" || { echo "No CPython >= 3.11 was found." >&2; exit 1; }
	$(RUN) coverage combine --keep $(VERSIONS:%=.venv-%/coverage)
	$(RUN) coverage report
	@echo "Tested with Python $(VERSIONS)"

.PHONY: $(VERSIONS:%=.venv-%/tested)
$(VERSIONS:%=.venv-%/tested): .venv-%/tested: .venv-%/wheel.stamp
	COVERAGE_FILE=.venv-$*/coverage .venv-$*/bin/python -P -m pytest $(PARALLEL) -o cache_dir=.venv-$*/pytest_cache \
	    --cov --cov-report= --cov-fail-under=0

# --- The newest aiobotocore, or a chosen one: make test-sdk AIOBOTOCORE='==3.9.*'. aioboto3 pins another one;
# docs/hosts.md has the ways around the pin.

# What meets the SDK: the sources, and what is promised of failures, of redaction and of handlers.
SDK_TESTS := sources lambda_ cli end_to_end/test_awslambdaric.py end_to_end/test_faults.py end_to_end/test_redaction.py

test-sdk: .venv-sdk/wheel.stamp ## Run the tests of what meets the SDK with the newest aiobotocore; AIOBOTOCORE='==3.9.*': that
	@$(call install,.venv-sdk,--upgrade 'aiobotocore$(AIOBOTOCORE)')
	.venv-sdk/bin/python -P -m pytest $(PARALLEL) -o cache_dir=.venv-sdk/pytest_cache $(SDK_TESTS:%=tests/%)

# --- The templates of deploy/, with the tools of those who deploy them; checkov's pins differ from the others'.

test-templates: .venv-templates/templates.stamp .venv-checkov/checkov.stamp ## Check the templates of deploy/ with cfn-lint, SAM, checkov and hcl2
	.venv-templates/bin/python -P -m pytest -q -c /dev/null -p no:cacheprovider --rootdir deploy deploy
	.venv-checkov/bin/python -P -m checkov.main --config-file deploy/.checkov.yaml --directory deploy

# --- Environments: made once, their tools installed when pyproject.toml changes, the wheel whenever a source does.

.PRECIOUS: %/made.stamp .venv-%/made.stamp %/tools.stamp %/wheel.stamp

$(VENV)/made.stamp .venv-sdk/made.stamp .venv-templates/made.stamp .venv-checkov/made.stamp:
	@python=$$($(FIND_PYTHON)) && $(call make-environment,$(@D),$$python)
	@touch $@

.venv-%/made.stamp:
	@for python in python$* "$$HOME"/.pyenv/versions/$*.*/bin/python3 python3; do \
	    if "$$python" -c '$(USABLE)' >/dev/null 2>&1 && \
	       "$$python" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$*")'; then \
	        $(call make-environment,.venv-$*,$$python) && touch $@; exit; fi; \
	done; echo "No Python $* was found." >&2; exit 1

%/tools.stamp: %/made.stamp pyproject.toml
	@$(call install,$*,--group dev)
	@$*/bin/python -P -m pip --disable-pip-version-check --no-input download --quiet --no-deps --dest $*/emulator \
	    aws-sam-cli || echo "AWS's emulator can't be downloaded; its tests will be skipped."
	@touch $@

.venv-templates/templates.stamp .venv-checkov/checkov.stamp: %.stamp: pyproject.toml
	@$(MAKE) --no-print-directory $(@D)/made.stamp
	@$(call install,$(@D),--group $(@F:.stamp=))
	@touch $@

# What the demo needs and no more; it says what it does meanwhile.
.venv-demo/demo.stamp: pyproject.toml $(SOURCES)
	@echo "The demo's environment, .venv-demo, is made once; with a fast network that takes half a minute."
	@echo "1 of 2: a virtual environment, and uv, which installs the others"
	@python=$$($(FIND_PYTHON)) && $(call make-environment,.venv-demo,$$python)
	@echo "2 of 2: asecretcache and what it needs, moto as the Secrets Manager, and AWS's runtime client"
	@export UV_COMPILE_BYTECODE=1; $(call install,.venv-demo,--group demo '.[direct]') || \
	    { echo "This needs a package index: see the messages above, and pip's settings for a mirror or a proxy." >&2; exit 1; }
	@touch $@

$(VENV)/mutants.stamp: $(VENV)/wheel.stamp
	@$(call install,$(VENV),--group mutants)
	@touch $@

# It draws, which tests needn't, and installs the others that are measured.
build/bench/tools/bench.stamp: $(VENV)/tools.stamp pyproject.toml
	@$(call make-environment,build/bench/tools,$(VENV)/bin/python)
	@$(call install,build/bench/tools,--group bench)
	@touch $@

# The same wheel for every environment. The one that builds it has hatchling, so nothing is downloaded.
build/wheel.stamp: $(VENV)/tools.stamp $(SOURCES)
	rm -rf build/wheel && mkdir -p build
	$(RUN) build --wheel --no-isolation --outdir build/wheel >build/wheel.log 2>&1 || { cat build/wheel.log; exit 1; }
	@touch $@

# First with its dependencies, then by force: its version is the same after every change. Once they are there, nothing is
# asked of an index.
%/wheel.stamp: %/tools.stamp build/wheel.stamp
	@$(call uv,$*) --offline build/wheel/*.whl 2>/dev/null || $(call install,$*,build/wheel/*.whl)
	@$(call install,$*,--force-reinstall --no-deps build/wheel/*.whl)
	@touch $@
