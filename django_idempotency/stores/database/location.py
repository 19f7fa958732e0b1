"""Where records are: in which database, and in which tenant's part of it.

django-tenants and similar packages keep each tenant in a schema of PostgreSQL, and write the
current one on the connection of the thread (``connection.schema_name``). The connections and
threads that this package opens beside the request do not have that attribute, so the location is
read in the request's thread and passed on.
"""

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ...models import IdempotencyRecord


@dataclass(frozen=True, slots=True)
class Location:
    """A database, as one thread saw it at one moment.

    :ivar using: alias of the database
    :ivar database: what its settings say about where it is
    :ivar schema: the tenant's; empty where connections know no tenants
    """

    using: str
    database: tuple[str, ...]
    schema: str
    _tenant: tuple[Any, ...] = field(compare=False, repr=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """What identifies this location, for the names of copies."""
        return (self.using, *self.database, self.schema)

    def enter(self, connection: BaseDatabaseWrapper) -> None:
        """Let a connection to the same database speak for the tenant of this location."""
        if not self.schema or _tenant_of(connection) == self._tenant:
            return
        there: Any = connection
        _, tenant, include_public = self._tenant
        options = () if include_public is None else (include_public,)
        if tenant is None:
            there.set_schema(self.schema, *options)
        else:
            there.set_tenant(tenant, *options)

    def namesakes(self) -> "list[Location]":
        """Return this location and those of other aliases with the same database name, which may be
        the same database behind a pooler.

        One too many does no harm: copies are deleted by these names.
        """
        *_, name = self.database
        named = [
            (alias, _database_of(each))
            for alias, each in connections.settings.items()
            if str(each["NAME"]) == name
        ]
        others = [replace(self, using=alias, database=there) for alias, there in named]
        return [self, *(each for each in others if each != self)]


def location_of(using: str) -> Location:
    """Return the location of an alias as this thread sees it now. Asks the database nothing."""
    connection = connections[using]
    tenant = _tenant_of(connection)
    return Location(using, _database_of(connection.settings_dict), tenant[0] or "", tenant)


@cache
def label_of(using: str, schema: str | None) -> str:
    """Return what log lines call the database of an alias, or a tenant's schema there."""
    return f'Database "{using}", schema "{schema}"' if schema else f'Database "{using}"'


def location_of_records(using: str) -> Location:
    """Return the location of the table of records.

    Where django-tenants keeps the table in the shared schema alone, that is one location for all
    tenants, whichever of them the thread serves.
    """
    location = location_of(using)
    return replace(location, schema=_public()) if location.schema and is_shared() else location


def is_shared(label: str = IdempotencyRecord._meta.app_label) -> bool:
    """Whether django-tenants keeps one table for all tenants.

    :param label: of the app whose tables are meant; of records, if none is given
    """
    ours = apps.get_app_config(label).name
    kinds = getattr(settings, "TENANT_TYPES", {})
    if kinds:
        own = [parts["APPS"] for kind, parts in kinds.items() if kind != _public()]
        listed = [app for each in own for app in each]
    else:
        listed = getattr(settings, "TENANT_APPS", [ours])
    return not any(ours in {app, app.rpartition(".apps.")[0]} for app in listed)


def _public() -> str:
    return str(getattr(settings, "PUBLIC_SCHEMA_NAME", "public"))


# Written out: a request that is counted asks for both, and a generator is called for each value.


def _database_of(settings_dict: Any) -> tuple[str, ...]:
    """Return what identifies a database in ``DATABASES``."""
    host, port, name = settings_dict["HOST"], settings_dict["PORT"], settings_dict["NAME"]
    return str(host), str(port), str(name)


def _tenant_of(connection: BaseDatabaseWrapper) -> tuple[Any, ...]:
    """Return what django-tenants and django-tenant-schemas set on a connection."""
    return (
        getattr(connection, "schema_name", None),
        getattr(connection, "tenant", None),
        getattr(connection, "include_public_schema", None),
    )
