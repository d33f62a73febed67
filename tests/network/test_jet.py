"""Channels, their layout, and derivatives of functions."""

import pytest
import torch
from cases import draw
from reference import NaiveJet, relative

from fedsciml.network import MLP
from fedsciml.network.jet import VALUE, Jet, channel, derivatives, layout


@pytest.mark.parametrize(
    ("order", "partitions"), [(1, 1), (2, 2), (3, 5), (4, 15), (5, 52), (6, 203)]
)
def test_chain_rule_of_order_k_has_a_bell_number_of_terms(
    order: int, partitions: int
) -> None:
    top = layout([((0,) * order,)])
    number = top.channels.index(((0,) * order,))
    terms = [p.times for m in top.mixings if m.channel == number for p in m.products]
    assert sum(terms) + 1 == partitions


def test_laplacian_needs_one_channel_for_all_second_derivatives() -> None:
    names = ("x", "y", "z", "v", "w")
    assert len(layout([channel("laplacian", names)]).channels) == 5 + 2
    assert len(layout([channel(2 * c, names) for c in names]).channels) == 2 * 5 + 1


def test_layout_holds_all_lower_derivatives_that_the_chain_rule_asks_for() -> None:
    channels = set(layout([channel("xxy", ("x", "y"))]).channels)
    assert channels == {VALUE, ((0,),), ((1,),), ((0, 0),), ((0, 1),), ((0, 0, 1),)}


@pytest.mark.parametrize("activation", ["tanh", "sin", "sigmoid", "swish"])
@pytest.mark.parametrize(
    "name",
    [
        *("value", "x", "t", "xx", "xt", "yt", "xyt", "xxx", "xxt", "xxxx", "xxyy"),
        *("xytt", "xxxxx", "xxxxxx"),
    ],
)
def test_forward_jets_are_nested_derivatives(activation: str, name: str) -> None:
    names = ("x", "y", "t")
    network = MLP((3, 6, 5, 2), activation=activation)
    theta = network.init(torch.Generator().manual_seed(0))
    points = draw(8, 3)
    wanted = channel(name, names)
    top = layout([wanted])
    jets = network.forward(theta, points, top).output[top.channels.index(wanted)]
    naive = NaiveJet(
        lambda x: network(theta, x.unsqueeze(0)).squeeze(0), points, names, ("u", "v")
    )
    expected = torch.stack([getattr(naive.u, name), getattr(naive.v, name)], dim=1)
    assert relative(jets, expected) < 1e-13  # measured 2e-15


def test_derivatives_of_a_known_function() -> None:
    points = draw(6, 2)
    x, y = points.unbind(1)
    wanted = [VALUE, ((0,),), ((1, 1),), ((0, 0, 1),), ((0, 0), (1, 1))]
    found = derivatives(lambda p: p[:, :1].sin() * (2 * p[:, 1:]).exp(), points, wanted)
    value, cosine = x.sin() * (2 * y).exp(), x.cos() * (2 * y).exp()
    for name, expected in zip(
        wanted, [value, cosine, 4 * value, -2 * value, 3 * value], strict=True
    ):
        torch.testing.assert_close(found[name][:, 0], expected, rtol=1e-13, atol=0)


def test_derivatives_of_functions_that_end_are_zero() -> None:
    found = derivatives(
        lambda x: 3 * x[:, :1], draw(4, 2), [((0,),), ((0, 0),), ((1,),)]
    )
    assert [float(v.abs().max()) for v in found.values()] == [3, 0, 0]
    constant = derivatives(lambda x: torch.ones(4, 1), draw(4, 2), [((0, 1),)])
    assert not constant[((0, 1),)].any()


def test_derivative_names_follow_the_coordinates() -> None:
    assert channel("tx", ("x", "t")) == channel("xt", ("x", "t")) == ((0, 1),)
    assert channel("x1x10", ("x1", "x10")) == ((0, 1),)
    assert channel("value", ("x",)) == VALUE
    with pytest.raises(AttributeError, match="'xz' is no derivative.*x, t"):
        channel("xz", ("x", "t"))


def test_jet_of_several_outputs_asks_for_one() -> None:
    values = draw(3, 2)
    jet = Jet(lambda channel: values, ("x",), ("p", "q"))
    assert torch.equal(jet.q.value, values[:, 1])
    assert torch.equal(jet.values, values)
    with pytest.raises(AttributeError, match=r"p, q.*u\.p\.xx"):
        _ = jet.xx
