"""Entries of a package by name, their options, and the words that ask for them.

A module of a package whose name has no leading underscore is an entry of that name: a
method, a step policy, a problem. So is a file anywhere, by its path, which ends in
``.py``. Its ``make``, a function or a dataclass, makes the entry. The signature of
``make`` is the list of the options, with types and defaults; the ``Args:`` of its
docstring say what they mean.

On a command line an entry is a word, ``NAME`` or ``NAME:VALUE,OPTION=VALUE,...``.
``Word`` takes it apart and reads the values by the types of the options.
"""

import inspect
import json
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType, NoneType, UnionType
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args, get_origin

T = TypeVar("T")

SUFFIX = ".py"
"""Ends the name of an entry that is a file."""

REQUIRED = inspect.Parameter.empty
"""The default of an option that must be given."""

UNSTATED = ...
"""The default of an option for which the entry has its own value, not known here."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with the nearest known name; empty if none is near."""
    near = get_close_matches(name.lower(), list(known), 1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


class Option(NamedTuple):
    """An option of an entry.

    Attributes:
        kind: Its annotation: ``int``, ``float``, ``bool``, ``str``, ``Path``, ``None``,
            a ``Literal`` of words, a ``Sequence`` of these, or a union of these.
        default: What ``make`` takes if the option is not given, or ``REQUIRED``, or
            ``UNSTATED``.
        help: What it means.
    """

    kind: object
    default: object = REQUIRED
    help: str = ""

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it may be; empty if not restricted."""
        literals = [part for part in _parts(self.kind) if get_origin(part) is Literal]
        return tuple(word for part in literals for word in get_args(part))

    @property
    def kinds(self) -> tuple[object, ...]:
        """The types that it may be of."""
        return _parts(self.kind)

    @property
    def default_text(self) -> str:
        """The default as ``read`` understands it."""
        text = str(self.default)
        plain = self.default is None or isinstance(self.default, bool)
        return text.lower() if plain else text

    def read(self, text: str) -> object:
        """The value that a text stands for; "none" stands for None.

        Raises:
            ValueError: "must be a whole number, got 'x'", without the option's name.
        """
        for kind in sorted(_parts(self.kind), key=lambda part: part is not NoneType):
            with suppress(ValueError, KeyError):
                return _read(text, kind)
        raise ValueError(_wanted(self.kind, text, "none"))

    def check(self, value: object) -> None:
        """Refuse a value of another type; ranges are checked by ``make``.

        Raises:
            ValueError: "must be a whole number, got 'x'", without the option's name.
        """
        if not any(_fits(value, part) for part in _parts(self.kind)):
            raise ValueError(_wanted(self.kind, value, "null"))


def options_of(make: Callable[..., object]) -> dict[str, Option]:
    """The options that a function or a dataclass takes, in its order.

    An argument of a type that ``Option`` does not know, such as a tuple of numbers, is
    for Python alone and is left out. Keys of a TypedDict behind ``**`` are options.
    """
    from docstring_parser.google import parse  # takes 10 ms

    def meanings(of: object) -> dict[str, str]:
        told = parse(inspect.getdoc(of) or "").params
        return {p.arg_name: " ".join((p.description or "").split()) for p in told}

    hints, parameters = typing.get_type_hints(make), inspect.signature(make).parameters
    packed = [get_args(h)[0] for h in hints.values() if get_origin(h) is typing.Unpack]
    help_ = {k: text for of in (*packed, make) for k, text in meanings(of).items()}
    found = dict[str, Option]()
    for key, parameter in parameters.items():
        kind = hints.get(key)
        if get_origin(kind) is typing.Unpack:
            more = typing.get_type_hints(get_args(kind)[0]).items()
            found |= {k: Option(hint, UNSTATED, help_.get(k, "")) for k, hint in more}
        elif kind is not None and _known(kind):
            found[key] = Option(kind, parameter.default, help_.get(key, ""))
    return found


def check_options(
    kind: str, name: str, given: Mapping[str, object], options: Mapping[str, Option]
) -> None:
    """Refuse what is not among the options, or not of their types.

    Args:
        kind: What has the options, for messages: "method".
        name: Its name.
        given: Values by the names of options.
        options: That there are.

    Raises:
        ValueError: If there is no such option, or a value is of another type.
    """
    for key, value in given.items():
        if key not in options:
            raise _no_option(kind, name, key, options)
        try:
            options[key].check(value)
        except ValueError as error:
            near = suggestion(str(value), options[key].choices)
            raise ValueError(
                f"Option '{key}' of {kind} '{name}' {error}.{near}"
            ) from None


@dataclass(frozen=True)
class Registry(Generic[T]):
    """The entries of a package.

    Args:
        kind: What an entry is, for messages: "method".
        package: Its dotted name.
        form: How ``parse`` wants a word, for messages.
        result: Type of what ``make`` returns, or None if any will do.
    """

    kind: str
    package: str
    form: str = ""
    result: type | None = None

    def names(self) -> list[str]:
        """Names of all entries, sorted."""
        modules = iter_modules(import_module(self.package).__path__)
        return sorted(m.name for m in modules if not m.name.startswith("_"))

    def about(self, name: str) -> str:
        """An entry's description.

        Raises:
            ValueError: If there is no such entry.
        """
        return inspect.getdoc(self._module(name)) or ""

    def summary(self, name: str) -> str:
        """The first line of an entry's description.

        Raises:
            ValueError: If there is no such entry.
        """
        return self.about(name).partition("\n")[0]

    def options(self, name: str) -> dict[str, Option]:
        """The options of an entry, in the order of its ``make``.

        Raises:
            ValueError: If there is no such entry.
        """
        return options_of(self._module(name).make)

    def signature(self, name: str) -> inspect.Signature:
        """All that the entry's ``make`` takes, also what is no option.

        Raises:
            ValueError: If there is no such entry.
        """
        return inspect.signature(self._module(name).make)

    def load(self, name: str, **options: object) -> T:
        """The entry of that name.

        Args:
            name: One of ``names()``, or the path of a file, ``"sites/rod.py"``.
            options: Values for its ``options(name)``; the others keep their defaults.
                What ``make`` takes besides is passed on as it is.

        Raises:
            ValueError: If there is no such entry or option, a value does not suit, or
                the file cannot be imported.
        """
        make = self._module(name).make
        known, signature = options_of(make), inspect.signature(make)
        free = signature.parameters.keys() - known
        checked = {k: value for k, value in options.items() if k not in free}
        check_options(self.kind, name, checked, known)
        for key, value in checked.items():  # a path may be given as a word
            if isinstance(value, str) and {Path, str} & {*known[key].kinds} == {Path}:
                options[key] = Path(value)
        try:
            signature.bind(**options)
        except TypeError as error:
            what = f"{self.kind.capitalize()} '{name}'"
            raise ValueError(f"{what} cannot be made: {error}.") from error
        made: T = _made(make, name, options)
        if self.result is not None and not isinstance(made, self.result):
            raise ValueError(
                f"make() of {self.kind} '{name}' must return a {self.result.__name__}, "
                f"got {type(made).__name__}."
            )
        return made

    def parse(self, text: str) -> T:
        """The entry that a word names, as on the command line.

        Args:
            text: ``"natural"`` or, with options, ``"line_search:damping=1e-6"``.

        Raises:
            ValueError: If there is no such entry or option, or a value does not suit.
        """
        word = Word(self.kind, text, self.form)
        return self.load(word.name, **word.values(self.options(word.name)))

    def _module(self, name: str) -> ModuleType:
        if name.endswith(SUFFIX):
            return _imported(self.kind, Path(name))
        known = self.names()
        if name not in known:
            near = f" Did you mean the file {name}{SUFFIX}?"
            hint = near if Path(name + SUFFIX).is_file() else suggestion(name, known)
            raise ValueError(
                f"There is no {self.kind} '{name}'; choose one of {', '.join(known)}"
                f"{self.form and f', as {self.form}'}.{hint}"
            )
        return import_module(f"{self.package}.{name}")


def _imported(kind: str, path: Path) -> ModuleType:
    """The module in a file, by itself: not as part of a package, nor by its bare name.

    It is imported again where the file has changed. Files of the same name in two
    folders are two modules.

    Raises:
        ValueError: If the file is not there, cannot be imported, or has no ``make``.
    """
    if not path.is_file():
        near = [other.name for other in path.parent.glob(f"*{SUFFIX}")]
        raise ValueError(
            f"There is no {kind} file {path.absolute()}.{suggestion(path.name, near)}"
        )
    path = path.resolve()
    name, source = str(path), path.read_bytes()
    known = sys.modules.get(name)
    if known is not None and known.__dict__.get("__source__") == source:
        return known
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ValueError(f"{path}{line} is not Python: {error.args[0]}.") from error
    if "make" not in code.co_names:  # before a script is run that is something else
        raise ValueError(
            f"{path} has no function make(); a {kind} file needs one that returns the "
            f"{kind}, with its options as arguments: def make(clients: int = 3)."
        )
    module = ModuleType(name)
    module.__dict__.update(__file__=name, __source__=source)
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
        if not callable(module.__dict__.get("make")):
            raise TypeError("make is not a function")
    except Exception as error:
        del sys.modules[name]
        missing = " It is imported by itself: install what it needs."
        raise ValueError(
            f"{path}{_line(error, name)} cannot be imported: {type(error).__name__}: "
            f"{error}.{missing if isinstance(error, ImportError) else ''}"
        ) from error
    return module


def _made(make: Callable[..., Any], name: str, options: Mapping[str, object]) -> Any:  # noqa: ANN401
    """What ``make`` returns; where it is in a file, what fails there is told of it.

    Raises:
        ValueError: If a file's ``make`` raises what a caller would not understand.
    """
    try:
        return make(**options)
    except (ValueError, OSError, ImportError):
        raise  # which say what was wrong
    except Exception as error:
        if not name.endswith(SUFFIX):
            raise
        path = Path(name).resolve()
        raise ValueError(
            f"make() of {path} failed{_line(error, str(path))}: "
            f"{type(error).__name__}: {error}."
        ) from error


def _line(error: Exception, file: str) -> str:
    """Where in a file an error came up: ``, line 3``; empty if it did not."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f", line {frame.lineno}" for frame in frames if frame.filename == file]
    return "".join(lines[-1:])


@dataclass(frozen=True)
class Word:
    """``NAME:ITEM,ITEM,...`` taken apart; an item is a VALUE or OPTION=VALUE.

    Args:
        kind: What it names, for messages: "policy".
        text: The word.
        form: How such a word is written, for messages.
        named: Whether it has a name; else it is all items, as ``20,power=2``.
    """

    kind: str
    text: str
    form: str
    named: bool = True

    @property
    def name(self) -> str:
        """What stands before the first colon; the whole word if it has no name."""
        return self.text.partition(":")[0].strip() if self.named else self.text

    @property
    def items(self) -> list[str]:
        """What stands behind the first colon, split at the commas."""
        rest = self.text.partition(":")[2] if self.named else self.text
        return [item.strip() for item in rest.split(",")] if rest.strip() else []

    def values(
        self, options: Mapping[str, Option], positional: int = 0
    ) -> dict[str, Any]:
        """The items, read by the types of the options.

        A switch that stands alone is true. An option that is itself a word keeps what
        follows and is unknown here: ``policy=line_search:cutoff=0,memory=5``.

        Args:
            options: That may be given.
            positional: So many of them may be given first, without their names.

        Raises:
            ValueError: If there is no such option, one is missing that must be given,
                or a value cannot be read.
        """
        given: dict[str, str] = {}
        inner = ""  # the last option that has options of its own
        for k, item in enumerate(self.items):
            key, equals, value = (part.strip() for part in item.partition("="))
            key = key.replace("-", "_")
            if not equals and k < min(positional, len(options)):
                key, value = list(options)[k], item
            elif not equals and key in options and options[key].kind is bool:
                value = "true"
            elif key not in options and inner:
                key, value = inner, f"{given[inner]},{item}"
            elif key not in options:
                raise _no_option(self.kind, self.name, key, options)
            given[key] = value
            inner = key if ":" in value else inner
        found = {}
        for key, option in options.items():
            try:
                if key in given:
                    found[key] = option.read(given[key])
                elif option.default is REQUIRED:
                    raise ValueError("is missing")
            except ValueError as error:
                raise ValueError(
                    f"In the {self.kind} '{self.text}', {key} {error}; give "
                    f"{self.form}."
                ) from None
        return found


def pair(text: str) -> tuple[str, Any]:
    """KEY=VALUE; the value is JSON, or else a word.

    Raises:
        ValueError: If the text is something else.
    """
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ValueError(f"'{text}' is not KEY=VALUE, such as clients=3")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def pairs(text: str) -> dict[str, Any]:
    """``a=1 b=[0,0.5,1] c=word``: a ``pair`` between any two blanks.

    Raises:
        ValueError: If there is another thing than KEY=VALUE.
    """
    return dict(pair(item) for item in text.split())


def _no_option(
    kind: str, name: str, key: str, options: Mapping[str, Option]
) -> ValueError:
    return ValueError(
        f"{kind.capitalize()} '{name}' has no option '{key}'; its options are "
        f"{', '.join(options) or 'none'}.{suggestion(key, options)}"
    )


_WORDS: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    Path: "a path",
    bool: "true or false",
}
_FIXED: Mapping[object, dict[str, object]] = {
    bool: {"true": True, "false": False},
    NoneType: {"none": None},
}


