"""A command that two crons start at the same time."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_idempotency.operations import OperationInFlight, run_once
from tests.shop.models import Order


def send_invoices(month: str) -> int:
    return int(Order.objects.create(item=f"invoices of {month}").pk)


class Command(BaseCommand):
    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("month")

    def handle(self, month: str, **options: Any) -> None:
        try:
            run_once(send_invoices, month, key=month, scope="send_invoices")
        except OperationInFlight as error:
            raise CommandError(str(error)) from error
