# What a checkout can do with nothing but make and Python 3.11 or newer.

PYTHON ?= python3
DEMO := .demo/venv
VENV := .venv
BENCH := .bench/venv
PEERS := isik drf-idempotencykey "drf-idempotency[redis]" django-idempotency-key
PIP := -m pip --quiet --disable-pip-version-check install

# EXAMPLE_DATABASE=postgresql://... or mariadb://... needs a driver; SQLite comes with Python.
SCHEME := $(firstword $(subst :, ,$(EXAMPLE_DATABASE)))
DRIVER_postgresql := psycopg[binary]
DRIVER_mariadb := mysqlclient
DRIVER_mysql := mysqlclient
INSTALLED := $(DEMO)/installed-$(or $(SCHEME),sqlite)

.PHONY: demo test outages proof check docs extras images demo-async bench

# Runs the example project and checks the whole story over HTTP.
demo: $(INSTALLED)
	$(DEMO)/bin/python -m example_project.demo

# The same for its async views, under ASGI.
demo-async: $(INSTALLED)
	$(DEMO)/bin/python $(PIP) uvicorn adrf django-ninja
	$(DEMO)/bin/python -m example_project.demo --asgi

# Runs the tests on every database that answers; ARGS=--quick: SQLite alone, without servers;
# ARGS=--whole: with every combination; other ARGS go to pytest.
test: $(VENV)/installed
	$(VENV)/bin/python -m tests $(ARGS)

# Redis fails in one way after another for 30 seconds, under duplicates; prints what was seen.
outages: $(VENV)/installed
	IDEMPOTENCY_TEST_OUTAGES=30 $(VENV)/bin/python -m pytest --create-db -rP \
		tests/processes/test_redis_processes.py -k in_every_way

# The documentation as a site, in docs/_build/html. Warnings are errors.
docs: $(VENV)/writers
	$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --quiet -c docs . docs/_build/html

# Tries to break the promise, for up to twenty minutes; ARGS=--short for a first look.
proof: $(VENV)/installed
	$(VENV)/bin/python -m proof $(ARGS)

# The built wheel with each extra, in an environment of its own.
extras: $(VENV)/installed
	IDEMPOTENCY_TEST_EXTRAS=1 $(VENV)/bin/python -m pytest tests/structure/test_packaging.py $(ARGS)

# Pictures of the admin for the documentation, made by a test; needs PostgreSQL and Chromium.
images: $(VENV)/installed
	IDEMPOTENCY_TEST_DATABASE=postgresql IDEMPOTENCY_TEST_IMAGES=docs/images \
		$(VENV)/bin/python -m pytest --create-db --quiet -k pictures tests/admin tests/finding tests/statistics

# What the promise costs, compared with the bare view and with other packages. Needs a quiet
# machine, wrk, PostgreSQL, MariaDB and Redis; ARGS="--only far,driver" measures parts of it,
# ARGS=--resume goes on where a run was stopped, ARGS=--quick is for a look at the harness.
bench: $(BENCH)/installed
	$(BENCH)/bin/python -m benchmarks $(ARGS)

# Types, lint, format.
check: $(VENV)/checkers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(INSTALLED): setup.cfg pyproject.toml | python
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python $(PIP) --editable ".[drf,prometheus]" gunicorn $(DRIVER_$(SCHEME))
	touch $@

$(VENV)/installed: setup.cfg pyproject.toml | python
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --upgrade pip
	$(VENV)/bin/python $(PIP) --editable ".[crypto,drf,opentelemetry,prometheus,redis]" --group test
	@for driver in "psycopg[binary,pool]" mysqlclient; do \
		$(VENV)/bin/python $(PIP) "$$driver" >/dev/null 2>&1 || \
		echo "$$driver cannot be installed here; make test says how to get it"; done
	touch $@

# A package that cannot be installed is named on the page.
$(BENCH)/installed: setup.cfg pyproject.toml | python
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python $(PIP) --editable ".[drf,redis]" gunicorn "psycopg[binary]" hiredis
	$(BENCH)/bin/python $(PIP) mysqlclient || true
	for peer in $(PEERS); do $(BENCH)/bin/python $(PIP) "$$peer" || true; done
	touch $@

$(VENV)/checkers: $(VENV)/installed
	$(VENV)/bin/python $(PIP) --group lint
	touch $@

$(VENV)/writers: $(VENV)/installed
	$(VENV)/bin/python $(PIP) --group docs
	touch $@

.PHONY: python
python:
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("Python 3.11 or newer is needed: make PYTHON=...")'
