"""One kind of work: the command goes through what is due, once or again and again."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator


class Work(ABC):
    """Work in one database, done in rounds.

    :ivar nameless: what is due in the last round, and left alone because nothing in this process
        has its name; by name
    """

    nameless_because: str
    """Why it is left alone, for people."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.nameless: Counter[str] = Counter()

    @abstractmethod
    def listed(self, limit: int) -> Iterator[str]:
        """Yield a line for each piece of work that is due, at most so many."""

    @abstractmethod
    def run(self, limit: int, is_stopped: Callable[[], bool]) -> bool:
        """Do one round.

        :param limit: how much to do at most
        :param is_stopped: if it is true, nothing else begins
        :return: whether the next round may find more at once
        """

    @property
    @abstractmethod
    def has_done_something(self) -> bool:
        """Whether the last round has."""

    @property
    @abstractmethod
    def has_failed(self) -> bool:
        """Whether something has failed in the last round."""

    @abstractmethod
    def done(self) -> str:
        """Return what the last round has done, as a sentence."""

    def summary(self) -> str:
        """Return what the last round has done and left alone."""
        return f"{self.done()}{self.left_alone()}"

    def left_alone(self) -> str:
        """Return what is left alone, as a sentence that continues a text; often nothing."""
        if not self.nameless:
            return ""
        names = ", ".join(f"{name} ({count})" for name, count in sorted(self.nameless.items()))
        return f" Left alone, because {self.nameless_because}: {names}."
