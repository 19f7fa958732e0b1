"""Events of the reseller who sells backups for us: one order per event, however often it comes.

He signs as the Standard Webhooks specification says. An event is handled once; the mail to his
customer follows the commit.
"""

from typing import Any

from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from django_idempotency.webhooks import standard_signature, webhook

from ..effects import send_receipt
from ..models import Order
from ..provisioning import provision


@webhook("reseller", verify=standard_signature("CLOUD_RESELLER_SECRETS"), key_header="webhook-id")
def reseller(request: HttpRequest, event: Any) -> HttpResponse:
    if event["type"] != "order.placed":
        return HttpResponse()
    data = event["data"]
    # A 404 is not stored: the account may come, and so does the event, again.
    account = get_object_or_404(get_user_model(), username=data["account"])
    order = Order.objects.create(account=account, item=data["item"])
    provision(order)
    request.idempotency.after_commit(send_receipt, order.pk)
    return HttpResponse(status=201)
