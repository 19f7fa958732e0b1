"""Buying a machine that is paid at a gateway: effects outside of the database.

The gateway cannot join our commit. So the view takes steps: each is stored with its result, and an
attempt after a crash goes on where the last one ended. The gateway gets a key that is the same in
every attempt.
"""

from django.db.transaction import non_atomic_requests
from django.utils.decorators import method_decorator
from rest_framework import status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.decorators import idempotent

from .. import gateway
from ..rehearsal import reached
from ..serializers import MachineSerializer

PRICE = 900
"""In the currency's smallest unit."""


@method_decorator(non_atomic_requests, name="dispatch")
class Machines(GenericAPIView):
    """An interrupted purchase goes on by itself: every step is safe to take again."""

    serializer_class = MachineSerializer

    @idempotent(required=True, atomic=False, on_interrupted="run")
    def post(self, request: Request) -> Response:
        return self.buy(request)

    def buy(self, request: Request) -> Response:
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        operation = request._request.idempotency
        reached("before the charge")
        charge = operation.step("charge", self.charge, operation.derive_key("charge"))
        reached("between the steps")
        machine = operation.step("machine", self.create, wanted, request.user)
        reached("after the machine")
        return Response({"charge": charge, "machine": machine}, status=status.HTTP_201_CREATED)

    def charge(self, key: str) -> str:
        reached("in the charge, before the gateway")
        charge = gateway.charge(PRICE, key)
        reached("in the charge, after the gateway")
        return charge

    def create(self, wanted: MachineSerializer, account) -> str:
        reached("in the machine, before its row")
        machine = wanted.save(account=account)
        reached("in the machine, after its row")
        return str(machine.uuid)


class CarefulMachines(Machines):
    """An interrupted purchase waits for somebody who looks at it."""

    @idempotent(required=True, atomic=False, on_interrupted="refuse")
    def post(self, request: Request) -> Response:
        return self.buy(request)
