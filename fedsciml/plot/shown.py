"""What a figure shows, as a hash: it tells whether a figure has to be drawn again.

Of each artist the data, to five digits, and its look; not where the layout puts it, and
not how a version of matplotlib renders it. So it is known without rendering, which
takes most of the time.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text


def fingerprint(figure: Figure) -> str:
    """Hash of what a figure shows."""
    words = [repr(figure.get_size_inches().tolist())]
    parts: list[Figure | Axes] = [figure, *figure.axes]
    for part in parts:
        words += _words(part)
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _words(part: Figure | Axes) -> Iterator[str]:
    """Of what is drawn in a figure or in its axes."""
    if isinstance(part, Axes):
        for axis in (part.xaxis, part.yaxis):
            names = getattr(axis.get_major_formatter(), "seq", "")
            locator = axis.get_major_locator()
            places = getattr(locator, "locs", [])
            whole = getattr(locator, "_integer", "")
            yield f"{type(locator).__name__} {whole} {_data(places)} {names}"
            yield f"{axis.get_scale()} {axis.get_label_text()}"
        yield f"{_data(part.get_xlim())} {_data(part.get_ylim())} {part.axison}"
    for artist in part.get_children():
        if isinstance(artist, Legend):
            for text in artist.get_texts():
                yield text.get_text()
        elif words := _artist(artist):
            yield f"{type(artist).__name__} {words}"


def _artist(artist: Any) -> str:  # noqa: ANN401
    """Of one thing drawn; empty of what belongs to all figures, such as a frame."""
    if isinstance(artist, Text):
        return artist.get_text()
    if isinstance(artist, Line2D):
        look = (artist.get_color(), artist.get_linestyle(), artist.get_marker())
        return f"{look} {artist.get_linewidth():g} {_data(artist.get_xydata())}"
    if isinstance(artist, Collection):
        shapes = [_data(path.vertices) for path in artist.get_paths()]
        values = [artist.get_array(), artist.get_offsets(), artist.get_facecolor()]
        return " ".join([*shapes, *map(_data, values), _data(artist.get_edgecolor())])
    if isinstance(artist, AxesImage):
        return f"{_data(artist.get_array())} {_data(artist.get_extent())}"
    if isinstance(artist, Patch):
        return f"{_data(artist.get_path().vertices)} {_data(artist.get_facecolor())}"
    return ""


def _data(values: Any) -> str:  # noqa: ANN401
    """Numbers to five digits."""
    array = np.asarray([] if values is None else values, dtype=float).ravel()
    return " ".join(f"{value:.4e}" for value in array)