def _parts(kind: object) -> tuple[Any, ...]:
    """The alternatives of a union; the type itself if it is none."""
    return get_args(kind) if get_origin(kind) in (typing.Union, UnionType) else (kind,)


def _known(kind: object) -> bool:
    """Whether values of a type can be checked and read."""
    return all(
        part in _WORDS or part in _FIXED or get_origin(part) in (Literal, Sequence)
        for part in _parts(kind)
    )


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is Sequence:
        parts = _parts(get_args(kind)[0])
        if isinstance(value, str) or not isinstance(value, Sequence):
            return False
        return all(any(_fits(v, part) for part in parts) for v in value)
    if isinstance(value, bool):  # which Python counts as a number
        return kind is bool
    return isinstance(value, {float: (int, float), Path: (str, Path)}.get(kind, kind))


def _read(text: str, kind: Any) -> Any:  # noqa: ANN401
    """A text as a type that is no union; ValueError or KeyError if it is none."""
    if get_origin(kind) is Sequence:
        part = Option(get_args(kind)[0])
        return [part.read(item) for item in text.split(",")]
    words = _FIXED.get(kind, {word: word for word in get_args(kind)})
    return words[text if text in words else text.lower()] if words else kind(text)


def _wanted(kind: object, value: object, nothing: str) -> str:
    """``must be a whole number or null, got 'x'``."""
    words = []
    for part in sorted(_parts(kind), key=lambda part: part is NoneType):
        inner = get_args(part)
        if get_origin(part) is Sequence:
            words.append(f"a list of {'numbers' if inner[0] is float else 'words'}")
        else:
            choices = f"one of {', '.join(inner)}" if inner else nothing
            words.append(_WORDS.get(part, choices))
    text = " or ".join(words)
    return f"must be {text}{';' if ', ' in text else ','} got {value!r}"
