"""What follows the commit of an order."""

from django.core.mail import EmailMessage

from django_idempotency.effects import current_effect, effect

from .models import Order

SENDER = "billing@cloud.example"


@effect
def send_receipt(order_id: int) -> None:
    """Mail the receipt. Two copies, after a crash in between, have one Message-ID."""
    order = Order.objects.select_related("account").get(pk=order_id)
    EmailMessage(
        f"Receipt {order.pk}",
        f"You have ordered {order}.",
        SENDER,
        [order.account.email or f"{order.account}@customers.example"],
        headers={"Message-ID": f"<{current_effect().key}@cloud.example>"},
    ).send()
