"""Benchmarks and studies: ``python -m scripts.experiments``.

A module without a leading underscore holds one experiment, or several of one kind: its
cases, what is measured of each, its tables and its figures, in ``EXPERIMENTS``. What
they share has a leading underscore. ``_registry.MODULES`` lists them.
"""
