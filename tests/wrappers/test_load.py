"""A method by name, in the wrappers that are asked for."""

import pytest

from fedsciml import methods, wrappers
from fedsciml.wrappers import Balanced, Compressed, Resampled, Warmup


@pytest.mark.parametrize("name", methods.names())
def test_without_wrappers_it_is_the_method(name: str) -> None:
    assert wrappers.load(name) == methods.load(name)


def test_wrappers_stand_around_each_other_in_one_order() -> None:
    found = wrappers.load(
        "fipa",
        compress="bfloat16,feedback",
        warmup="fedavg:2,tau=5",
        resample="4,power=2",
        balance="terms",
        rank="20",
    )
    fipa = methods.load("fipa", rank="20")
    later = Resampled(Balanced(fipa, "terms"), every=4, power=2.0)
    both = Warmup(methods.load("fedavg", tau=5), 2, later)
    assert found == Compressed(both, "bfloat16", feedback=True)


def test_rows_are_balanced_by_gauss_newton_and_fipa_alone() -> None:
    found = {name: wrappers.options(name).get("balance") for name in methods.names()}
    offered = {name: option.choices for name, option in found.items() if option}
    assert offered == {
        "fipa": ("none", "terms", "clients"),
        "gauss_newton": ("none", "terms"),
    }
    with pytest.raises(ValueError, match="'fedavg' has no option 'balance'; its opt"):
        wrappers.load("fedavg", balance="terms")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": "fedavg"}, "rounds is missing; give METHOD:ROUNDS"),
        ({"warmup": "fedavg:0"}, "at least 1 round, got 0"),
        ({"warmup": "fedagv:5"}, "no method 'fedagv'.* mean 'fedavg'"),
        ({"warmup": "fedavg:5,tua=3"}, "'fedavg' has no option 'tua'.* mean 'tau'"),
        ({"warmup": "fedavg:5,tau=x"}, "tau must be a whole number, got 'x'"),
        ({"warmup": "fipa:1,policy=spring:damping=1,memory=2"}, "no option 'memory'"),
        ({"resample": "often"}, "every must be a whole number, got 'often'; give EVE"),
        ({"resample": "5,powr=2"}, "no option 'powr'.* mean 'power'"),
        ({"compress": "float16"}, "A compression is none, float32, bfloat16, or"),
        ({"rnk": "3"}, "no option 'rnk'.* balance. Did you mean 'rank'"),
    ],
)
def test_what_is_misspelt_or_out_of_range_is_said(
    options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        wrappers.load("fipa", **options)  # type: ignore[arg-type]


def test_a_policy_with_options_is_one_option_of_a_warm_up() -> None:
    text = "fipa:3,policy=line_search:damping=0.5,memory=3,sketch=svd,keep-state=false"
    policy = "line_search:damping=0.5,memory=3"
    expected = methods.load("fipa", policy=policy, sketch="svd")
    assert wrappers.first(text) == (expected, 3)
    assert wrappers.first("fipa:1,balance=terms")[0] == wrappers.load(
        "fipa", balance="terms"
    )
