from django.contrib import admin

from .models import (
    ApiKey,
    App,
    Cvm,
    LedgerEntry,
    Order,
    Purchase,
    Ticket,
    Transaction,
    VirtualMachine,
)


@admin.register(ApiKey, LedgerEntry, Order, Ticket, Transaction, VirtualMachine)
class OwnedAdmin(admin.ModelAdmin):
    list_display = ["__str__", "account", "created_at"]
    list_filter = ["account"]


@admin.register(App)
class AppAdmin(OwnedAdmin):
    list_display = [*OwnedAdmin.list_display, "replica_limit"]


@admin.register(Cvm)
class CvmAdmin(admin.ModelAdmin):
    list_display = ["uuid", "app", "source"]
    list_filter = ["app"]


@admin.register(Purchase)
class PurchaseAdmin(admin.ModelAdmin):
    list_display = ["items", "email", "created_at"]
