"""Drawings for a page show the numbers they claim to show, in the page's colours."""

import base64
import io
import math
import re
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
import torch
from cases import CASES, draw

from fedsciml import plot
from fedsciml.plot import COLOURS, Curve, Map, Panel
from fedsciml.plot.web import thinned, written


def path(drawing: str, colour: int) -> np.ndarray:
    """Points of the curve of a colour, in pixels, shape [n, 2]."""
    for element in ElementTree.fromstring(drawing).iter("path"):
        style = element.attrib.get("style", "")
        if f"stroke: var(--c{colour})" in style and "fill: none" in style:
            found = re.findall(r"([-\d.]+) ([-\d.]+)", element.attrib["d"])
            return np.array(found, dtype=float)
    raise AssertionError(drawing)


def words(drawing: str) -> list[str]:
    found = ElementTree.fromstring(drawing).iter("text")
    return ["".join(element.itertext()) for element in found]


def test_a_chart_is_a_linear_map_of_its_numbers() -> None:
    x, y = [0.0, 1.0, 3.0, 4.0], [2.0, -1.0, 5.0, 5.5]
    panel = Panel("", "time", "size", [Curve("a", x, y, 1)], "linear", "linear")
    seen = path(plot.chart(panel), 1)
    assert len(seen) == len(x)
    # Pixels have six decimals, and grow downwards.
    for k, values in enumerate((x, y)):
        slope, _ = np.polyfit(values, seen[:, k], 1)
        assert (slope > 0) == (k == 0)
        np.testing.assert_allclose(
            np.diff(seen[:, k]), slope * np.diff(values), atol=1e-3
        )
    told = words(plot.chart(panel))
    assert {"time", "size", "0", "4"} <= set(told)


def test_a_logarithmic_chart_is_linear_in_the_logarithm() -> None:
    y = [1.0, 1e-3, 1e-12, 1e-5]
    drawing = plot.chart(Panel("", "", "", [Curve("a", range(4), y, 2)], "linear"))
    seen = path(drawing, 2)[:, 1]
    slope, _ = np.polyfit(np.log10(y), seen, 1)
    np.testing.assert_allclose(np.diff(seen), slope * np.diff(np.log10(y)), atol=1e-3)
    assert "10⁻¹²" in words(drawing)


def test_colours_are_those_of_the_page() -> None:
    curves = [Curve("a", [0, 1], [k, k + 1], k, 0, 0) for k in range(len(COLOURS))]
    panel = Panel("", "x", "y", curves, "linear", "linear", spans=[(0, 1, 2)])
    field = Map(np.arange(6.0).reshape(2, 3), ((0, 1), (0, 1)), ("x", "y"))
    for drawing in (plot.chart(panel), plot.coloured(field)):
        assert "var(--soft)" in drawing
        assert not re.search(r"(fill|stroke): #(?!fefefe)", drawing)
    for k in range(len(COLOURS)):
        assert f"stroke: var(--c{k})" in plot.chart(panel)


@pytest.mark.parametrize("bad", [[], [math.nan], [0.0, -1.0], [math.inf, 1e300]])
def test_what_has_no_place_on_an_axis_is_not_drawn(bad: list[float]) -> None:
    curve = Curve("a", list(range(len(bad))), bad)
    assert plot.chart(Panel("", "", "", [curve], "linear")) == ""
    both = [curve, Curve("b", [0, 1], [1e-240, 1e240])]
    assert plot.chart(Panel("", "", "", both, "linear")).startswith("<svg")


def test_a_single_point_is_seen() -> None:
    drawing = plot.chart(Panel("", "", "", [Curve("a", [1], [1e-3])], "linear"))
    assert "<use" in drawing


def test_a_long_curve_keeps_its_ends_and_extremes() -> None:
    y = np.sin(np.arange(5000) / 7)
    y[[17, 4321]], y[100:130] = (9, -9), np.nan
    kept = thinned(y, 100)
    assert len(kept) <= 100
    assert (np.diff(kept) > 0).all()
    assert {0, 17, 4321, 4999} <= set(kept.tolist())
    np.testing.assert_array_equal(thinned(y[:100], 100), np.arange(100))


def test_numbers_at_axes_are_plain_characters() -> None:
    values = (0, 0.25, -2, 1e-7, 2.5e-300, -1e6)
    told = ["0", "0.25", "\N{MINUS SIGN}2", "10⁻⁷", "2.5·10⁻³⁰⁰", "\N{MINUS SIGN}10⁶"]
    assert [written(value) for value in values] == told


def image(drawing: str, number: int = 0) -> np.ndarray:
    """Colours of an image in a drawing, [ny, nx, 4], the first row at the top."""
    data = re.findall(r'href="data:image/png;base64,([^"]*)"', drawing)[number]
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(data)))


def test_a_map_has_a_pixel_for_each_number_and_none_where_there_is_none() -> None:
    values = np.array([[0.0, 1.0, 2.0], [3.0, np.nan, 4.0]])
    field = Map(values, ((0, 3), (0, 2)), ("x", "y"))
    drawing = plot.coloured(field)
    seen = image(drawing)
    # The first row of the image is at the bottom: it is drawn upwards.
    assert re.search(r'transform="matrix\([\d.]+ 0 0 -[\d.]+ ', drawing)
    assert seen.shape == (2, 3, 4)
    colours = matplotlib.colormaps["viridis"](values / 4)
    np.testing.assert_allclose(seen[..., 3], [[1, 1, 1], [1, 0, 1]])
    known = np.isfinite(values)
    np.testing.assert_allclose(seen[known], colours[known], atol=1 / 255)
    assert plot.coloured(Map(values * np.nan, ((0, 1), (0, 1)), ("x", "y"))) == ""


def test_values_at_points_of_a_plane_are_spread_between_them() -> None:
    problem = CASES["hard"]()
    points = torch.cat(
        [draw(300, 2), torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 2)]
    )
    sheet = plot.Sheet(problem, points.double())
    spread = sheet.spread((2 * points[:, 0] - points[:, 1]).double().numpy())
    (x0, x1), (y0, y1) = sheet.box
    n = len(spread)
    x, y = np.meshgrid(np.linspace(x0, x1, n), np.linspace(y0, y1, n))
    known = np.isfinite(spread)  # a plane is its own interpolation
    assert known.mean() > 0.5
    np.testing.assert_allclose(spread[known], (2 * x - y)[known], atol=1e-12)


def test_a_grid_is_its_own_map() -> None:
    problem = CASES["hard"]()
    points, _ = plot.stage(problem)
    sheet = plot.Sheet(problem, points)
    x = sheet.spread(points[:, 0].numpy())
    assert (np.diff(x, axis=1) > 0).all()
    assert (np.diff(x, axis=0) == 0).all()
