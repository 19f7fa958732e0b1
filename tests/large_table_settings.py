"""A project with the admin, for ``tests.large_table``."""

from .settings import *  # noqa: F403

ROOT_URLCONF = "tests.test_admin"
