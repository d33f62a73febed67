"""A small least-squares problem for tables of losses and targets written by hand."""

import torch
from torch import Tensor

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies import Candidates, Choice, Policy, Probed, S

EPS = torch.finfo(torch.float64).eps
EYE = torch.eye(3).double()
SPECTRUM = Spectrum(
    torch.tensor([10.0, 1.0, 0.05], dtype=torch.float64),
    torch.ones(3).double(),
    EYE,
    EYE,
)
LOSS = 10.0
"""At theta. The linear model predicts a decrease of at most |c|^2 / 2 = 1.5."""


def proposed(policy: Policy[S], state: S | None = None) -> Candidates:
    """The candidates of a state, by default the first."""
    return policy.propose(SPECTRUM, policy.start(EPS) if state is None else state)


def predicted(candidates: Candidates) -> Tensor:
    """Decrease of 1/2 |c - B D|^2 by each candidate [T, S], from the definition."""
    lengths = torch.tensor(candidates.lengths, dtype=torch.float64)
    steps = lengths.view(1, -1, 1) * candidates.coordinates[:, None]
    left = SPECTRUM.c - SPECTRUM.s * steps
    return (SPECTRUM.c.square().sum() - left.square().sum(-1)) / 2


def chosen(
    policy: Policy[S],
    losses: Tensor | list[list[float]],
    state: S | None = None,
    targets: Tensor | None = None,
    loss: float = LOSS,
) -> tuple[Choice | None, S]:
    """The choice from a table of losses [T, S]; targets are zero if not given."""
    state = policy.start(EPS) if state is None else state
    table = torch.as_tensor(losses, dtype=torch.float64)
    if targets is None:
        targets = torch.zeros(*table.shape, 3).double()
    candidates = policy.propose(SPECTRUM, state)
    assert table.shape == (len(candidates.dampings), len(candidates.lengths))
    return policy.choose(SPECTRUM, loss, candidates, Probed(table, targets), state)
