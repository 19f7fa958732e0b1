"""The ``IDEMPOTENCY`` setting, and the policy of each view that it makes."""
