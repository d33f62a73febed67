"""Figures from records and models; matplotlib is imported here and nowhere else.

Functions return a ``matplotlib.figure.Figure`` of its own, in the style of
``fedsciml.mplstyle``; matplotlib's settings stay as they were. ``save`` writes it.
``chart`` and ``coloured`` return SVG for a page instead, in ``web.mplstyle``.
"""

from matplotlib.figure import Figure

from fedsciml.plot.classes import confusion, reliability
from fedsciml.plot.curves import convergence, profile
from fedsciml.plot.images import maps
from fedsciml.plot.layout import Curve, Panel, panels
from fedsciml.plot.owners import drawable, labelled, partition, placed
from fedsciml.plot.pictures import pictures
from fedsciml.plot.sheet import Sheet
from fedsciml.plot.staged import View, at_sites, common, pieces, plane, stage, views
from fedsciml.plot.style import COLOURS, COLUMN, DASHES, MARKERS, PAGE, QUANTITIES, save
from fedsciml.plot.trained import parts, solution
from fedsciml.plot.web import Map, chart, coloured

__all__ = [
    "COLOURS",
    "COLUMN",
    "DASHES",
    "MARKERS",
    "PAGE",
    "QUANTITIES",
    "Curve",
    "Figure",
    "Map",
    "Panel",
    "Sheet",
    "View",
    "at_sites",
    "chart",
    "coloured",
    "common",
    "confusion",
    "convergence",
    "drawable",
    "labelled",
    "maps",
    "panels",
    "partition",
    "parts",
    "pictures",
    "pieces",
    "placed",
    "plane",
    "profile",
    "reliability",
    "save",
    "solution",
    "stage",
    "views",
]
