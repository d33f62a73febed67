"""What the build does with the tutorials: a minute each, and their pictures."""

import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from sphinx_gallery.scrapers import figure_rst

MOST = 60
"""Seconds of one core that a tutorial may take."""


def timed(conf: Mapping[str, Any], path: str, when: str) -> None:
    """Fail what takes longer; called before and after each tutorial."""

    def late(number: int, frame: FrameType | None) -> NoReturn:
        raise TimeoutError(f"{path} takes more than {MOST} s of one core.")

    torch.set_num_threads(1)
    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, MOST if when == "before" else 0)


def pictures(block: object, found: Mapping[str, Any], conf: Mapping[str, Any]) -> str:
    """Take the pictures that a tutorial has saved beside itself."""
    taken = []
    for saved in sorted(Path(found["src_file"]).parent.glob("*.png")):
        taken.append(next(found["image_path_iterator"]))
        shutil.move(saved, taken[-1])
    return figure_rst(taken, conf["src_dir"])
