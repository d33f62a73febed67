"""What all tests share."""

import os

# Threads of a worker would wait for those of another; BLAS and torch read this when
# they are imported, and programs that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch

# DeepXDE asks for a backend, and writes on stdout, when it is imported without one.
os.environ.setdefault("DDE_BACKEND", "pytorch")

torch.set_num_threads(1)
hypothesis.settings.register_profile(
    "quick", deadline=None, max_examples=40, derandomize=True
)
hypothesis.settings.load_profile("quick")


@pytest.fixture(autouse=True)
def _no_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded runs write no report, which would take half of their time."""
    if request.node.get_closest_marker("reported") is None:
        monkeypatch.setattr("fedsciml.training._reported", lambda *_: None)
