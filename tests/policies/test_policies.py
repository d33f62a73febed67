"""Policies by name, and what all of them have in common."""

import copy
from dataclasses import fields, is_dataclass, replace
from math import inf, isfinite, nan
from pathlib import Path

import pytest
import torch
from cases import once
from experiments.steps import POLICIES
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsciml import policies
from fedsciml.linalg.solve import Spectrum
from fedsciml.policies import MARGIN, Candidates, Choice, Policy, Probed, S, lowest
from fedsciml.policies.line_search import LineSearch
from fedsciml.policies.natural import Natural

ELSEWHERE = ["greedy"]
"""Not on the scoreboard of least squares, for which they are not made: for sketches of
few rows with the gradient beside them."""

PROBING = [*(n for n in POLICIES if policies.parse(n).probes), *ELSEWHERE]

EACH = once(PROBING)
ADAPTING = [n for n in PROBING if not n.startswith(("line_search", "spring"))]
"""Those that find their damping or cut-off themselves."""

UNPROBED = ["fixed", "hindsight"]

MOST = 64
"""Losses that a round may cost."""


def test_a_file_is_a_policy() -> None:
    files = Path(policies.__file__).parent.glob("[!_]*.py")
    assert policies.names() == sorted(path.stem for path in files)
    assert {name.partition(":")[0] for name in POLICIES} == {*policies.names()} - {
        *UNPROBED,
        *ELSEWHERE,
    }
    for name in policies.names():
        assert 20 < len(policies.summary(name)) < 88
        assert type(policies.parse(name)).__module__ == f"fedsciml.policies.{name}"


def test_only_fixed_steps_and_those_judged_later_are_not_probed() -> None:
    found = {name: policies.parse(name).probes for name in policies.names()}
    assert [name for name, probes in found.items() if not probes] == UNPROBED


def test_the_default_of_the_methods_is_natural() -> None:
    assert policies.parse("natural") == Natural()


@pytest.mark.parametrize("name", policies.names())
def test_a_bare_name_is_the_policy_with_its_defaults(name: str) -> None:
    made = policies.parse(name)
    assert made == type(made)() == policies.parse(f" {name}: ")
    options = policies.options(name)
    assert options
    for option in fields(made):
        value = getattr(made, option.name)
        assert (option.name in options) == isinstance(value, (bool, int, float))
        assert option.name not in options or options[option.name].default == value


@pytest.mark.parametrize(
    ("name", "option"), [(n, o) for n in policies.names() for o in policies.options(n)]
)
def test_every_option_can_be_given_alone_and_changes_nothing_else(
    name: str, option: str
) -> None:
    default = policies.options(name)[option].default
    text, value = {
        bool: ("TRUE", True),
        int: ("3", 3),
        float: ("2.5e-2", 0.025) if option != "greed" else ("2.5e2", 250.0),
    }[type(default)]
    found = policies.parse(f"{name}:{option}={text}")
    assert found == replace(policies.parse(name), **{option: value})
    assert type(getattr(found, option)) is type(default)


