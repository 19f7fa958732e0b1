"""Support tickets: a plain Django view with session login and CSRF protection.

Nothing here names the guard: the middleware finds the view.
"""

from django.contrib.auth.decorators import login_required
from django.forms import modelform_factory
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_http_methods

from ..models import Ticket

TicketForm = modelform_factory(Ticket, fields=["subject"])


@login_required
@require_http_methods(["GET", "POST"])
def tickets(request: HttpRequest) -> HttpResponse:
    if request.method == "GET":
        mine = Ticket.objects.filter(account=request.user).order_by("pk")
        return JsonResponse(list(mine.values("id", "subject")), safe=False)
    form = TicketForm(request.POST, instance=Ticket(account=request.user))
    if not form.is_valid():
        return JsonResponse(form.errors, status=400)
    ticket = form.save()
    return JsonResponse({"id": ticket.pk, "subject": ticket.subject}, status=201)
