"""Experiments that try to break the promise. ``make proof`` runs them all; see docs/proof.md."""