def test_options_are_separated_by_commas() -> None:
    found = policies.parse(" line_search: damping = 1e-6, memory=10,cutoff=0 ")
    assert found == LineSearch(1e-6, 0.0, memory=10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "There is no policy ''; choose one of continuation, fixed, gain,"),
        ("linesearch", "no policy 'linesearch'.*as NAME or.*mean 'line_search'?"),
        ("_one_step", "There is no policy '_one_step'"),
        ("Natural", "no policy 'Natural'.*Did you mean 'natural'?"),
        ("natural,slack=0.5", "There is no policy 'natural,slack=0.5'"),
        (
            "spring:momentun=0",
            "'spring' has no option 'momentun'; its options are damp",
        ),
        (
            "spring:momentun=0",
            "options are damping, momentum. Did you mean 'momentum'?",
        ),
        ("spring:0.9", "'spring' has no option '0.9'"),
        ("natural:lengths=1", "'natural' has no option 'lengths'"),
        ("spring:momentum", "momentum must be a number, got ''; give NAME or NAME:OPT"),
        (
            "spring:momentum=much",
            "policy 'spring:momentum=much', momentum must be a nu",
        ),
        ("natural:up=2.0", "up must be a whole number, got '2.0'"),
        ("levenberg_marquardt:acceleration=1", "acceleration must be true or false, g"),
        ("levenberg_marquardt:tries=many", "tries must be a whole number, got 'many'"),
        ("natural:slack=1", r"slack must be in \(0, 1\), got 1.0"),
        ("natural:newton=nan", r"newton must be in \(0, 1\), got nan"),
        ("natural:floor=0", r"floor must be in \(0, 1\), got 0.0"),
        ("natural:directions=0", "directions of at least 1 and some lengths; got .100"),
        ("line_search:memory=-1", "memory must be at least 0, got -1"),
        ("line_search:damping=-1", "damping must be at least 0, got -1.0"),
        ("fixed:cutoff=1", r"cut-off must be in \[0, 1\), got 1.0"),
    ],
)
def test_what_is_misspelt_or_out_of_range_is_told(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        policies.parse(text)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_has_no_summary_and_no_options() -> None:
    for question in (policies.summary, policies.options):
        with pytest.raises(ValueError, match="no policy 'gian'.*mean 'gain'?"):
            question("gian")


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([[9.0, 8.0], [7.0, 9.0]], (1, 0)),
        ([[nan, 9.0], [inf, nan]], (0, 1)),
        ([[nan, -inf], [inf, 9.9]], (1, 1)),
        ([[10.0, 11.0]], None),
        ([[nan, inf]], None),
        ([[]], None),
    ],
)
def test_the_lowest_loss_is_finite_and_below_that_at_theta(
    losses: list[list[float]], expected: tuple[int, int] | None
) -> None:
    found = lowest(torch.tensor(losses).double(), 10.0)
    assert found == (Choice(*expected) if expected else None)


def test_steps_are_inside_and_beyond_of_the_basis() -> None:
    basis = torch.eye(2, 4).double()
    candidates = Candidates(torch.ones(3, 2).double(), [0.0] * 3, [0.0] * 3, [1.0])
    inside = torch.tensor([1.0, 1.0, 0.0, 0.0]).double()
    assert torch.equal(candidates.steps(basis), inside.expand(3, 4))
    beyond = torch.arange(12).double().view(3, 4)
    found = candidates._replace(beyond=beyond).steps(basis)
    assert torch.equal(found, inside + beyond)


def random_spectrum(k: int, p: int, random: torch.Generator) -> Spectrum:
    """Singular values over ten decades; an orthonormal basis."""
    decades = 10 * torch.rand(k, generator=random, dtype=torch.float64)
    s = 10 ** (2 - decades.sort().values)
    basis = torch.linalg.qr(torch.randn(p, k, generator=random).double()).Q.mT
    c = torch.randn(k, generator=random).double() * 10 ** float(s.new_tensor(k) - 3)
    return Spectrum(s, c, basis, torch.eye(k).double())


def random_answer(
    shape: tuple[int, int], spectrum: Spectrum, loss: float, random: torch.Generator
) -> Probed:
    """Losses from a thousandth to ten times that at theta; some are not finite."""

    def draw(*size: int) -> Tensor:
        return torch.rand(*size, generator=random, dtype=torch.float64)

    losses = loss * 10 ** (4 * draw(*shape) - 3)
    bad = draw(*shape)
    losses[bad < 0.1] = nan
    losses[bad > 0.9] = inf
    targets = 2 * draw(*shape, 1) * spectrum.c * (0.5 + draw(*shape, len(spectrum.s)))
    targets[losses.isnan()] = nan
    return Probed(losses.to(spectrum.s), targets.to(spectrum.s))


def values(state: object) -> tuple[object, ...]:
    """The numbers and tensors of a policy's state."""
    return tuple(getattr(state, field.name) for field in fields(state))


