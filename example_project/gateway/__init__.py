"""A payment gateway, in a process of its own. It honours ``Idempotency-Key``."""
