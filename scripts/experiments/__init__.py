"""Benchmarks and studies: ``python -m scripts.experiments``.

A module without a leading underscore holds an ``EXPERIMENT``, or ``EXPERIMENTS`` of one
kind: the cases, what is measured of each, tables and figures. It is listed because it
is there. What experiments share has a leading underscore.
"""
