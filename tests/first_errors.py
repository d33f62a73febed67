"""What is written wrongly in the first hour: the code, what is said, the code mended.

``PRELUDE`` is run before each of them. The page of first errors shows these cases, and
``test_first_errors.py`` holds the library to them.
"""

from typing import NamedTuple

PRELUDE = """\
import deepxde as dde
import numpy as np
import torch
from torch import nn

import fedsciml
from fedsciml import MLP, ModuleNetwork, Parallel, Problem, Term, methods, problems, run
from fedsciml.callbacks import Until
from fedsciml.collocation import explicit, strips
from fedsciml.likelihoods import Categorical

x = torch.linspace(0, 1, 21)[:, None]  # 21 points [n, 1]
xt = torch.rand(30, 2)  # 30 points [n, 2]: x and t


def given(u, row):
    return u.value - row.target


def mine(term, network=MLP((1, 8, 1)), partition=strips([0, 0.5, 1]), **rest):
    return Problem("mine", network, [term], partition, **rest)


def timed(term, **rest):
    return mine(term, MLP((2, 8, 1)), coordinates="xt", **rest)


def flow(term):
    return mine(term, MLP((1, 8, 2)), outputs=("u", "p"))


which = torch.arange(21) % 3  # of three classes


def logits(u, row):
    return u.values


def three(term):
    return mine(term, MLP((1, 8, 3)), outputs="abc")
"""


class Case(NamedTuple):
    """An error.

    Attributes:
        title: What was written, in words.
        wrong: As it was written; raises ValueError.
        says: Parts of what is said, in their order.
        right: As it should have been.
    """

    title: str
    wrong: str
    says: tuple[str, ...]
    right: str


def residual(title: str, wrong: str, *says: str, right: str) -> Case:
    """A case of a residual function, u and row to its value."""
    form = 'mine(Term("pde", lambda u, row: {}, x, target=1.0))'
    where = "residual of term 'pde' of problem 'mine'"
    return Case(title, form.format(wrong), (where, *says), form.format(right))


