r"""FedRCL: FedAvg whose clients also contrast what hidden layers make of the classes.

Seo, Kim, Kim, Han, CVPR 2024, arXiv 2401.04928. To the cross-entropy of a batch a
client adds the mean over the network's hidden layers of two losses of the cosines s_ij
of its points i, j there, each a mean over the points i:

* supervised contrastive, with the least similar point p of the class and the two most
  similar points n of others: log(1 + sum of e^((s_in - s_ip) / tau)),
* the divergence penalty log(1 + e^((s_ip - 1) / tau)), where the least similar other
  point p of the class is more similar than 0.7: classes shall not collapse.

These are the pairs of the authors' program. p may be i itself in the first one where
the class has no other. Differences: layers are compared after their activation and with
all pixels, not before it and as means of them; gradients are not clipped. Weight decay,
0.001 in the paper, is the problem's prior.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from fedsciml.likelihoods import Categorical
from fedsciml.methods import fedavg
from fedsciml.methods._averaging import Opening, Update
from fedsciml.methods._base import Method
from fedsciml.methods._local import DRAWN, Carried, minimise
from fedsciml.methods.fedavg import FedAvg
from fedsciml.problem import Problem, Rows
from fedsciml.residual import System


@dataclass(frozen=True)
class FedRCL(FedAvg):
    """FedAvg with the relaxed contrastive loss.

    Args:
        local: How the clients train; by ``sgd`` or ``adam``.
        server_step: Factor of the mean update, positive.
        temperature: tau, positive.
        threshold: Similarity above which points of a class are driven apart.
        negatives: Points of other classes that each point is compared with, at least 1.
        weight: Factor of the contrastive loss, at least 0; 0 is FedAvg.

    Raises:
        ValueError: If an option is out of range.
    """

    name: str = "fedrcl"
    temperature: float = 0.05
    threshold: float = 0.7
    negatives: int = 2
    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local.solver not in DRAWN:
            raise ValueError(
                f"FedRCL trains by {' or '.join(DRAWN)}, not {self.local.solver}."
            )
        if not self.temperature > 0:
            raise ValueError(
                f"The temperature must be positive, got {self.temperature}; try 0.05."
            )
        if self.negatives < 1:
            raise ValueError(f"FedRCL needs 1 or more negatives, got {self.negatives}.")
        if not self.weight >= 0:
            raise ValueError(f"The weight must be at least 0, got {self.weight}.")

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """Itself.

        Raises:
            ValueError: If a term has no classes, or the network no hidden layers that
                it tells of.
        """
        for term in problem.terms:
            if not isinstance(term.likelihood, Categorical):
                raise ValueError(
                    f"FedRCL contrasts classes, but term '{term.name}' of problem "
                    f"'{problem.name}' has likelihood {type(term.likelihood).__name__};"
                    " give it likelihood=likelihoods.Categorical(), or take fedavg."
                )
        network, like = problem.network, torch.zeros(0, dtype=dtype, device="cpu")
        x = like.new_zeros(1, len(problem.coordinates))
        if not network.levels(like.new_zeros(network.size), x):
            raise ValueError(
                f"FedRCL compares hidden layers, which {type(network).__name__} of "
                f"problem '{problem.name}' does not tell; take an MLP, or a network "
                "with a method levels(theta, x)."
            )
        return self

    def _train(
        self, system: System, ask: Opening, memory: Carried | None
    ) -> tuple[Update, Carried | None]:
        extra = partial(self._slope, system.problem)
        trained = minimise(
            system, ask.theta, self.local, memory, draw=ask.draw, extra=extra
        )
        delta = trained.theta - ask.theta
        return Update(delta, trained.loss, system.shard.share), trained.carried

    def _slope(self, problem: Problem, rows: tuple[Rows, ...], x: Tensor) -> Tensor:
        """Gradient [p] of the contrastive loss of the rows at x [p]."""
        leaf = x.detach().clone().requires_grad_()
        loss, points = leaf.new_zeros(()), sum(len(part.points) for part in rows)
        with torch.enable_grad():
            for part in (part for part in rows if len(part.points)):
                assert part.target is not None  # classes have one
                layers = problem.network.levels(leaf, part.points.to(x))
                each = [self.contrast(layer, part.target.to(x)) for layer in layers]
                loss = loss + len(part.points) / points * torch.stack(each).mean()
            (slope,) = torch.autograd.grad(self.weight * loss, leaf)
        return slope

    def contrast(self, features: Tensor, classes: Tensor) -> Tensor:
        """The contrastive loss and the penalty of one layer, a number on the graph.

        Args:
            features: What the layer gives at n points, shape [n, w].
            classes: Of the points, shape [n].
        """
        units = functional.normalize(features)
        cosines = units @ units.mT
        same = classes[:, None] == classes[None]
        own = torch.eye(len(classes), dtype=torch.bool, device=classes.device)
        least = cosines.masked_fill(~same, torch.inf).amin(1)
        others = cosines.masked_fill(same, -torch.inf)
        hardest = others.topk(min(self.negatives, len(classes)), 1).values
        logits = torch.cat([least[:, None], hardest], 1) / self.temperature
        contrastive = torch.logsumexp(logits, 1) - logits[:, 0]
        least = cosines.masked_fill(~same | own, torch.inf).amin(1)
        apart = (least <= self.threshold) | least.isinf()  # or alone in its class
        penalty = functional.softplus((least - 1) / self.temperature)
        penalty = penalty.masked_fill(apart, 0.0)
        return (contrastive + penalty).mean()


def make(
    tau: int = 5,
    learning_rate: float = 0.1,
    local: Literal["adam", "sgd"] = "sgd",
    keep_state: bool = False,
    momentum: float = 0.0,
    server_step: float = 1.0,
    batch: int | None = 50,
    decay: float = 0.998,
    temperature: float = 0.05,
    threshold: float = 0.7,
    negatives: int = 2,
    weight: float = 1.0,
) -> FedRCL:
    """FedRCL from plain options; the defaults are the paper's.

    Args:
        tau: Local epochs per round.
        learning_rate: Local step.
        local: Local solver.
        keep_state: Clients keep their optimiser's state over the rounds.
        momentum: Of the local solver sgd.
        server_step: Factor of the mean update.
        batch: Points of a local step, drawn anew in every epoch.
        decay: Factor of the learning rate from round to round.
        temperature: By which similarities are divided.
        threshold: Similarity above which points of a class are driven apart.
        negatives: Points of other classes that each point is compared with.
        weight: Factor of the contrastive loss; 0 is FedAvg.
    """
    averaged = fedavg.make(
        tau,
        learning_rate,
        local,
        keep_state,
        momentum,
        server_step=server_step,
        batch=batch,
        decay=decay,
    )
    return FedRCL(
        averaged.local,
        server_step,
        temperature=temperature,
        threshold=threshold,
        negatives=negatives,
        weight=weight,
    )
