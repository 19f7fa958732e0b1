"""A Django project for the experiments, on a database of its own."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.db import connection, connections
from django.test.utils import setup_test_environment


def set_up() -> None:
    """Load the experiments' project, without the log of what is meant to fail."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "proof.settings"
    django.setup()
    # Connections for claims are then not kept: nobody may be connected to what is removed.
    setup_test_environment(debug=False)
    logging.disable(logging.CRITICAL)


@contextmanager
def database(hurry: bool = True) -> Iterator[Any]:
    """Create a database for the experiments, and remove it at the end.

    :param hurry: commits need not wait for the disk, as nobody pulls the plug
    """
    name = connection.settings_dict["NAME"]
    test: Any = connection.settings_dict["TEST"]
    test["NAME"] = os.path.join(os.path.dirname(name), f"proof_{os.path.basename(name)}")
    if hurry:
        _hurry()
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield connection
    finally:
        connections.close_all()
        connection.creation.destroy_test_db(name, verbosity=0)


def _hurry() -> None:
    options: Any = connection.settings_dict["OPTIONS"]
    if connection.vendor == "postgresql":
        options["options"] = "-c synchronous_commit=off"
    elif connection.vendor == "sqlite":
        options["init_command"] += "; PRAGMA synchronous=OFF"
