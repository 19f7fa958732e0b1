"""Where records lie: in which database, and in which tenant's part of it.

django-tenants and its relatives keep each tenant in a schema of PostgreSQL, and write the current
one on the connection of the thread (``connection.schema_name``). Connections and threads that this
package opens beside the request know nothing of that, so the place is read in the request's thread
and taken along.
"""

from dataclasses import dataclass, field
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

SERVER = ("HOST", "PORT", "NAME")
"""What of ``DATABASES`` tells one database from another."""

TENANT = ("schema_name", "tenant", "include_public_schema")
"""What django-tenants and django-tenant-schemas keep on a connection."""


@dataclass(frozen=True, slots=True)
class Place:
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
        """What tells this place from others, for names of what is kept elsewhere."""
        return (self.using, *self.database, self.schema)

    def enter(self, connection: BaseDatabaseWrapper) -> None:
        """Let a connection to the same database speak for the tenant of this place."""
        if not self.schema or _tenant_of(connection) == self._tenant:
            return
        there: Any = connection
        _, tenant, include_public = self._tenant
        options = () if include_public is None else (include_public,)
        if tenant is None:
            there.set_schema(self.schema, *options)
        else:
            there.set_tenant(tenant, *options)


def place_of(using: str) -> Place:
    """Return the place of an alias as this thread sees it now. Asks the database nothing."""
    connection = connections[using]
    tenant = _tenant_of(connection)
    database = tuple(str(connection.settings_dict[name]) for name in SERVER)
    return Place(using, database, tenant[0] or "", tenant)


def _tenant_of(connection: BaseDatabaseWrapper) -> tuple[Any, ...]:
    return tuple(getattr(connection, name, None) for name in TENANT)
