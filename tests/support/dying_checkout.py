"""``python -m tests.support.dying_checkout after session COOKIES``: a worker that gets one request
of a visitor, on the tests' database, and is killed ``before`` the commit or ``after`` it."""

import json
import os
import signal
import sys

import django

os.environ |= {
    "DJANGO_SETTINGS_MODULE": "tests.support.server_settings",
    # Read once, when the apps are ready.
    "IDEMPOTENCY_TEST_POLICY": json.dumps({"SCOPE": "session", "SAVE_SESSION": True}),
}
django.setup()

from django.conf import settings  # noqa: E402  (the apps are ready)

from tests.support import carts  # noqa: E402


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    moment, storage, cookies = sys.argv[1:]
    settings.ROOT_URLCONF = carts.__name__
    carts.open_shop(settings, storage)
    {"before": carts.before_store, "after": carts.after_commit}[moment].append(die)
    visitor = carts.Visitor()
    visitor.client.cookies.load(cookies)
    visitor.post("/function/")


if __name__ == "__main__":
    main()
