"""What goes wrong while a view runs under its record."""

from django.db.transaction import TransactionManagementError


class EndsTransaction(TransactionManagementError):
    """A statement would end the transaction in which it is to be remembered, or that has ended
    already. The statement is not sent."""


class LostWrites(RuntimeError):
    """A view or a step said that it succeeded, and its writes are undone. Nothing is stored."""


class LostRecord(RuntimeError):
    """A record vanished, or changed hands, while its attempt ran."""


class StepError(RuntimeError):
    """A step is used in a way that cannot work. Nothing of it is stored."""


class NotResumable(RuntimeError):
    """What an interrupted attempt left behind cannot be used to finish its operation."""


class ChangedRecipe(StepError):
    """An earlier attempt has stored other steps than the view now takes."""
