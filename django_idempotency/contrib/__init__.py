"""Optional apps for other tools. List each in ``INSTALLED_APPS``."""
