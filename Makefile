# What a checkout can do with nothing but make and Python 3.11 or newer.

PYTHON ?= python3
VENV := .demo/venv

# EXAMPLE_DATABASE=postgresql://... or mariadb://... needs a driver; SQLite comes with Python.
SCHEME := $(firstword $(subst :, ,$(EXAMPLE_DATABASE)))
DRIVER_postgresql := psycopg[binary]
DRIVER_mariadb := mysqlclient
DRIVER_mysql := mysqlclient
INSTALLED := $(VENV)/installed-$(or $(SCHEME),sqlite)

.PHONY: demo
demo: $(INSTALLED)
	$(VENV)/bin/python -m example_project.demo

$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("Python 3.11 or newer is needed: make demo PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[drf]" gunicorn $(DRIVER_$(SCHEME))
	touch $@
