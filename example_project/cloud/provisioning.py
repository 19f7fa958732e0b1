"""What a new machine needs before it can be handed over."""

from ipaddress import IPv4Address

from django.conf import settings
from django.utils.module_loading import import_string

from .models import VirtualMachine

FIRST_ADDRESS = IPv4Address("10.0.0.1")


def provision(machine: VirtualMachine) -> None:
    """Have the provisioner of the settings prepare the machine.

    By itself this is a step after the purchase: a process that dies here leaves a machine that is
    paid for and has no address. With a key, purchase, address and response are one commit. Both
    hold for rows only, so a provisioner writes nothing else.
    """
    import_string(settings.CLOUD_PROVISIONER)(machine)


def place(machine: VirtualMachine) -> None:
    """Give the machine its address."""
    machine.address = str(FIRST_ADDRESS + machine.pk)
    machine.save(update_fields=["address"])
