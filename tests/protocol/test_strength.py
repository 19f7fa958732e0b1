"""Keys that are likely to come a second time for something else."""

import pytest

from django_idempotency.protocol.strength import ENOUGH, Weakness, weakness_of

pytestmark = pytest.mark.once

WEAK = {
    "a counter": ([str(number) for number in range(1, 9)], Weakness.COUNTER),
    "a counter with a name": ([f"order-{n}" for n in range(996, 1005)], Weakness.COUNTER),
    "a counter in the middle": ([f"a{n}-pay" for n in range(0, 90, 10)], Weakness.COUNTER),
    "most of them count": ([*(f"r-{n}" for n in range(8)), "0b7f-another"], Weakness.COUNTER),
    "seconds": ([str(1_764_600_000 + number * 977) for number in range(6)], Weakness.TIME),
    "milliseconds": ([f"{1_764_600_000_123 + number * 977}" for number in range(6)], Weakness.TIME),
    "dates": ([f"2026-11-{day:02}" for day in range(1, 8)], Weakness.TIME),
    "times": ([f"20261130T{hour:02}15{hour:02}Z" for hour in range(6)], Weakness.TIME),
    "a time and a name": ([f"pay-{1_764_600_000 + number}" for number in range(6)], Weakness.TIME),
    "digits": (["493822", "118274", "993021", "002817", "551290"], Weakness.SHORT),
    "letters": (["kjdhe7", "p0qmx2", "zzkq81", "a8fjz1", "m2hx7q"], Weakness.SHORT),
    "one character": ([letter * 12 for letter in "abcde"], Weakness.SHORT),
}
STRONG = {
    "random UUIDs": [
        "8e03978e-40d5-43e8-bc93-6894a57f9324",
        "2c5ea4c0-4067-41e9-8bad-9b1deb4d3b7d",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "7d444840-9dc0-41d1-b245-5ffdce74fad2",
        "0b7f6f4e-6a80-4c2e-9f63-1d1f0f0f3a55",
    ],
    "random hexadecimal digits": [
        *("3f9a1c77d2e0", "77b01c2d9e4f", "a0b1c2d3e4f5", "0f1e2d3c4b5a", "9a8b7c6d5e4f"),
    ],
    "random digits": [f"{n * 7_919_000_077_773 % 10**17:017}" for n in range(1, 9)],
    "a time and something random": [
        *("20261130-k3jx9q2mzt", "20261130-p0qmx2zzkq", "20261130-a8fjz1m2hx"),
        *("20261130-q8w7e6r5t4", "20261130-z1x2c3v4b5"),
    ],
    "identifiers of several kinds": [
        *("cart-77-checkout", "order-1041-address", "order-1040-cancel"),
        *("pay-9b1deb4d3b7d-first", "invoice-88-2-send"),
    ],
}


@pytest.mark.parametrize("name", WEAK)
def test_keys_that_may_come_again(name: str) -> None:
    keys, weakness = WEAK[name]
    assert weakness_of(keys) == weakness


@pytest.mark.parametrize("name", STRONG)
def test_keys_that_will_not(name: str) -> None:
    assert weakness_of(STRONG[name]) is None


def test_a_few_keys_say_nothing() -> None:
    assert weakness_of([str(number) for number in range(ENOUGH - 1)]) is None
    assert weakness_of([]) is None
