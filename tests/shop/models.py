from django.db import models


class Order(models.Model):
    """What the views under test buy."""

    item = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.item
