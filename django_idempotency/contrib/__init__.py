"""Parts for other tools. Each is an app of its own: list it in ``INSTALLED_APPS``."""
