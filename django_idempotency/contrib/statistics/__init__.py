"""Counts how guarded requests end, per hour and view, without costing a request a statement."""
