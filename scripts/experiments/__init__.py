"""Benchmarks and studies: ``python -m scripts.experiments``.

A module without a leading underscore holds one experiment, or several of one kind, in
``EXPERIMENTS``: the cases, what is measured of each, tables and figures. It is an
experiment because it is there. What they share has a leading underscore.
"""