def same(a: object, b: object) -> bool:
    """Bit for bit, with NaN equal to itself."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if is_dataclass(a):
        return type(a) is type(b) and same(values(a), values(b))
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def check_round(
    policy: Policy[S],
    spectrum: Spectrum,
    loss: float,
    state: S,
    random: torch.Generator,
) -> tuple[float, S]:
    """One round of what every policy must do; the loss and the state after it."""
    before = copy.deepcopy((spectrum, state))
    assert 0 <= policy.reach(state) < 1
    candidates = policy.propose(spectrum, state)
    dampings, cutoffs, lengths = candidates[1:4]
    assert candidates.coordinates.shape == (len(dampings), len(spectrum.s))
    assert candidates.coordinates.dtype == spectrum.s.dtype
    assert bool(candidates.steps(spectrum.basis).isfinite().all())
    assert len(dampings) == len(cutoffs)
    assert 1 <= len(dampings) * len(lengths) <= MOST
    assert all(mu >= 0 and isfinite(mu) for mu in dampings)
    assert all(0 <= cutoff < 1 for cutoff in cutoffs)
    assert same(policy.propose(spectrum, state), candidates)
    shape = (len(dampings), len(lengths))
    probed = random_answer(shape, spectrum, loss, random)
    given_ = copy.deepcopy((candidates, probed))
    choice, after = policy.choose(spectrum, loss, candidates, probed, state)
    again = policy.choose(spectrum, loss, candidates, probed, state)
    assert same(again, (choice, after))
    assert same((spectrum, state), before)
    assert same((candidates, probed), given_)
    assert type(after) in policy.kinds
    for value in filter(lambda v: v is not None, values(after)):
        kept = isinstance(value, (int, float)) and isfinite(value)
        assert kept or (isinstance(value, Tensor) and bool(value.isfinite().all()))
    if choice is None:
        return loss, after
    there = float(probed.losses[choice.step, choice.length])
    assert isfinite(there)
    if choice.correction is not None:
        assert choice.correction.shape == spectrum.s.shape
        assert bool(choice.correction.isfinite().all())
    return there, after


@pytest.mark.parametrize("name", [*PROBING, "fixed"])
def test_for_other_clients_losses_are_forgotten_and_nothing_else(name: str) -> None:
    policy, random = policies.parse(name), torch.Generator().manual_seed(0)
    state, start, loss = policy.start(2.0**-52), policy.start(2.0**-52), 1.0
    for _ in range(4 if policy.probes else 0):
        drawn = random_spectrum(4, 5, random)
        loss, state = check_round(policy, drawn, loss, state, random)
    found = policy.renewed(state, 2.0**-52)
    if not policy.kinds:
        assert found is start is None
        return
    forgotten = {"ceiling", "best", "peak", "slow", "losses"}
    for field in fields(start):
        kept = start if field.name in forgotten else state
        assert same(getattr(found, field.name), getattr(kept, field.name))


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, pytest.param(torch.float32, marks=pytest.mark.slow)],
    ids=str,
)
@pytest.mark.parametrize("name", EACH)
@settings(max_examples=15)
@given(st.integers(0, 2**31))
def test_in_any_state_proposals_are_few_and_choices_pure_and_finite(
    name: str, dtype: torch.dtype, seed: int
) -> None:
    random, p = torch.Generator().manual_seed(seed), 6
    policy = policies.parse(name)
    state, loss = policy.start(torch.finfo(dtype).eps), 1.0
    for _ in range(12):
        k = int(torch.randint(0, p, (), generator=random))
        drawn = random_spectrum(k, p, random)
        spectrum = Spectrum(*(part.to(dtype) for part in drawn))
        loss, state = check_round(policy, spectrum, loss, state, random)


@pytest.mark.parametrize("name", [*PROBING, "fixed", "fixed:damping=1e-3,cutoff=0"])
def test_a_reach_covers_the_least_damping_or_cutoff(name: str) -> None:
    policy, random = policies.parse(name), torch.Generator().manual_seed(1)
    spectrum, state, loss = random_spectrum(4, 5, random), policy.start(2.0**-52), 1.0
    for _ in range(30):
        candidates = policy.propose(spectrum, state)
        for mu, cutoff in zip(candidates.dampings, candidates.cutoffs, strict=True):
            matters = max(cutoff, MARGIN * mu**0.5 / spectrum.top)
            assert policy.reach(state) <= 1.01 * matters  # decades are rounded
        shape = (len(candidates.dampings), len(candidates.lengths))
        probed = random_answer(shape, spectrum, loss, random)
        _, state = policy.choose(spectrum, loss, candidates, probed, state)


@pytest.mark.parametrize(
    "eps", [2.0**-52, pytest.param(2.0**-23, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", EACH)
def test_where_nothing_ever_helps_no_step_is_taken_and_states_stay_finite(
    name: str, eps: float
) -> None:
    policy, random = policies.parse(name), torch.Generator().manual_seed(0)
    for k in (0, 3):
        spectrum, state = random_spectrum(k, 5, random), policy.start(eps)
        for _ in range(300):
            candidates = policy.propose(spectrum, state)
            shape = (len(candidates.dampings), len(candidates.lengths))
            assert shape[0] * shape[1] <= MOST
            targets = torch.zeros(*shape, k).double()
            probed = Probed(torch.full(shape, 10.0).double(), targets)
            choice, state = policy.choose(spectrum, 1.0, candidates, probed, state)
            assert choice is None
            assert 0 <= policy.reach(state) < 1
            for value in filter(lambda v: v is not None, values(state)):
                assert bool(torch.as_tensor(value).isfinite().all())


@pytest.mark.parametrize("name", EACH)
def test_where_every_step_halves_the_loss_one_is_taken_in_every_round(
    name: str,
) -> None:
    policy, random = policies.parse(name), torch.Generator().manual_seed(0)
    first, state = random_spectrum(4, 5, random), policy.start(2.2e-16)
    for k in range(60):
        loss = 2.0**-k * float(first.c @ first.c)  # half of it within reach
        spectrum = first._replace(c=2.0 ** (-k / 2) * first.c)
        candidates = policy.propose(spectrum, state)
        shape = (len(candidates.dampings), len(candidates.lengths))
        assert shape[0] * shape[1] <= MOST
        # What the linear model has at the candidates, so that nothing is bent.
        lengths = torch.tensor(candidates.lengths, dtype=torch.float64).view(1, -1, 1)
        steps = candidates.coordinates[:, None]
        probed = Probed(
            torch.full(shape, loss / 2).double(),
            spectrum.c - lengths * spectrum.s * steps,
        )
        choice, state = policy.choose(spectrum, loss, candidates, probed, state)
        assert isinstance(choice, Choice)


@pytest.mark.parametrize("name", ADAPTING)
def test_single_precision_asks_for_nothing_below_its_rounding_unit(name: str) -> None:
    policy = policies.parse(name)
    random, eps = torch.Generator().manual_seed(0), 2.0**-23
    spectrum, state, loss = random_spectrum(4, 5, random), policy.start(eps), 1e3
    for _ in range(60):  # every step succeeds
        candidates = policy.propose(spectrum, state)
        pairs = zip(candidates.dampings, candidates.cutoffs, strict=True)
        for mu, cutoff in pairs:
            assert max(mu**0.5 / float(spectrum.s[0]), cutoff) >= 49 * eps
        lengths = torch.tensor(candidates.lengths, dtype=torch.float64).view(1, -1, 1)
        targets = spectrum.c - lengths * spectrum.s * candidates.coordinates[:, None]
        shape = targets.shape[:2]
        probed = Probed(torch.full(shape, loss / 2).double(), targets)
        _, state = policy.choose(spectrum, loss, candidates, probed, state)
        loss /= 2


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("gain:fraction=1", r"Gain's fraction must be in \(0, 1\), got 1.0"),
        ("progress:cutoff=0", r"Progress's cutoff must be in \(0, 1\), got 0.0"),
        ("continuation:factor=2", r"Continuation's factor must be in \(0, 1\)"),
        ("continuation:stagnation=1", r"stagnation must be in \[0, 1\), got 1.0"),
        ("spring:momentum=2", r"momentum must be in \[0, 1\), got 2.0; try 0.5"),
        ("spring:damping=0", r"Spring's damping must be in \(0, 1\), got 0.0"),
        ("levenberg_marquardt:damping=0", "positive damping and at least 1 try"),
        ("levenberg_marquardt:tries=0", "positive damping and at least 1 try"),
    ],
)
def test_options_out_of_range_are_refused(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policies.parse(word)
