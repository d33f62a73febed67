"""Figures of the consistency with centralised Gauss-Newton: spectra, trajectories."""

from _figures import Drawing

DRAWINGS: dict[str, Drawing] = {}
