"""Five contracts of real APIs, statement by statement, as their clients meet them: over HTTP."""
