"""Arguments of a run: options of what it is made of, as cyclopts reads them.

What is not given on the command line is not in what is read: defaults come in later, so
that a run which is resumed can tell what was given.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from inspect import Parameter as Argument
from inspect import Signature
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from cyclopts import App, CycloptsError, Group, Parameter, Token, UnknownOptionError

from fedsciml import problems
from fedsciml.command.application import application, said
from fedsciml.registry import Option

Given = Mapping[str, Any]
"""What was given, by name: ``rounds``, ``option_tau``, ``set``, ..."""

METAVARS: Mapping[str, str] = {
    "method": "METHOD",
    "warmup": "METHOD:K0[,OPTION=VALUE...]",
    "train": "{classifier,dense,K}",
    "personal": "{together,alternate[,epochs=K]}",
    "resample": "EVERY[,power=K,offset=C,ratio=R]",
    "compress": "DTYPE[,feedback]",
    "dp": "epsilon=E,delta=D[,clip=C,...]",
    "out": "DIR",
    "resume": "DIR",
    "problem": "FILE.py",
    "clients": "M",
    "edges": "E0,E1,...",
    "set": "KEY=VALUE",
    "until": "[QUANTITY=]VALUE",
}
"""What stands for a value, where its type says too little."""

OPTION = "option_"
"""Begins the name of what a method's ``make`` takes."""


class Caller(NamedTuple):
    """The program whose arguments are read.

    Attributes:
        name: For messages: "run.py".
        again: How it continues the run in a directory, "{}".
    """

    name: str
    again: str


def read(words: Sequence[str], arguments: Sequence[Argument]) -> dict[str, Any]:
    """What the words of a command line say.

    Args:
        words: Without the program's name.
        arguments: That there are.

    Raises:
        ValueError: If an argument is not known, or its value cannot be read.
    """
    app = command_line(arguments)
    try:
        _, bound, _ = app.parse_args(
            list(words), print_error=False, exit_on_error=False
        )
    except CycloptsError as error:
        flags = [name for a in app.assemble_argument_collection() for name in a.names]
        raise ValueError(_elsewhere(words, error) or said(error, flags)) from error
    return dict(bound.arguments)


def _elsewhere(words: Sequence[str], error: CycloptsError) -> str:
    """Where that belongs which is no flag here: to the problem, or another command."""
    if isinstance(error, UnknownOptionError):
        word = error.token.keyword or error.token.value
        key = word.lstrip("-").replace("-", "_")
        if key == "resume":
            return "A run is continued by another command: fedsciml resume DIR."
        with suppress(ValueError):  # the first word names none
            if key in problems.options(words[0]):
                return f"{word} is an option of the problem: --set {key}=VALUE."
    return ""


def command_line(
    arguments: Sequence[Argument],
    about: str = "",
    **settings: Any,  # noqa: ANN401
) -> App:
    """A command line with these arguments; see ``application``."""

    def run(**given: object) -> None:
        """Read, not called."""

    run.__signature__ = Signature(arguments)  # type: ignore[attr-defined]
    app = application("run", about, version_flags=[], help_flags=[], **settings)
    app.default(run)
    return app


def positional(key: str, text: str, needed: str = "") -> Argument:
    """An argument without a flag.

    Args:
        key: Its name in what is read.
        text: Its help.
        needed: What stands for it, if it must be given.
    """
    shown = Parameter(name=needed or key, help=text, show_default=False)
    default = Argument.empty if needed else None
    kind = Annotated[str | None, shown]
    return Argument(key, Argument.POSITIONAL_ONLY, default=default, annotation=kind)


def argument(
    key: str,
    option: Option,
    group: Group,
    *,
    brief: bool = True,
    switch: bool = True,
    name: str = "",
    value: str | None = None,
) -> Argument:
    """An option as an argument.

    Args:
        key: Its name in what is read.
        option: Its type, default and help.
        group: Section of the help.
        brief: Whether only the first sentence of its help is shown.
        switch: Whether it stands alone if it is true or false.
        name: Its flag, if that is not the key's.
        value: What stands for its value, if that is not ``metavar``.
    """
    switch = switch and option.kind is bool
    text = option.help.partition(". ")[0] if brief else option.help
    text = text.replace("``", "").rstrip(".") + "."
    if isinstance(option.default, (str, int, float)) and not switch:
        text = f"{text.rstrip('.')} (default {option.default_text})."

    def converted(kind: object, tokens: Sequence[Token]) -> object:
        return option.read(tokens[-1].value)

    shown = Parameter(
        name=name or flag(key.removeprefix(OPTION)),
        help=text,
        group=group,
        negative="",
        metavar=metavar(key, option) if value is None else value,
        show_default=False,
        allow_repeating=True,
        allow_leading_hyphen=key == "edges",  # -1,0,1
        converter=None if switch else converted,
    )
    annotation = Annotated[bool if switch else str, shown]  # type: ignore[valid-type]
    return Argument(key, Argument.KEYWORD_ONLY, default=None, annotation=annotation)


def flag(option: str) -> str:
    """An option as on the command line: ``--learning-rate``."""
    return "--" + option.replace("_", "-")


def metavar(key: str, option: Option) -> str:
    """What stands for the value of an option."""
    if key in METAVARS:
        return METAVARS[key]
    if option.choices:
        return f"{{{','.join(option.choices)}}}"
    words = {bool: "{true,false}", int: "N", float: "X", Path: "PATH"}
    kinds = [word for kind, word in words.items() if kind in option.kinds]
    return kinds[0] if kinds else "WORD"
