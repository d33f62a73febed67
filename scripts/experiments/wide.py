"""Wide networks: rounds of FIPA with up to 1e6 parameters, on a GPU where there is one.

poisson2d, 2 clients, three hidden layers of the same width: 70, 222 and 706 are p =
1e4, 1e5 and 1e6; in float64 and float32, with the range finder on J and with products
of J alone. Seconds of each phase, after two rounds; and the peak of what torch has
allocated on the GPU, the problem's points with it. On the CPU p = 1e4 alone. What does
not fit into the GPU's memory is said and left out.
"""

import sys
from collections.abc import Sequence
from typing import Literal

import torch

from experiments._experiment import Case, Experiment
from experiments._record import Entry
from experiments._rounds import PHASES, Rounds
from experiments._table import Cell, Table, time_of
from experiments.speed import check as check_device
from experiments.speed import summary
from fedsciml import methods, problems

DTYPES = {"float64": torch.float64, "float32": torch.float32}
WIDTHS = {"cpu": (70,), "cuda": (70, 222, 706)}
SKETCHES = ("range", "subspace")

WARM, REPEATS = 2, 3


def cases(entries: Sequence[Entry]) -> list[Case]:
    """Those of the devices that are here."""
    return [
        (device, dtype, width, sketch)
        for device in ("cpu", *["cuda"] * torch.cuda.is_available())
        for width in WIDTHS[device]
        for dtype in DTYPES
        for sketch in SKETCHES
    ]


def check(device: str, dtype: str, width: int, how: str) -> None:
    """Raise ValueError if such a case cannot be made."""
    check_device(device)
    for word, known in ((dtype, DTYPES), (how, SKETCHES)):
        if word not in known:
            raise ValueError(f"Choose one of {', '.join(known)}, not '{word}'.")


def measure(
    device: str, dtype: str, width: int, how: Literal["range", "subspace"]
) -> list[Entry]:
    """Seconds of the phases of a round, the mean of some."""
    problem, place = problems.load("poisson2d", width=width), torch.device(device)
    on_gpu = place.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    method = methods.load("fipa", basis="own", sketch=how)
    try:
        rounds = Rounds(problem, method, place, dtype=DTYPES[dtype])
        found = summary("poisson2d", rounds, WARM, REPEATS)
    except torch.OutOfMemoryError as error:
        print(f"{width}, {dtype}, {how}: {error}", file=sys.stderr)
        return []
    if on_gpu:
        found["peak"] = torch.cuda.max_memory_allocated()
        found["processor"] = torch.cuda.get_device_name()
    return [found]


def tables(entries: Sequence[Entry]) -> list[Table]:
    """The phases of a round, by device, size and precision."""
    lines: list[list[Cell]] = [
        [e[k] for k in ("device", "parameters", "rows", "dtype", "how")]
        + [f"{min(e['ranks'])} to {max(e['ranks'])}"]
        + [time_of(e[k]) for k in (*PHASES, "mean", "seconds")]
        + [f"{e['peak'] / 2**30:.2f}" if "peak" in e else ""]
        for e in sorted(
            entries, key=lambda e: (e["device"], e["parameters"], e["dtype"], e["how"])
        )
    ]
    heads = ["device", "p", "rows", "dtype", "how", "ranks", *PHASES, "round"]
    caption = "A round of FIPA: mean of each phase, of the round, the least, and GiB:"
    return [Table("wide", caption, [*heads, "least", "GiB"], lines)]


EXPERIMENT = Experiment(
    "wide",
    __doc__,
    ("device", "dtype", "width", "how"),
    cases,
    measure,
    tables,
    page="docs/results.md",
    check=check,
)
