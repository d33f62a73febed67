"""Rounds with clients that fail: ask, admit, merge, record, resume."""

from fedsciml.federation.exchange import Checkpoint, Federation
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.loop import Result, run
from fedsciml.federation.participation import Rules, TooFewClients
from fedsciml.federation.record import Record, Round, environment, replace_file
from fedsciml.federation.traffic import Traffic

__all__ = [
    "Checkpoint",
    "Federation",
    "InProcess",
    "Record",
    "Result",
    "Round",
    "Rules",
    "TooFewClients",
    "Traffic",
    "environment",
    "replace_file",
    "run",
]
