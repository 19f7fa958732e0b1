"""What can be wrong with effects."""


class EffectError(RuntimeError):
    """An effect is declared or staged in a way that cannot work. Nothing is staged."""


class ChangedEffect(RuntimeError):
    """A stored effect is not what was staged: its row was changed, or the ``SECRET`` is
    another one. It does not run."""
