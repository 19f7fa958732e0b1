"""For how long expired records may still be wanted."""

from datetime import timedelta

from django.conf import settings

from ..conf.settings import configuration
from .endpoints import endpoints


def longest_tombstone() -> timedelta:
    """Return the longest tombstone that the settings or a guarded view declare.

    A record does not say whose it is, so a purge that spares the longest spares all of them.
    """
    known = configuration()
    policies = [known.policy, *known.policies.values()]
    if getattr(settings, "ROOT_URLCONF", None):
        policies += [each.verdict.policy for each in endpoints() if each.verdict.policy is not None]
    return max(policy.tombstone for policy in policies)
