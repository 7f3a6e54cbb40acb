# Two commands: `make demo` and `make test`. Each makes .venv and installs the locked versions first.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := visent tokenizer manifests pipelines trainer
WORKERS ?= 2
# `make check AUDIT=--required` fails where the services that know vulnerabilities cannot be asked.
AUDIT ?=

.PHONY: demo test test-all check lock clean

demo: .venv/demo
	$(BIN)/visent demo --out demo-output

test: .venv/dev
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-all: .venv/dev
	$(BIN)/python -m pytest -n $(WORKERS)

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_imports.py
	$(BIN)/hadolint Dockerfile
	$(BIN)/bandit -q -c pyproject.toml -r $(PACKAGES) setup.py
	$(BIN)/python .ci/audit $(AUDIT)

lock:
	.ci/lock

clean:
	rm -rf .venv demo-output

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: visent needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv

# A stamp per set of extras: reinstalls when the dependencies change.
.venv/demo .venv/dev: setup.py requirements.lock | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -c requirements.lock -e '.[$(@F)]'
	touch $@
