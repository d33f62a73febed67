"""Handwritten digits of 8 x 8 pixels: which of ten, by clients of unlike labels.

The 1797 digits are those of scikit-learn, 43 people's, from the test part of the UCI
set "Optical recognition of handwritten digits" (E. Alpaydin, C. Kaynak, 1998); its
counts of ink, 0 to 16, are divided by 16, less 0.3, about their mean. Each class is
divided over the clients by a Dirichlet distribution: the smaller alpha, the less alike
are their labels. A client has at least ten.

A fixed fifth of each class, about 359 digits, is for testing alone; the five were drawn
once. The network has 64 - 32 - 10 units and 2410 parameters. Its activation, sin, is
that of the best mean accuracy in a cross-validation of centralised training: 98.6 %
against 98.0 % of tanh.
"""

from torch import Tensor

from fedsciml.network import MLP
from fedsciml.problem import Problem
from fedsciml.problems._data import Shares, classification, packaged, pixels

MEAN = 0.3
"""Of what a pixel of 0 to 1 holds, about."""


def measured() -> tuple[Tensor, Tensor]:
    """All images [1797, 64], of -0.3 to 0.7, and their classes [1797].

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed.
        FileNotFoundError: If it came without the data.
    """
    path = packaged("sklearn", "datasets", "data", "digits.csv.gz")
    images, labels = pixels(path)
    return images / 16 - MEAN, labels.long()


def make(
    clients: int = 5,
    seed: int = 0,
    alpha: float = 0.1,
    balanced: bool = False,
    width: int = 32,
    activation: str = "sin",
    prior: float = 1e-4,
    fold: int = 0,
    size: int | None = None,
) -> Problem:
    """The problem.

    Args:
        clients: Number of clients.
        seed: Of the division of the digits over the clients.
        alpha: Concentration of the Dirichlet distribution, positive: at 0.1 a client
            has two or three classes, at 100 all have the same.
        balanced: Whether all clients have equally many digits; else each class is
            divided by itself.
        width: Of the hidden layer; 0 for none, which is softmax regression.
        activation: tanh, sin, sigmoid, swish or relu.
        prior: lambda of lambda / 2 times the sum of the squared parameters, added to
            the mean loss of a digit; 0 for none.
        fold: Which fifth of the digits is for testing, 0 to 4.
        size: Digits that are trained on, at most 1437; all if not given.

    Raises:
        ValueError: If an option is out of range, or a client would have no digit.
        ModuleNotFoundError: If scikit-learn is not installed.
    """
    images, labels = measured()
    if width < 0:
        raise ValueError(f"The width of a layer is at least 0 (no layer), got {width}.")
    return classification(
        "digits",
        MLP((64, width, 10) if width else (64, 10), activation=activation),
        images,
        labels,
        Shares(clients, alpha, seed, balanced, fold),
        size,
        prior,
        {"width": width, "activation": activation},
    )
