"""Support tickets: a plain Django view with session login and CSRF protection.

Nothing here names the guard: the middleware finds the view.
"""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.views.decorators.http import require_http_methods

from ..models import Ticket


@login_required
@require_http_methods(["GET", "POST"])
def tickets(request: HttpRequest) -> HttpResponse:
    mine = Ticket.objects.filter(account=request.user).order_by("pk")
    if request.method == "GET":
        return JsonResponse(list(mine.values("id", "subject")), safe=False)
    subject = request.POST.get("subject", "").strip()
    if not subject or len(subject) > 200:
        return HttpResponseBadRequest("A ticket needs a subject of at most 200 characters.")
    ticket = Ticket.objects.create(account=request.user, subject=subject)
    return JsonResponse({"id": ticket.pk, "subject": ticket.subject}, status=201)
