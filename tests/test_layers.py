"""Who may import whom, and what the library never does; read from the source."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from fedsciml import methods, problems

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "fedsciml").rglob("*.py"))
EVERYTHING = [
    *LIBRARY,
    *sorted((ROOT / "problems").rglob("*.py")),
    *sorted((ROOT / "scripts").rglob("*.py")),
    *sorted((ROOT / "examples").rglob("*.py")),
]
FLOORS = (
    ("alone", "registry", "extras"),
    ("network", "linalg", "collocation", "likelihoods"),
    ("problem", "policies"),
    ("residual", "secure"),
    ("methods", "analysis"),
    ("wrappers",),
    ("federation",),
    ("deepxde", "plot", "callbacks"),
    ("problems", "report"),
    ("saved", "training"),
    ("flower",),
    ("command",),
)
"""The house from the ground up; a floor imports from those below it alone."""

ROOT_MODULES = {"__init__", "alone", "extras", "registry", "saved", "training"}


def name(path: Path) -> str:
    """The module's dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def imports(path: Path) -> list[str]:
    """Every module that a file imports, anywhere in it."""
    found: list[str] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            found.append(node.module)
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return found


def importers(package: str, files: list[Path]) -> set[str]:
    """Names of the modules that import the package or a part of it."""
    return {
        name(path)
        for path in files
        for module in imports(path)
        if f"{module}.".startswith(f"{package}.")
    }


def words(path: Path) -> Iterator[str]:
    """String constants that are not docstrings."""
    parsed = tree(path)
    prose = {
        id(node.value)
        for node in ast.walk(parsed)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(parsed):
        fresh = isinstance(node, ast.Constant) and id(node) not in prose
        if fresh and isinstance(node.value, str):
            yield node.value


def test_there_is_something_to_read() -> None:
    assert {"fedsciml.federation.loop", "problems.allen_cahn", "scripts.run"} <= set(
        map(name, EVERYTHING)
    )
    assert "torch" in set(imports(ROOT / "fedsciml" / "federation" / "loop.py"))


def test_the_library_imports_no_problem() -> None:
    assert not importers("problems", LIBRARY)
    who = {room(module) for module in importers("fedsciml.problems", LIBRARY)}
    assert who <= {"", "saved", "command"}  # the package when asked for
    assert not importers("scripts", LIBRARY)


def room(module: str) -> str:
    """The package of a module of the library, or its root module."""
    return f"{module}.".split(".")[1]


def test_nothing_imports_from_its_own_floor_or_upwards() -> None:
    floor = {name: k for k, names in enumerate(FLOORS) for name in names}
    wrong = [
        f"{name(path)} imports {module}"
        for path in LIBRARY
        if (here := room(name(path)))
        for module in imports(path)
        if module.startswith("fedsciml.")
        and (there := room(module)) in floor
        and there != here
        and floor[there] >= floor[here]
    ]
    assert not wrong


def test_every_module_of_the_library_is_on_a_floor() -> None:
    rooms = {room for names in FLOORS for room in names}
    assert {room(name(path)) for path in LIBRARY} - {""} == rooms - {"problems"}
    assert {p.stem for p in (ROOT / "fedsciml").glob("*.py")} <= ROOT_MODULES


@pytest.mark.parametrize(
    ("package", "home"),
    [
        ("matplotlib", r"fedsciml\.plot(\..*)?"),
        ("deepxde", r"(fedsciml\.deepxde|problems|scripts\.deepxde_examples)(\..*)?"),
        ("flwr", r"fedsciml\.flower.*"),
    ],
)
def test_a_heavy_package_has_one_home(package: str, home: str) -> None:
    assert all(re.fullmatch(home, m) for m in importers(package, EVERYTHING))


def test_plot_leaves_matplotlib_s_global_state_alone() -> None:
    assert not importers("matplotlib.pyplot", EVERYTHING)
    assert not importers("pylab", EVERYTHING)


def test_the_library_needs_few_packages() -> None:
    allowed = {"torch", "numpy", "scipy", "safetensors", "fedsciml"}
    homes = {"matplotlib": "plot", "deepxde": "deepxde", "flwr": "flower"}
    homes |= {"docstring_parser": "registry", "cryptography": "secure"}
    homes |= {"dp_accounting": "_privacy", "cyclopts": "command"}
    homes |= {"PIL": "images"}  # comes with matplotlib
    homes |= {"rich": "command", "tqdm": "progress", "client_app": "app"}
    for path in LIBRARY:
        top = {module.partition(".")[0] for module in imports(path)}
        extra = top - allowed - set(sys.stdlib_module_names)
        place = path.with_suffix("").parts
        assert all(homes.get(package) in place for package in extra), (path, extra)


def test_the_library_prints_nothing_but_in_its_command() -> None:
    for path in LIBRARY:
        if room(name(path)) == "command":
            continue
        called = {
            node.func.id
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in called, path


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_importing_a_module_does_nothing_but_define(path: Path) -> None:
    harmless = (
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.ClassDef,
        ast.Assign,
        ast.AnnAssign,
    )
    for node in tree(path).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        # An import that says what to install.
        asking = isinstance(node, ast.With) and ast.unparse(node).startswith(
            "with needed("
        )
        assert isinstance(node, harmless) or docstring or checking or asking, (
            f"{path}:{node.lineno} runs on import"
        )


def test_the_global_seed_is_never_set() -> None:
    for path in EVERYTHING:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and node.attr == "manual_seed":
                assert ast.unparse(node.value) != "torch", f"{path}:{node.lineno}"


def test_no_problem_is_named_below_the_problems() -> None:
    for path in LIBRARY:
        if room(name(path)) == "command":  # its demo shows some
            continue
        assert not set(problems.names()) & set(words(path)), path


def test_no_branch_of_the_library_asks_for_a_method_or_a_backend_by_name() -> None:
    solvers = {"adam", "sgd", "lbfgs", "gauss_newton"}  # local solvers too
    known = (set(methods.names()) | {"inprocess", "flower"}) - solvers
    for path in LIBRARY:
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.Compare, ast.match_case)):
                inside = {
                    part.value
                    for part in ast.walk(node)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
                assert not inside & known, f"{path}: {inside & known}"


def test_public_names_are_listed_in_one_place() -> None:
    listing = {
        path.name
        for path in LIBRARY
        for node in tree(path).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    }
    assert listing == {"__init__.py"}
