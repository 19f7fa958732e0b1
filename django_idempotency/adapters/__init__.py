"""How each kind of view is guarded: Django's functions and classes, DRF's, and Ninja's."""
