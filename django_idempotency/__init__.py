"""Exactly-once writes for Django: the ``Idempotency-Key`` header, kept in the database."""

__version__ = "0.1.0"
