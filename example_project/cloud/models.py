"""Every row here is an effect: a request that runs twice leaves two of them."""

import secrets
import uuid
from hashlib import sha256

from django.conf import settings
from django.db import models


class ApiKey(models.Model):
    """One of an account's keys. Only the digest is kept; the key itself is shown once."""

    account = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_keys")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.digest[:8]} of {self.account}"

    @staticmethod
    def digest_of(key: str) -> str:
        # Keys are random, so a plain digest needs no salt and no slow hash.
        return sha256(key.encode()).hexdigest()

    @classmethod
    def issue(cls, account: models.Model) -> str:
        """Create a key and return it."""
        key = secrets.token_urlsafe(32)
        cls.objects.create(account=account, digest=cls.digest_of(key))
        return key


class Owned(models.Model):
    """Belongs to an account."""

    account = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True


class Order(Owned):
    item = models.CharField(max_length=100)
    quantity = models.PositiveIntegerField(default=1)

    def __str__(self) -> str:
        return f"{self.quantity} x {self.item}"


class Purchase(models.Model):
    """An order of a visitor, who needs no account."""

    number = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    email = models.EmailField()
    items = models.CharField(max_length=500)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.items


class VirtualMachine(Owned):
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    order = models.ForeignKey(Order, models.PROTECT, null=True, blank=True)
    name = models.CharField(max_length=100)
    plan = models.CharField(max_length=50)
    region = models.CharField(max_length=50)
    os_template = models.CharField(max_length=50)
    address = models.GenericIPAddressField(null=True, blank=True, editable=False)

    def __str__(self) -> str:
        return self.name


class LedgerEntry(Owned):
    """A change of a player's balance."""

    user_id = models.CharField(max_length=100)
    delta = models.IntegerField()
    reason = models.CharField(max_length=200)

    class Meta:
        verbose_name_plural = "ledger entries"

    def __str__(self) -> str:
        return f"{self.user_id}: {self.delta:+d}"


class App(Owned):
    name = models.CharField(max_length=100)
    replica_limit = models.PositiveIntegerField(default=3)

    def __str__(self) -> str:
        return self.name


class Cvm(models.Model):
    """A confidential machine of an app; a replica knows the machine it copies."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    app = models.ForeignKey(App, models.CASCADE, related_name="cvms")
    source = models.ForeignKey(
        "self", models.CASCADE, null=True, blank=True, related_name="replicas"
    )
    node_id = models.PositiveIntegerField(null=True, blank=True, help_text="where it runs")

    class Meta:
        verbose_name = "CVM"

    def __str__(self) -> str:
        return str(self.uuid)


class Transaction(Owned):
    """A payment that a merchant has authorised."""

    transaction_id = models.CharField(max_length=32, unique=True, editable=False)
    reference = models.CharField(max_length=100)
    amount = models.PositiveIntegerField(help_text="in the currency's smallest unit")
    currency = models.CharField(max_length=3)

    def __str__(self) -> str:
        return self.transaction_id


class Ticket(Owned):
    subject = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.subject
