"""Networks of images, against torch's own layers and torch.func."""

from collections.abc import Sequence

import pytest
import torch
from cases import draw
from torch import Generator, Tensor

from fedsciml.network import ConvNet, Convolution, Dense, GroupNorm, Pool, fednet, lenet
from fedsciml.network.convolution import ConvTape
from fedsciml.network.jet import VALUE, layout
from fedsciml.network.layers import Layer

VALUES = layout([VALUE])

SMOOTH = [
    Convolution(4),
    GroupNorm(2),
    "tanh",
    Pool(2, "mean"),
    Convolution(3, padding="valid", bias=False),
    "swish",
    Dense(5),
    GroupNorm(),
    "tanh",
    Dense(3),
]
"""On images of 9 x 8 pixels, so that the pool leaves out a row."""

KINKED = [Convolution(2, 5), "relu", Pool(3), Dense(4, bias=False), "relu", Dense(3)]
"""Away from ties and kinks: at random points with probability 1."""


def parts(layers: Sequence[Layer | str]) -> tuple[ConvNet, Tensor, Tensor, ConvTape]:
    network = ConvNet((2, 9, 8), layers)
    theta = network.init(Generator().manual_seed(1))
    theta += 0.1 * torch.randn(
        network.size, generator=Generator().manual_seed(2), dtype=torch.float64
    )
    x = draw(6, 2 * 9 * 8)
    return (
        network,
        theta,
        x,
        network.forward(theta, network.prepared(x, VALUES), VALUES),
    )


def test_a_conv_net_is_the_torch_module_of_the_same_layers() -> None:
    nn = torch.nn
    module = nn.Sequential(
        nn.Unflatten(1, (2, 9, 8)),
        nn.Conv2d(2, 4, 3, padding="same"),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 3, 3, bias=False),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(12, 5),
        nn.LayerNorm(5),
        nn.Tanh(),
        nn.Linear(5, 3),
    ).double()
    network, theta, x, tape = parts(SMOOTH)
    nn.utils.vector_to_parameters(theta, module.parameters())
    assert sum(p.numel() for p in module.parameters()) == network.size
    torch.testing.assert_close(network(theta, x), module(x), rtol=1e-13, atol=1e-14)
    assert torch.equal(tape.output[0], network(theta, x))


