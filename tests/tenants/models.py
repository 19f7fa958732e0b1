from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Shop(TenantMixin):
    """A tenant; its tables are made by the stories, which is quicker."""

    auto_create_schema = False
    name = models.CharField(max_length=20)

    def __str__(self) -> str:
        return self.name


class Domain(DomainMixin):
    """The host names of a tenant."""
