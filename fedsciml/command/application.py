"""A command line whose help is plain text and whose errors are one line."""

import os
import sys
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)
from cyclopts.help import HelpEntry, HelpPanel, PlainFormatter

from fedsciml.command.terminal import columns, paragraphs
from fedsciml.registry import suggestion

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions


def application(name: str, about: str, **settings: Any) -> App:  # noqa: ANN401
    """A command line without subcommands so far.

    Args:
        name: What is typed.
        about: What it does.
        settings: As for ``cyclopts.App``.
    """
    app = App(
        name=name,
        help=about,
        help_format="plaintext",
        help_formatter=Columns(),
        suppress_keyboard_interrupt=False,
        result_action="return_value",
        group_parameters="Options",
        **settings,
    )
    for flag in (*app.help_flags, *app.version_flags):
        app[flag].show = False
    return app


def called(app: App, words: Sequence[str]) -> int:
    """The exit status of what the words ask for."""
    try:
        return app(list(words), print_error=False, exit_on_error=False) or 0
    except CycloptsError as error:
        told, chain = said(error), error.command_chain or ()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, ModuleNotFoundError) as error:
        told = "\n".join([str(error), *getattr(error, "__notes__", [])])
        chain, _, _ = app.parse_commands(list(words))
    print(f"{' '.join([*app.name, *chain])}: error: {told}", file=sys.stderr)
    return 2


def said(error: CycloptsError, flags: Sequence[str] = ()) -> str:
    """What is wrong with a command line, in a sentence.

    Args:
        error: Raised by the parser.
        flags: That there are.
    """
    unknown = ""
    if isinstance(error, UnknownOptionError):
        unknown = error.token.keyword or error.token.value
        flags = flags or [name for a in error.argument_collection for name in a.names]
    elif isinstance(error, UnknownCommandError) and error.unused_tokens and error.app:
        word, known = error.unused_tokens[0], [n for n in error.app if n[0] != "-"]
        return (
            f"there is no command '{word}'; choose one of {', '.join(known)}."
            f"{suggestion(word, known)}"
        )
    elif isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        unknown = error.unused_tokens[0]
    if unknown and not unknown.startswith("-"):
        return f"'{unknown}' is one word too many. --help shows what there is."
    if unknown:
        hint = suggestion(unknown.partition("=")[0], flags)
        return f"unknown argument {unknown}.{hint or ' --help shows all.'}"
    if isinstance(error, CoercionError) and error.token and error.__cause__:
        text = str(error.__cause__)
        between = " " if text.startswith("must ") else ": "
        return f"{error.token.keyword}{between}{text}."
    if isinstance(error, MissingArgumentError) and error.argument:
        if error.keyword or error.argument.tokens:
            return f"{error.argument.name} needs a value."
        return f"{error.argument.name} is missing. --help shows what it is."
    return str(error)


class Columns(PlainFormatter):
    """A section has a title and two columns, and no frame."""

    def __call__(
        self, console: "Console", options: "ConsoleOptions", panel: HelpPanel
    ) -> None:
        """Print a section."""
        if panel.entries:
            rows = [
                (" ".join(e.display_labels_with_metavar), _text(e))
                for e in panel.entries
            ]
            text = columns(rows, console.width)
            self._print_plain(console, f"{panel.title}:\n{text}\n")

    def render_description(
        self, console: "Console", options: "ConsoleOptions", description: object
    ) -> None:
        """Print what a command does."""
        text = _plain(description)
        if text:
            self._print_plain(console, f"{paragraphs(text, console.width)}\n")


def _text(entry: HelpEntry) -> str:
    """What an entry means, its choices and default."""
    text, nothing = _plain(entry.description), (None, "False", '""')
    if entry.choices:
        text += f" One of {', '.join(entry.choices)}."
    if entry.default in nothing:
        return text
    return f"{text.rstrip('.')} (default {entry.default})."


def _plain(shown: object) -> str:
    """What is to be shown, without any style."""
    from rich.console import Console

    plain = Console(file=StringIO(), width=10_000, no_color=True)
    with plain.capture() as text:
        plain.print(shown, end="", markup=False, highlight=False)
    lines = text.get().replace("``", "").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip()
