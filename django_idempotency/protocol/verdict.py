"""What may be said about an interrupted attempt."""

from enum import StrEnum


class Verdict(StrEnum):
    """What a resolver answers if it has no response."""

    RUN_AGAIN = "run again"
    STILL_UNKNOWN = "still unknown"
