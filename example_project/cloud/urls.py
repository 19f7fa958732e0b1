from importlib.util import find_spec

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from django_idempotency.views import RetryGuideView

from .views.compute import CarefulMachines, Machines
from .views.cvms import Apps, Cvms
from .views.economy import Entry, adjust, ledger
from .views.hooks import reseller
from .views.public import PublicMachines
from .views.shop import add, checkout, express, purchase, shop
from .views.tickets import tickets
from .views.transactions import OneTransaction, Transactions
from .views.vps import Orders, VirtualMachines

router = SimpleRouter(trailing_slash=False)
router.register("api/public/v1/vms", PublicMachines, basename="public-vm")
router.register("apps", Apps, basename="app")

urlpatterns = [
    path("api/vps/v1/virtual-machines", VirtualMachines.as_view(), name="machines"),
    path("api/billing/v1/orders", Orders.as_view(), name="orders"),
    path("api/compute/v1/machines", Machines.as_view(), name="paid-machines"),
    path("api/compute/v1/careful-machines", CarefulMachines.as_view(), name="careful-machines"),
    path("api/compute/v1/", include("django_idempotency.reconciliation.urls")),
    path("docs/retries", RetryGuideView.as_view(paths=["^/api/vps/", "^/api/billing/"])),
    path("api/v1/economy/adjust", adjust),
    path("api/v1/economy/ledger", ledger),
    path("api/v1/economy/ledger/<int:pk>", Entry.as_view()),
    path("cvms", Cvms.as_view()),
    path("v1/transactions", Transactions.as_view()),
    path("v1/transactions/<transaction_id>", OneTransaction.as_view()),
    path("tickets", tickets),
    path("hooks/reseller", reseller),
    path("shop/", shop, name="shop"),
    path("shop/cart", add, name="add"),
    path("shop/checkout", checkout, name="checkout"),
    path("shop/express", express, name="express"),
    path("shop/orders/<uuid:number>", purchase, name="purchase"),
    path("", include(router.urls)),
]

if find_spec("adrf") and find_spec("ninja"):
    from .views.backups import Backups, api

    urlpatterns += [path("adrf/backups", Backups.as_view()), path("ninja/", api.urls)]
