"""``manage.py deliver_order MESSAGE ORDER``: what the consumer of a queue does with one message."""

from django.core.management.base import BaseCommand, CommandParser

from django_idempotency.operations import run_once

from ...models import Order, VirtualMachine
from ...rehearsal import reached


class Command(BaseCommand):
    """A queue delivers a message again whose consumer has died. The message's id is the key."""

    help = "Creates the machine of an order, once per message."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("message", help="id of the message")
        parser.add_argument("order", type=int, help="primary key of the order")

    def handle(self, message: str, order: int, **options: object) -> None:
        self.stdout.write(run_once(create_machine, order, key=message, scope="queue:orders"))


def create_machine(order_id: int) -> str:
    order = Order.objects.get(pk=order_id)
    machine = VirtualMachine.objects.create(
        account=order.account, order=order, name=f"order-{order.pk}", plan=order.item
    )
    reached("in the task, after its row")
    return str(machine.uuid)
