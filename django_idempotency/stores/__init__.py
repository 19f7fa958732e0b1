"""Where records live. Stores receive their parameters and never read settings."""
