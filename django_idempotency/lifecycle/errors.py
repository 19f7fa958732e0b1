"""What goes wrong while a view runs under its record."""


class LostRecord(RuntimeError):
    """A record vanished, or changed hands, while its attempt ran."""


class StepError(RuntimeError):
    """A step is used in a way that cannot work. Nothing of it is stored."""


class NotResumable(RuntimeError):
    """What an interrupted attempt left behind cannot be used to finish its operation."""


class ChangedRecipe(StepError):
    """An earlier attempt has stored other steps than the view now takes."""
