"""A small cloud: virtual machines, billing, and what else five public APIs offer."""