RESIDUALS = (
    residual(
        "Computing with u itself",
        "u * u.x - u.xx",
        "u * ... takes u for a tensor",
        "Did you mean u.value * ...?",
        right="u.value * u.x - u.xx",
    ),
    residual(
        "u behind a tensor",
        "u.x * u - u.xx",
        "Did you mean ... * u.value?",
        right="u.x * u.value - u.xx",
    ),
    residual("A sign", "-u", "Did you mean -u.value?", right="-u.value"),
    residual(
        "A power",
        "u.xx - u**3",
        "Did you mean u.value ** ...?",
        right="u.xx - u.value**3",
    ),
    residual(
        "A comparison",
        "torch.where(u > 0, u.x, u.xx)",
        "Did you mean u.value > ...?",
        right="torch.where(u.value > 0, u.x, u.xx)",
    ),
    residual(
        "Comparing for equality",
        "u.x * (u == 0)",
        "Did you mean u.value == ...?",
        right="u.x * (u.value == 0)",
    ),
    residual(
        "A function of torch",
        "u.xx - torch.sin(u)",
        "Did you mean torch.sin(u.value)?",
        right="u.xx - torch.sin(u.value)",
    ),
    residual(
        "A function of NumPy",
        "u.xx - np.sin(u)",
        "Did you mean torch.sin(u.value)?",
        right="u.xx - torch.sin(u.value)",
    ),
    residual(
        "A function of NumPy, of the values",
        "u.xx - np.sin(u.value)",
        "RuntimeError",
        "Use the functions of torch",
        right="u.xx - torch.sin(u.value)",
    ),
    residual(
        "A function of the module math",
        "u.xx - __import__('math').exp(u.value)",
        "Use the functions of torch",
        right="u.xx - torch.exp(u.value)",
    ),
    residual(
        "A list of tensors with u in it",
        "torch.stack([u, u.x]).sum(0)",
        "Did you mean torch.stack(u.value)?",
        right="torch.stack([u.value, u.x]).sum(0)",
    ),
    residual("An index", "u[:, 0]", "Did you mean u.value[...]?", right="u.value"),
    residual("u as a function", "u(row.x)", "u(...) takes u for", right="u.value"),
    residual(
        "Returning u",
        "u",
        "it returned a Jet",
        "Did you mean u.value?",
        right="u.value",
    ),
    residual(
        "A branch on values",
        "u.x if u.value > 0 else u.xx",
        "raises RuntimeError",
        "torch.where(u.value > 0, a, b)",
        right="torch.where(u.value > 0, u.x, u.xx)",
    ),
    residual(
        "All outputs instead of the value",
        "u.values - row.target",
        "returned shape [3, 3]",
        "take [:, 0]",
        right="u.value - row.target",
    ),
    residual(
        "A column",
        "u.values",
        "must return one tensor [n]",
        "returned shape [3, 1]",
        "Write u.value",
        right="u.value",
    ),
    residual(
        "The mean of squares",
        "(u.value**2).mean()",
        "returned shape []",
        "Leave out sum and mean",
        right="u.value",
    ),
    residual(
        "Nothing returned",
        "None",
        "returned None",
        "Does the function end with return?",
        right="u.value",
    ),
    residual(
        "A number of Python",
        "0.0",
        "returned a number of Python (float)",
        right="0.0 * u.value",
    ),
    residual(
        "A list of numbers",
        "[float(value) for value in u.value]",
        "returned a number of Python (float)",
        right="u.value",
    ),
    residual(
        "An array of NumPy",
        "u.value.detach().numpy()",
        "returned an array of NumPy",
        "Compute with tensors",
        right="u.value",
    ),
    residual(
        "Whole numbers or truth values",
        "u.value > row.target",
        "must return real numbers that change with u",
        "torch.bool",
        right="torch.relu(u.value - row.target)",
    ),
    residual(
        "Values cut off from their derivative",
        "u.value.detach() - row.target",
        "without a derivative",
        right="u.value - row.target",
    ),
    residual(
        "One entry for all",
        "u.value - row.x[0]",
        "changes with the other points",
        right="u.value - row.x",
    ),
    residual(
        "Normalised by all points",
        "u.value / u.value.abs().max()",
        "changes with the other points",
        right="u.value / (1 + u.value.abs())",
    ),
    residual(
        "Values of all points from outside",
        "u.xx - torch.sin(x[:, 0])",
        "raises RuntimeError",
        "belongs to Term(target=...)",
        right="u.xx - torch.sin(row.x)",
    ),
    residual(
        "A name that does not exist",
        "u.xx - nothing",
        "raises NameError",
        "name 'nothing' is not defined",
        right="u.xx",
    ),
    residual(
        "A derivative with an underscore",
        "u.u_x",
        "'u_x' is no derivative of the solution",
        "the coordinates are x",
        "Did you mean 'x'?",
        right="u.x",
    ),
    residual("The output by its name", "u.u.x", "'u' is the only output", right="u.x"),
    residual(
        "An unknown number that the network has not",
        "u.xx - u.nu",
        "'nu' is no derivative",
        "Unknown numbers",
        "none",
        right="u.xx - 0.1",
    ),
    residual(
        "An attribute of tensors",
        "u.xx - u.sin()",
        "u.sin takes u for a tensor",
        "u.value.sin",
        right="u.xx - u.value.sin()",
    ),
    residual(
        "A misspelt target",
        "u.value - row.targets",
        "no 'targets'",
        "Did you mean 'target'?",
        right="u.value - row.target",
    ),
    residual(
        "Computing with row itself",
        "u.value - torch.sin(row)",
        "Did you mean torch.sin(row.x)?",
        right="u.value - torch.sin(row.x)",
    ),
    residual(
        "An index of row", "u.value - row[:, 0]", "row[...]", right="u.value - row.x"
    ),
    residual(
        "dde.grad of u and row",
        "dde.grad.jacobian(u, row)[:, 0]",
        "u.shape takes u for a tensor",
        "Term(..., autograd=True)",
        right="u.x",
    ),
    residual(
        "u and row the other way round, as DeepXDE's x, y",
        "dde.grad.jacobian(row, u)[:, 0]",
        "row.shape takes row for a tensor",
        "A residual is a function (u, row)",
        right="u.x",
    ),
    Case(
        "Differentiating without saying so",
        'mine(Term("pde", lambda u, row: dde.grad.jacobian(u.values, row.points)[:, 0],'
        " x))",
        ("term 'pde'", "its Term is told: Term(..., autograd=True)"),
        'mine(Term("pde", lambda u, row: dde.grad.jacobian(u.values, row.points)[:, 0],'
        " x, autograd=True))",
    ),
    Case(
        "Differentiating by a coordinate instead of the points",
        'mine(Term("pde", lambda u, row: torch.autograd.grad(u.value.sum(), row.x, '
        "create_graph=True)[0], x, autograd=True))",
        ("term 'pde'", "takes u.values [n, c] and row.points [n, d]"),
        'mine(Term("pde", lambda u, row: torch.autograd.grad(u.value.sum(), row.points,'
        " create_graph=True)[0][:, 0], x, autograd=True))",
    ),
    Case(
        "Differentiating without create_graph",
        'mine(Term("pde", lambda u, row: torch.autograd.grad(u.value.sum(), '
        "row.points)[0][:, 0], x, autograd=True))",
        ("term 'pde'", "without a derivative", "create_graph=True"),
        'mine(Term("pde", lambda u, row: torch.autograd.grad(u.value.sum(), row.points,'
        " create_graph=True)[0][:, 0], x, autograd=True))",
    ),
    Case(
        "A target that the term does not have",
        'mine(Term("data", given, x))',
        ("term 'data'", "reads row.target", "Term(..., target=...)"),
        'mine(Term("data", given, x, target=0.0))',
    ),
    Case(
        "Targets with two columns for one output",
        'mine(Term("data", given, x, target=torch.rand(21, 2)))',
        ("term 'data'", "row.target [3, 2]", "2 columns", "read row.target[:, 0]"),
        'mine(Term("data", lambda u, row: (u.value - row.target[:, 0], u.x - '
        "row.target[:, 1]), x, target=torch.rand(21, 2)))",
    ),
    Case(
        "Targets with two columns, and two rows of points",
        'mine(Term("data", given, x[:2], target=torch.rand(2, 2)), '
        "partition=strips([0, 1]))",
        ("term 'data'", "returned shape [2, 2]", "row.target[:, 0]"),
        'mine(Term("data", given, x[:2], target=torch.rand(2)), '
        "partition=strips([0, 1]))",
    ),
    Case(
        "A coordinate that there is not",
        'timed(Term("pde", lambda u, row: u.t - row.y, xt))',
        ("term 'pde'", "A row has the coordinates x, t", "no 'y'"),
        'timed(Term("pde", lambda u, row: u.t - row.x, xt))',
    ),
    Case(
        "A derivative along a coordinate that there is not",
        'timed(Term("pde", lambda u, row: u.t - u.yy, xt))',
        ("term 'pde'", "'yy' is no derivative", "the coordinates are x, t"),
        'timed(Term("pde", lambda u, row: u.t - u.xx, xt))',
    ),
    Case(
        "Computing with one of several outputs",
        'flow(Term("pde", lambda w, row: w.u * w.u.x + w.p.x, x))',
        ("term 'pde'", "w.u * ... takes w.u for", "Did you mean w.u.value * ...?"),
        'flow(Term("pde", lambda w, row: w.u.value * w.u.x + w.p.x, x))',
    ),
    Case(
        "A function of one of several outputs",
        'flow(Term("pde", lambda w, row: torch.exp(w.p), x))',
        ("term 'pde'", "Did you mean torch.exp(w.p.value)?"),
        'flow(Term("pde", lambda w, row: torch.exp(w.p.value), x))',
    ),
    Case(
        "Computing with all outputs at once",
        'flow(Term("pde", lambda w, row: w * w.p.x, x))',
        ("term 'pde'", "of u, p", "Did you mean w.u.value * ...?"),
        'flow(Term("pde", lambda w, row: w.u.value * w.p.x, x))',
    ),
    Case(
        "A derivative without its output",
        'flow(Term("pde", lambda w, row: w.x, x))',
        ("term 'pde'", "the outputs u, p", "pick one", "w.u.x"),
        'flow(Term("pde", lambda w, row: w.u.x, x))',
    ),
    Case(
        "All outputs as one residual",
        'flow(Term("pde", lambda w, row: w.values, x))',
        ("term 'pde'", "returned shape [3, 2]", "take one each"),
        'flow(Term("pde", lambda w, row: (w.u.value, w.p.value), x))',
    ),
)
"""Of residual functions."""

