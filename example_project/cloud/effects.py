"""What follows the commit of an order."""

from django.core.mail import EmailMessage

from django_idempotency.effects import current_effect, effect

from .models import Order, Purchase

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


@effect
def send_confirmation(purchase_id: int) -> None:
    """Mail a visitor what he has ordered."""
    purchase = Purchase.objects.get(pk=purchase_id)
    EmailMessage(
        f"Purchase {purchase.pk}",
        f"You have ordered {purchase}.",
        SENDER,
        [purchase.email],
        headers={"Message-ID": f"<{current_effect().key}@cloud.example>"},
    ).send()