def test_largest_of_squares_are_those_of_torch() -> None:
    nn = torch.nn
    module = nn.Sequential(
        nn.Unflatten(1, (2, 9, 8)),
        nn.Conv2d(2, 2, 5, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Linear(12, 4, bias=False),
        nn.ReLU(),
        nn.Linear(4, 3),
    ).double()
    network, theta, x, _ = parts(KINKED)
    nn.utils.vector_to_parameters(theta, module.parameters())
    torch.testing.assert_close(network(theta, x), module(x), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("layers", [SMOOTH, KINKED])
def test_rows_and_products_are_those_of_torch_func(layers: list[Layer | str]) -> None:
    network, theta, x, tape = parts(layers)
    jacobian = torch.func.jacrev(lambda t: network(t, x))(theta)  # [n, c, p]
    found = torch.empty_like(jacobian)
    for q in range(3):
        unit = torch.zeros(1, 6, 3, dtype=torch.float64)
        unit[0, :, q] = 1
        rows = torch.empty(6, network.size, dtype=torch.float64)
        tape.rows(unit, rows)
        found[:, q] = rows
    torch.testing.assert_close(found, jacobian, rtol=1e-12, atol=1e-12)
    tangents, bars = draw(4, network.size), draw(4 * 6, 3).view(4, 1, 6, 3)
    pushed = torch.einsum("ncp,sp->snc", jacobian, tangents)
    torch.testing.assert_close(
        tape.pushes(tangents)[:, 0], pushed, rtol=1e-12, atol=1e-12
    )
    pulled = torch.einsum("ncp,snc->sp", jacobian, bars[:, 0])
    torch.testing.assert_close(tape.pulls(bars), pulled, rtol=1e-12, atol=1e-12)
    for one, several in zip(
        tape.sweep(bars[0, 0]), tape.sweep(bars[:1, 0]), strict=True
    ):
        assert (one is None) == (several is None)
        if one is not None:  # the last bits are those of the processor's products
            torch.testing.assert_close(one, several[0], rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(
        tape.push(tangents[0])[0], pushed[0], rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(tape.pull(bars[0]), pulled[0], rtol=1e-12, atol=1e-12)


def test_values_at_several_thetas_and_by_vmap_are_those_at_each() -> None:
    network, theta, x, _ = parts(SMOOTH)
    thetas = torch.stack([theta, 2 * theta])
    each = torch.stack([network(t, x) for t in thetas])
    images = network.prepared(x, VALUES)
    assert torch.equal(
        network.forward(thetas, images, VALUES, False).output[:, 0], each
    )
    by_vmap = torch.func.vmap(lambda t: network(t, x))(thetas)
    torch.testing.assert_close(by_vmap, each, rtol=1e-13, atol=1e-14)


def test_levels_are_what_the_weights_behind_the_first_take() -> None:
    network, theta, x, _ = parts(SMOOTH)
    levels = network.levels(theta, x)
    assert [list(level.shape) for level in levels] == [[6, 4 * 4 * 4], [6, 12], [6, 5]]
    weight, bias = network.split(theta)[-1]
    last = levels[-1] @ weight.mT + bias
    torch.testing.assert_close(last, network(theta, x), rtol=1e-13, atol=1e-14)


def test_no_points_are_an_image_of_nothing() -> None:
    network, theta, x, _ = parts(KINKED)
    tape = network.forward(theta, network.prepared(x[:0], VALUES), VALUES)
    assert list(tape.output.shape) == [1, 0, 3]
    assert not tape.pull(tape.output).any()
    assert tape.push(theta).numel() == 0


def test_start_depends_on_the_seed_and_scales_with_the_fan_in() -> None:
    network = ConvNet((4, 8, 8), [Convolution(200), GroupNorm(), "relu", Dense(60)])
    start = network.init(Generator().manual_seed(3))
    assert torch.equal(start, network.init(Generator().manual_seed(3)))
    assert not torch.equal(start, network.init(Generator().manual_seed(4)))
    single = network.init(Generator().manual_seed(3), torch.float32)
    assert torch.equal(single, start.float())
    (first, bias), (gain, shift), _, (last, _) = network.split(start)
    assert not bias.any()
    assert bool((gain == 1).all())
    assert not shift.any()
    # 7200 and 768000 draws: relative standard errors of the variance 1.7 and 0.2 %.
    assert float(first.var()) == pytest.approx(1 / 36, rel=0.07)
    assert float(last.var()) == pytest.approx(1 / 12800, rel=0.01)


def test_published_networks_have_their_numbers_of_parameters() -> None:
    assert fednet().size == 25706
    assert fednet(padding="valid").size == 14954
    assert lenet().size == 44190


@pytest.mark.parametrize(
    ("shape", "layers", "message"),
    [
        ((1, 8, 8), [Convolution(4), "relu"], "ends with a dense layer"),
        ((1, 8, 8), ["rely", Dense(2)], "Unknown activation 'rely'.*relu"),
        ((1, 8, 8), [torch.nn.Linear(2, 2), Dense(2)], "is no layer of a ConvNet"),
        ((1, 8, 8), [Convolution(4, 2), Dense(2)], "odd size"),
        ((1, 8, 8), [Convolution(4), GroupNorm(3), Dense(2)], "divide 4 channels"),
        ((1, 8, 8), [Pool(9), Dense(2)], "leaves nothing of images of 8 x 8"),
        ((8, 8), [Dense(2)], "channels, height, width"),
    ],
)
def test_impossible_images_or_layers_are_refused(
    shape: tuple[int, ...], layers: list[object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ConvNet(shape, layers)
