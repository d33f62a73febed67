"""Rounds with clients that fail: ask, admit, merge, record, resume."""

from fedsciml.federation.backend import Backend, Clients, Reply
from fedsciml.federation.checkpoint import Checkpoint
from fedsciml.federation.directory import RunDirectory, environment
from fedsciml.federation.exchange import Federation
from fedsciml.federation.files import replace_file
from fedsciml.federation.history import Round
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.loop import run
from fedsciml.federation.participation import Rules, TooFewClients
from fedsciml.federation.result import Result
from fedsciml.federation.traffic import Traffic

__all__ = [
    "Backend",
    "Checkpoint",
    "Clients",
    "Federation",
    "InProcess",
    "Reply",
    "Result",
    "Round",
    "Rules",
    "RunDirectory",
    "TooFewClients",
    "Traffic",
    "environment",
    "replace_file",
    "run",
]
