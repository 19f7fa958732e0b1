"""A process that counts requests, forks, and ends in order."""

import os
import sys

import django


def main() -> None:
    django.setup()
    from django_idempotency.contrib.statistics.counting import counter

    counter.count("pay", "replayed")
    counter.count("pay", "replayed")
    assert counter.waiting == 2
    child = os.fork()
    if child == 0:
        assert counter.waiting == 0  # they are its parent's
        counter.count("pay", "replayed")
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0
    print("ends")


if __name__ == "__main__":
    main()