PARTS = (
    Case(
        "A formula as residual",
        'mine(Term("pde", "u.xx", x))',
        ("Term 'pde'", "needs a function as residual", "got 'u.xx'"),
        'mine(Term("pde", lambda u, row: u.xx, x))',
    ),
    Case(
        "Points before the residual",
        'mine(Term("pde", x, given))',
        ("Term 'pde'", "needs a function as residual", "got Tensor[21, 1]"),
        'mine(Term("pde", given, x, target=0.0))',
    ),
    Case(
        "A residual of one argument",
        'mine(Term("pde", lambda u: u.xx, x))',
        ("term 'pde'", "TypeError", "residual(u, row)"),
        'mine(Term("pde", lambda u, row: u.xx, x))',
    ),
    Case(
        "A term without its name",
        "mine(Term(given, x, 0.0))",
        ("starts with its name", "got given"),
        'mine(Term("data", given, x, 0.0))',
    ),
    Case(
        "A single term",
        'Problem("mine", MLP((1, 8, 1)), Term("data", given, x, 0.0), strips([0, 1]))',
        ("'mine' needs a list of terms", "a single Term 'data'", "terms=[Term("),
        'Problem("mine", MLP((1, 8, 1)), [Term("fit", given, x, 0.0)], strips([0, 1]))',
    ),
    Case(
        "Terms by name",
        'Problem("mine", MLP((1, 8, 1)), {"data": Term("data", given, x, 0.0)}, '
        "strips([0, 1]))",
        ("'mine' needs a list of terms",),
        'Problem("mine", MLP((1, 8, 1)), [Term("fit", given, x, 0.0)], strips([0, 1]))',
    ),
    Case(
        "A residual among the terms",
        "mine(given)",
        ("'mine' has given among its terms", "write Term("),
        'mine(Term("data", given, x, 0.0))',
    ),
    Case(
        "A condition of DeepXDE among the terms",
        "mine(dde.icbc.DirichletBC(dde.geometry.Interval(0, 1), lambda x: 0, "
        "lambda x, on: on))",
        ("'mine' has DirichletBC among its terms", "fedsciml.deepxde.problem"),
        'mine(Term("ends", given, [[0.0], [1.0]], 0.0))',
    ),
    Case(
        "A weight in words",
        'mine(Term("data", given, x, 0.0, weight="10"))',
        ("Term 'data'", "weight '10', of type str", "weight=10"),
        'mine(Term("data", given, x, 0.0, weight=10))',
    ),
    Case(
        "A weight for every point",
        'mine(Term("data", given, x, 0.0, weight=torch.ones(21)))',
        ("Term 'data'", "weight of shape [21]", "one number"),
        'mine(Term("data", given, x, 0.0, weight=torch.tensor(10.0)))',
    ),
    Case(
        "Points as numbers",
        'mine(Term("data", given, [0.1, 0.6], 0.0))',
        ("term 'data'", "shape [2]", "[n, 1]", "points[:, None]"),
        'mine(Term("data", given, [[0.1], [0.6]], 0.0))',
    ),
    Case(
        "Points of NumPy of shape [n]",
        'mine(Term("data", given, np.linspace(0, 1, 21), 0.0))',
        ("term 'data'", "shape [21]", "points[:, None]"),
        'mine(Term("data", given, np.linspace(0, 1, 21)[:, None], 0.0))',
    ),
    Case(
        "Ragged points",
        'timed(Term("data", given, [[0.1, 0.2], [0.3]], 0.0))',
        ("term 'data'", "not equally long", "[[0.1, 0.2], [0.3, 0.4]]"),
        'timed(Term("data", given, [[0.1, 0.2], [0.9, 0.4]], 0.0))',
    ),
    Case(
        "Coordinates as a pair of columns",
        'timed(Term("data", given, (xt[:, 0], xt[:, 1]), 0.0))',
        ("term 'data'", "torch.stack([x, t], 1)"),
        'timed(Term("data", given, torch.stack([xt[:, 0], xt[:, 1]], 1), 0.0))',
    ),
    Case(
        "Points in columns",
        'timed(Term("data", given, xt.T, 0.0))',
        ("term 'data'", "shape [2, 30]", "points.T"),
        'timed(Term("data", given, xt, 0.0))',
    ),
    Case(
        "Values of u among the coordinates",
        'timed(Term("data", given, torch.rand(30, 3), 0.0))',
        ("term 'data'", "shape [30, 3]", "points[:, :2]", "target=points[:, 2]"),
        'timed(Term("data", given, xt, target=torch.rand(30)))',
    ),
    Case(
        "Points for each of three clients, and two clients",
        'mine(Term("data", given, [x, x, x], 0.0))',
        ("term 'data'", "3 clients, but the partition has 2"),
        'mine(Term("data", given, [x, x], 0.0))',
    ),
    Case(
        "No points",
        'mine(Term("data", given, None, 0.0))',
        ("term 'data'", "are None", "give a tensor [n, d]"),
        'mine(Term("data", given, x, 0.0))',
    ),
    Case(
        "A file as points",
        'mine(Term("data", given, "sensors.csv"))',
        ("term 'data'", "load_points(['sensors.csv']"),
        'mine(Term("data", given, x, 0.0))',
    ),
    Case(
        "A function as points",
        'mine(Term("data", given, lambda n: x, 0.0))',
        ("term 'data'", "are a function", "sample="),
        'mine(Term("data", given, x, 0.0))',
    ),
    Case(
        "Complex points",
        'mine(Term("data", given, x + 0j, 0.0))',
        ("term 'data'", "complex"),
        'mine(Term("data", given, x, 0.0))',
    ),
    Case(
        "As many targets as there are not points",
        'mine(Term("data", given, x, target=torch.zeros(20)))',
        ("term 'data'", "shape [20] for 21 points"),
        'mine(Term("data", given, x, target=torch.zeros(21)))',
    ),
    Case(
        "A target in words",
        'mine(Term("data", given, x, target="sin(x)"))',
        ("term 'data'", "is 'sin(x)'", "lambda x: torch.sin(x[:, 0])"),
        'mine(Term("data", given, x, target=lambda x: torch.sin(x[:, 0])))',
    ),
    Case(
        "A target as a function of each coordinate",
        'timed(Term("data", given, xt, target=lambda x, t: x * t))',
        ("term 'data'", "TypeError", "a tensor [n, 2]", "lambda x: torch.sin(x[:, 0])"),
        'timed(Term("data", given, xt, target=lambda p: p[:, 0] * p[:, 1]))',
    ),
    Case(
        "A target by the module math",
        'mine(Term("data", given, x, target=__import__("math").sin))',
        ("term 'data'", "Python scalars", "a function of all points at once"),
        'mine(Term("data", given, x, target=torch.sin))',
    ),
    Case(
        "A module of torch as network",
        'mine(Term("data", given, x, 0.0), nn.Sequential(nn.Linear(1, 8), nn.Tanh(), '
        "nn.Linear(8, 1)))",
        ("Sequential is not a network", "ModuleNetwork(net)"),
        'mine(Term("data", given, x, 0.0), ModuleNetwork(nn.Sequential(nn.Linear(1, 8),'
        " nn.Tanh(), nn.Linear(8, 1))))",
    ),
    Case(
        "Widths as network",
        'mine(Term("data", given, x, 0.0), (1, 20, 20, 1))',
        ("not a network", "write MLP((1, 20, 20, 1))"),
        'mine(Term("data", given, x, 0.0), MLP((1, 20, 20, 1)))',
    ),
    Case(
        "A class as network",
        'mine(Term("data", given, x, 0.0), MLP)',
        ("MLP is not a network", "write an object, MLP(...)"),
        'mine(Term("data", given, x, 0.0), MLP((1, 8, 1)))',
    ),
    Case(
        "Widths without brackets",
        "MLP(1, 20, 1)",
        ("An MLP needs widths", "got 1", "MLP((2, 32, 32, 1))"),
        "MLP((1, 20, 1))",
    ),
    Case(
        "A function as activation",
        "MLP((1, 20, 1), torch.tanh)",
        ("Unknown activation 'tanh'", "give the name", "sin, swish, tanh"),
        'MLP((1, 20, 1), "tanh")',
    ),
    Case(
        "A single network in parallel",
        "Parallel(MLP((1, 8, 1)))",
        ("needs a list of networks", "got a MLP"),
        "Parallel([MLP((1, 8, 1))])",
    ),
    Case(
        "Unknown numbers without starts",
        'Parallel([MLP((1, 8, 1))], unknowns=["nu"])',
        ("names and start values", "got ['nu']"),
        'Parallel([MLP((1, 8, 1))], unknowns={"nu": 0.05})',
    ),
    Case(
        "No partition",
        'Problem("mine", MLP((1, 8, 1)), [Term("data", given, x, 0.0)])',
        ("'mine' needs a partition", "got None", "partition=strips([0, 0.5, 1])"),
        'Problem("mine", MLP((1, 8, 1)), [Term("fit", given, x, 0.0)], strips([0, 1]))',
    ),
    Case(
        "A number of clients as partition",
        'mine(Term("data", given, x, 0.0), partition=3)',
        ("'mine' needs a partition", "got 3", "torch.linspace(lower, upper, 4)"),
        'mine(Term("data", given, x, 0.0), partition=strips(torch.linspace(0, 1, 4)))',
    ),
    Case(
        "Edges as partition",
        'mine(Term("data", given, x, 0.0), partition=[0, 0.5, 1])',
        ("'mine' needs a partition", "got [0, 0.5, 1]", "strips(edges)"),
        'mine(Term("data", given, x, 0.0), partition=strips([0, 0.5, 1]))',
    ),
    Case(
        "A number of strips as edges",
        "strips(3)",
        ("strictly increasing numbers", "torch.linspace(lower, upper, m + 1)"),
        "strips(torch.linspace(0, 1, 4))",
    ),
    Case(
        "Points outside of the partition",
        'mine(Term("data", given, 2 * x, 0.0))',
        ("term 'data'", "Point 11", "lies outside the partition", "0.0 to 1.0"),
        'mine(Term("data", given, 2 * x, 0.0), partition=strips([0, 1, 2]))',
    ),
    Case(
        "Points of all clients together where each brings its own",
        'mine(Term("data", given, x, 0.0), partition=explicit(2))',
        ("list of 2 tensors",),
        'mine(Term("data", given, [x, x], 0.0), partition=explicit(2))',
    ),
    Case(
        "Points in the plane without names of the coordinates",
        'mine(Term("data", given, xt, 0.0), MLP((2, 8, 1)))',
        ("term 'data'", "[n, 1]", 'coordinates="xt"'),
        'mine(Term("data", given, xt, 0.0), MLP((2, 8, 1)), coordinates="xt")',
    ),
    Case(
        "Coordinates in one word with a comma",
        'mine(Term("data", given, xt, 0.0), MLP((2, 8, 1)), coordinates="x,t")',
        ("coordinates='x,t'", "write coordinates='xt'"),
        'mine(Term("data", given, xt, 0.0), MLP((2, 8, 1)), coordinates="xt")',
    ),
    Case(
        "A number of coordinates",
        'mine(Term("data", given, xt, 0.0), MLP((2, 8, 1)), coordinates=2)',
        ("needs coordinates as names", "coordinates='xt'", "got 2"),
        'mine(Term("data", given, xt, 0.0), MLP((2, 8, 1)), coordinates="xt")',
    ),
    Case(
        "A long name of one output",
        'mine(Term("data", given, x, 0.0), outputs="temperature")',
        ("every letter is a name", "outputs=('temperature',)"),
        'mine(Term("data", given, x, 0.0), outputs=("temperature",))',
    ),
    Case(
        "A network of another number of outputs",
        'mine(Term("data", given, x, 0.0), MLP((1, 8, 2)))',
        ("'mine' returns shape [2, 2]", "with outputs u it must be [2, 1]"),
        'mine(Term("data", given, x, 0.0), MLP((1, 8, 1)))',
    ),
    Case(
        "A number as exact solution",
        'mine(Term("data", given, x, 0.0), exact=0.0)',
        ("needs exact= to be a function", "reference="),
        'mine(Term("data", given, x, 0.0), exact=lambda x: 0 * x[:, 0])',
    ),
    Case(
        "Classes without their numbers",
        "three(Term('c', logits, x, likelihood=Categorical()))",
        ("Term 'c'", "Categorical compares", "target, which is missing"),
        "three(Term('c', logits, x, target=which, likelihood=Categorical()))",
    ),
    Case(
        "Classes numbered from 1",
        "three(Term('c', logits, x, target=which + 1, likelihood=Categorical()))",
        ("Term 'c'", "targets 0 to 2", "Number the classes from 0"),
        "three(Term('c', logits, x, target=which, likelihood=Categorical()))",
    ),
    Case(
        "Classes as rows of zeros and a one",
        "three(Term('c', logits, x, torch.eye(3)[which], likelihood=Categorical()))",
        ("Term 'c'", "the number of the class as target", "has shape [21, 3]"),
        "three(Term('c', logits, x, which, likelihood=Categorical()))",
    ),
    Case(
        "One output for all classes",
        'mine(Term("c", lambda u, row: u.value, x, which, likelihood=Categorical()))',
        ("Term 'c'", "two predictors", "return u.values", "returns 1"),
        "three(Term('c', logits, x, which, likelihood=Categorical()))",
    ),
    Case(
        "Logits with the classes first",
        "three(Term('c', lambda u, row: u.values.T, x, which, "
        "likelihood=Categorical()))",
        ("residual of term 'c'", "[n]", "returned shape [3, 1]"),
        "three(Term('c', logits, x, which, likelihood=Categorical()))",
    ),
    Case(
        "A likelihood as a word",
        "three(Term('c', logits, x, which, likelihood='categorical'))",
        ("Term 'c'", "needs an object as likelihood", "got 'categorical'"),
        "three(Term('c', logits, x, which, likelihood=Categorical()))",
    ),
    Case(
        "A likelihood without its brackets",
        "three(Term('c', logits, x, which, likelihood=Categorical))",
        ("Term 'c'", "needs an object as likelihood", "got Categorical"),
        "three(Term('c', logits, x, which, likelihood=Categorical()))",
    ),
    Case(
        "One test that is no list",
        'mine(Term("data", given, x, 0.0), tests=Term("data", given, x, 0.0))',
        ("needs a list of terms", "single Term 'data'", "Write tests=["),
        'mine(Term("data", given, x, 0.0), tests=[Term("data", given, x, 0.0)])',
    ),
    Case(
        "A range of each coordinate as domain",
        'timed(Term("data", given, xt, 0.0), domain=([0, 1], [0, 1]))',
        ("needs domain= as two corners", "domain=([0.0, 0.0], [1.0, 1.0])"),
        'timed(Term("data", given, xt, 0.0), domain=([0, 0], [1, 1]))',
    ),
)
"""Of problems, terms and networks."""

