"""A project with the admin, for ``tests.support.large_table``."""

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.admin.test_admin"
