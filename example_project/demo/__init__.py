"""The promise, told over real HTTP against real processes: ``python -m example_project.demo``.

Standard library only. What runs here talks to the example as its clients and operators do.
"""
