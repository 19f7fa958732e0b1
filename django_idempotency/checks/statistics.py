"""Checks of statistics: their tables."""

from typing import Any

from django.apps import apps
from django.core.checks import Tags
from django.db import connections, router

from ..compat.commands import is_migrate
from ..conf.settings import Configuration
from ..finding.clients import STATISTICS
from .configuration import Databases, Messages, check
from .databases import incomplete_tables
from .messages import message


@check()
def check_statistics_router(valid: Configuration, databases: Databases) -> Messages:
    models, alias = _models()
    if not all(router.allow_migrate_model(alias, model) for model in models):
        yield message("E080", alias=alias)


@check(Tags.database)
def check_statistics_tables(valid: Configuration, databases: Databases) -> Messages:
    models, alias = _models()
    if alias in databases and not is_migrate():
        lacks = list(incomplete_tables(connections[alias], models))
        if lacks:
            yield message("W080", alias=alias, lacks=" and ".join(lacks))


def _models() -> tuple[list[Any], str]:
    """Return the models, and the alias of their database; none if the app is not installed."""
    app = apps.app_configs.get(STATISTICS)
    models = [] if app is None else list(app.get_models())
    return models, router.db_for_write(models[0]) if models else ""
