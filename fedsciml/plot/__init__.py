"""Figures from records and models; matplotlib is imported here and nowhere else.

Every function returns a ``matplotlib.figure.Figure`` of its own, in the style of
``fedsciml.mplstyle``; matplotlib's settings stay as they were. ``save`` writes it.
"""

from matplotlib.figure import Figure

from fedsciml.plot.curves import convergence, profile
from fedsciml.plot.images import maps
from fedsciml.plot.layout import Curve, Panel, panels
from fedsciml.plot.owners import partition
from fedsciml.plot.pictures import pictures
from fedsciml.plot.style import COLOURS, COLUMN, DASHES, MARKERS, PAGE, QUANTITIES, save
from fedsciml.plot.trained import solution

__all__ = [
    "COLOURS",
    "COLUMN",
    "DASHES",
    "MARKERS",
    "PAGE",
    "QUANTITIES",
    "Curve",
    "Figure",
    "Panel",
    "convergence",
    "maps",
    "panels",
    "partition",
    "pictures",
    "profile",
    "save",
    "solution",
]
