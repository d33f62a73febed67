"""The help of a run: of the method and the problem that are named, or of all."""

from collections.abc import Sequence
from inspect import Parameter

from fedsciml import methods, policies, problems
from fedsciml.command import signature
from fedsciml.command.arguments import Caller, command_line, read
from fedsciml.command.terminal import columns

HELP = ("--help", "-h")


def wanted(words: Sequence[str]) -> bool:
    """Whether help is asked for."""
    return any(word in HELP for word in words)


def chosen(words: Sequence[str], caller: Caller, about: str) -> None:
    """Print help on a run of the method and problem that the words name.

    Args:
        words: Of the command line.
        caller: The program.
        about: What it does.

    Raises:
        ValueError: If there is no such problem, method or argument.
    """
    words = [word for word in words if word not in HELP]
    given = read(words, signature.of_run(words))
    problem, method = given.get("problem"), given.get("method")
    found, notes = signature.general(), list[str]()
    if method is not None:
        found += signature.method_options(method)
    else:
        notes.append(
            f"What a method takes: {caller.name} --method fipa --help. All methods: "
            "fedsciml methods."
        )
    if problem is not None:
        found += signature.problem_options(problem)
    else:
        found += signature.common()
        notes.append(
            f"What a problem takes: {caller.name} heat --help. All problems: fedsciml "
            "problems."
        )
    usage = f"Usage: {caller.name} PROBLEM|FILE.py [--method METHOD] [OPTION ...]"
    show(found, usage, about, "\n".join(notes))


def everything(caller: Caller, about: str) -> None:
    """Print help on all methods and problems."""
    known = {name: policies.options(name) for name in policies.names()}
    words = {
        name: ", ".join(f"{k}={o.default_text}" for k, o in options.items())
        for name, options in known.items()
    }
    lists = {
        "Problems": {name: problems.summary(name) for name in problems.names()},
        "Methods": {name: methods.summary(name) for name in methods.names()},
        "Policies": {name: policies.summary(name) for name in policies.names()},
        "Policy options": words,
    }
    text = "\n\n".join(f"{k}:\n{columns(v.items())}" for k, v in lists.items())
    usage = (
        f"Usage: {caller.name} PROBLEM|FILE.py [--method METHOD] [OPTION ...]\n"
        f"       {caller.name} --resume DIR [--rounds K]"
    )
    show(signature.of_run((), script=True), usage, about, text)


def show(
    arguments: Sequence[Parameter], usage: str, about: str, more: str = ""
) -> None:
    """Print the help of a command line."""
    command_line(arguments, about, usage=usage, help_epilogue=more).help_print([])
