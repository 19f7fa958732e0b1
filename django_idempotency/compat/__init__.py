"""All names that this package uses beyond the documented interfaces of Django and frameworks."""
