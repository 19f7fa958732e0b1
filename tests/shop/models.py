from django.db import models


class Order(models.Model):
    """What the views under test buy."""

    item = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.item


class Coupon(models.Model):
    """What can go wrong: there is one of each code."""

    code = models.CharField(max_length=50, unique=True)

    def __str__(self) -> str:
        return self.code


class GiftCoupon(Coupon):
    """A table of its own beside its parent's: creating one takes two statements."""

    giver = models.CharField(max_length=50)
