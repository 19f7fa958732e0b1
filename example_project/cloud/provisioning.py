"""What a new row needs before its request is answered."""

from ipaddress import IPv4Address

from django.conf import settings
from django.db.models import Model
from django.utils.module_loading import import_string
from rest_framework.exceptions import APIException

from .models import VirtualMachine

FIRST_ADDRESS = IPv4Address("10.0.0.1")


class Refused(APIException):
    """The provisioner says no, with a status of its choice."""

    default_detail = "The request cannot be carried out."

    def __init__(self, status: int) -> None:
        self.status_code = status
        super().__init__()


def provision(row: Model) -> None:
    """Have the provisioner of the settings prepare a machine, a payment or another new row.

    By itself this is a step after the write: a process that dies here leaves a payment that nobody
    has prepared. With a key, row, preparation and response are one commit. Both hold for rows only,
    so a provisioner writes nothing else.

    A refusal that policy does not store keeps what the view has written, as it does without a key.
    So views with such a policy call this inside of ``atomic()``.
    """
    import_string(settings.CLOUD_PROVISIONER)(row)


def place(row: Model) -> None:
    """Give a machine its address. Other rows need nothing."""
    if isinstance(row, VirtualMachine):
        row.address = str(FIRST_ADDRESS + row.pk)
        row.save(update_fields=["address"])
