"""Counts replays in the database, for the admin, without costing a replay a statement."""