_MADE = 'mine(Term("data", given, x, 0.0))'
_FIPA = 'methods.load("fipa")'

RUNS = (
    Case(
        "A method by its name",
        f'run({_MADE}, "fipa")',
        ("run needs a method", "got 'fipa'", "methods.load('fipa')"),
        f"run({_MADE}, {_FIPA}, rounds=1)",
    ),
    Case(
        "A problem by its name",
        f'run("heat", {_FIPA})',
        ("run needs a Problem", "got 'heat'", "problems.load('heat')"),
        'problems.load("heat")',
    ),
    Case(
        "Method and problem the other way round",
        f"run({_FIPA}, {_MADE})",
        ("first the problem",),
        f"run({_MADE}, {_FIPA}, rounds=1)",
    ),
    Case(
        "A module as method",
        f"run({_MADE}, methods)",
        ("run needs a method", "the module fedsciml.methods"),
        f"run({_MADE}, {_FIPA}, rounds=1)",
    ),
    Case(
        "Rounds that are no whole number",
        f"run({_MADE}, {_FIPA}, rounds=1e2)",
        ("whole number of rounds", "got 100.0"),
        f"run({_MADE}, {_FIPA}, rounds=1)",
    ),
    Case(
        "A seed in words",
        f'run({_MADE}, {_FIPA}, seed="0")',
        ("seed must be", "got '0'"),
        f"run({_MADE}, {_FIPA}, rounds=1, seed=0)",
    ),
    Case(
        "A precision in words",
        f'run({_MADE}, {_FIPA}, dtype="float32")',
        ("dtype= is torch.float64 or torch.float32", "got 'float32'"),
        f"run({_MADE}, {_FIPA}, rounds=1, dtype=torch.float32)",
    ),
    Case(
        "A precision that solvers do not have",
        f"run({_MADE}, {_FIPA}, dtype=torch.float16)",
        ("dtype= is torch.float64 or torch.float32", "got torch.float16"),
        f"run({_MADE}, {_FIPA}, rounds=1, dtype=torch.float32)",
    ),
    Case(
        "A device that torch does not know",
        f'run({_MADE}, {_FIPA}, device="gpu")',
        ("device='gpu' cannot be used here", "'cuda'"),
        f'run({_MADE}, {_FIPA}, rounds=1, device="cpu")',
    ),
    Case(
        "A backend in words",
        f'run({_MADE}, {_FIPA}, backend="flower")',
        ("backend= is an object", "fedsciml.flower.run(problem, method)"),
        f"run({_MADE}, {_FIPA}, rounds=1, backend=fedsciml.InProcess())",
    ),
    Case(
        "Rules as a dictionary",
        f'run({_MADE}, {_FIPA}, rules={{"min_clients": 1}})',
        ("rules= is a Rules", "got a dict"),
        f"run({_MADE}, {_FIPA}, rounds=1, rules=fedsciml.Rules(min_clients=1))",
    ),
    Case(
        "A value to stop at",
        f"run({_MADE}, {_FIPA}, stop=1e-8)",
        ("stop= is a function", "callbacks=[Until(1e-8)]"),
        f"run({_MADE}, {_FIPA}, rounds=1, callbacks=[Until(1e-8)])",
    ),
    Case(
        "A single callback",
        f"run({_MADE}, {_FIPA}, callbacks=Until(1e-8))",
        ("callbacks= is a list", "callbacks=[Until(1e-8)]"),
        f"run({_MADE}, {_FIPA}, rounds=1, callbacks=[Until(1e-8)])",
    ),
    Case(
        "A number as directory",
        f"run({_MADE}, {_FIPA}, out=1)",
        ("out= is the path of a directory", "got 1"),
        f"run({_MADE}, {_FIPA}, rounds=1, out=None)",
    ),
    Case(
        "A bar by its name",
        f'run({_MADE}, {_FIPA}, progress="bar")',
        ("progress= is True, False or a function", "got 'bar'"),
        f"run({_MADE}, {_FIPA}, rounds=1, progress=False)",
    ),
    Case(
        "A method in capitals",
        'methods.load("FIPA")',
        ("no method 'FIPA'", "Did you mean 'fipa'?"),
        'methods.load("fipa")',
    ),
    Case(
        "An option of another method",
        'methods.load("fedavg", lr=1e-3)',
        ("Method 'fedavg' has no option 'lr'", "learning_rate"),
        'methods.load("fedavg", learning_rate=1e-3)',
    ),
    Case(
        "A problem that there is not",
        'problems.load("allencahn")',
        ("no problem 'allencahn'", "Did you mean 'allen_cahn'?"),
        'problems.load("allen_cahn")',
    ),
    Case(
        "A solution at points [n]",
        f"run({_MADE}, {_FIPA}, rounds=1).solution(x[:, 0])",
        ("result.solution", "shape [21]", "points[:, None]"),
        f"run({_MADE}, {_FIPA}, rounds=1).solution(x).xx",
    ),
    Case(
        "A solution at a number",
        f"run({_MADE}, {_FIPA}, rounds=1).solution(0.5)",
        ("result.solution", "are 0.5"),
        f"run({_MADE}, {_FIPA}, rounds=1).solution([[0.5]]).xx",
    ),
    Case(
        "Computing with a solution itself",
        f"2 * run({_MADE}, {_FIPA}, rounds=1).solution(x)",
        ("Did you mean ... * u.value?",),
        f"2 * run({_MADE}, {_FIPA}, rounds=1).solution(x).value",
    ),
)
"""Of runs and results."""

CASES = (*RESIDUALS, *PARTS, *RUNS)
