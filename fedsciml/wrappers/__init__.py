"""Methods around a method: rows, points, layers, warm-up, compression, secure sums.

``load`` makes a method by name in the wrappers that are asked for. ``Secure`` is in the
module ``secure``, which needs the extra of that name.
"""

from typing import Any, Literal

from fedsciml import methods
from fedsciml.extras import needed
from fedsciml.methods import Method
from fedsciml.methods._fipa import Fipa
from fedsciml.methods._privacy import Privacy
from fedsciml.methods._private import private
from fedsciml.registry import Option, Word, check_options, options_of
from fedsciml.wrappers._base import Around, AskAround, Wrapped, relayed
from fedsciml.wrappers.balance import Balance, Balanced, balanced, factors, traces
from fedsciml.wrappers.compress import Compressed, Precision, compressed
from fedsciml.wrappers.fitting import fitted
from fedsciml.wrappers.last_layers import LastLayers
from fedsciml.wrappers.normalise import Normalised
from fedsciml.wrappers.personal import Order, Personal
from fedsciml.wrappers.resample import (
    CANDIDATES,
    TINY,
    TRIES,
    Resampled,
    chosen,
    redrawn,
)
from fedsciml.wrappers.warmup import Warmup

__all__ = [
    "CANDIDATES",
    "DP",
    "PERSONAL",
    "PRIVATE",
    "RESAMPLE",
    "SUMS",
    "TINY",
    "TRIES",
    "WARMUP",
    "Around",
    "AskAround",
    "Balance",
    "Balanced",
    "Compressed",
    "LastLayers",
    "Normalised",
    "Order",
    "Personal",
    "Precision",
    "Privacy",
    "Resampled",
    "Warmup",
    "Wrapped",
    "balanced",
    "chosen",
    "compressed",
    "factors",
    "first",
    "fitted",
    "load",
    "options",
    "own",
    "privacy",
    "redrawn",
    "relayed",
    "resampled",
    "traces",
]

WARMUP = "METHOD:ROUNDS[,OPTION=VALUE,...], for example fedavg:5"
"""What ``first`` understands, for messages."""

RESAMPLE = "EVERY[,power=K,offset=C,ratio=R], for example 10,ratio=1.5"
"""What ``resampled`` understands, for messages."""

PERSONAL = "ORDER[,epochs=K], for example alternate,epochs=20"
"""What ``own`` understands, for messages."""

DP = "epsilon=E,delta=D[,clip=C,releases=K,...], for example epsilon=3,delta=1e-5"
"""What ``privacy`` understands, for messages."""

SUMS = {"basis": "shared", "upload": "sums"}
"""Options of FIPA with secure sums, unless others are given."""

PRIVATE = {**SUMS, "policy": "hindsight"}
"""Options of FIPA with differential privacy, unless others are given."""


def load(
    name: str,
    *,
    balance: Balance = "none",
    resample: str | None = None,
    train: str | None = None,
    personal: str | None = None,
    warmup: str | None = None,
    compress: str = "none",
    secure: bool = False,
    groups: int = 1,
    dp: str | None = None,
    **given: object,
) -> Method:
    """A method by name, in the wrappers that are asked for.

    From the inside out: parameters of the clients' own, scaled rows, points drawn
    again, the last layers alone, warm-up, compression, secure sums. With differential
    privacy the last alone, which hides what the noise of each client does not; the
    others would tell more than is paid for.

    Args:
        name: One of ``methods.names()``.
        balance: What gets the same weight in a step; FIPA and Gauss-Newton alone.
        resample: EVERY[,power=K,offset=C,ratio=R]; see ``Resampled``. Points are drawn
            earlier where the loss at fresh ones is R (1.5) times that at the points.
            None for the same points throughout.
        train: "classifier", "dense" or a number of last layers, which alone the method
            trains, after a warm-up; see ``LastLayers``. None for all.
        personal: "together", or "alternate[,epochs=K]": how local training moves
            parameters of each client's own; see ``Personal``. None for together, where
            a problem has such parameters.
        warmup: METHOD:ROUNDS[,OPTION=VALUE,...], the method of the first rounds.
        compress: "none", or a ``Precision``, for feedback with ",feedback" after it.
        secure: Whether the server is told sums over the clients alone; FIPA's clients
            then send sums in a shared basis, if nothing else is said.
        groups: Of clients, of which it is told a sum each.
        dp: epsilon=E,delta=D[,...], see ``Privacy``; for FIPA, with the options
            ``PRIVATE`` where no others are given. None for no noise.
        given: Values for the method's options.

    Raises:
        ValueError: If there is no such method or option, or a value does not suit.
        ModuleNotFoundError: With ``secure``, if its extra is not installed.
    """
    if dp is not None:
        around: dict[str, object] = {"balance": balance, "compress": compress}
        around |= {"resample": resample, "warmup": warmup, "groups": groups}
        around |= {"train": train, "personal": personal}
        used = [key for key, x in around.items() if x not in ("none", None, 1)]
        if used:
            raise ValueError(
                f"Differential privacy cannot be had with {', '.join(used)}: it would "
                "tell of the data what the budget does not pay for. Leave one out."
            )
        known, secure = options(name), True
        given = {key: v for key, v in PRIVATE.items() if key in known} | given
    if groups != 1 and not secure:
        raise ValueError(f"{groups} groups of clients are for secure sums; say secure.")
    if secure and "upload" in options(name) and given.get("basis") is None:
        given = {**SUMS, **{k: v for k, v in given.items() if k != "basis"}}
    asked = given if balance == "none" else {**given, "balance": balance}
    check_options("method", name, asked, options(name))
    method = methods.load(name, **given)
    if personal is not None:
        method = own(method, personal)
    method = balanced(method, balance)
    if dp is not None:
        method = private(method, privacy(dp)).noised()
    if resample is not None:
        method = resampled(method, resample)
    if train is not None:
        layers: Any = int(train) if train.isdecimal() else train
        method = LastLayers(method, layers)
    if warmup is not None:
        method = Warmup(*first(warmup), method)
    method = compressed(method, compress)
    if not secure:
        return method
    with needed("Secure sums need", "secure"):
        from fedsciml.wrappers.secure import Secure
    return Secure(method, groups)


def options(name: str) -> dict[str, Option]:
    """The options of a method; for those that balance rows, ``balance`` too.

    Raises:
        ValueError: If there is no such method.
    """
    found, made = methods.options(name), methods.load(name)
    if isinstance(made, Fipa):
        kind: object = Literal["none", "terms"] if made.pooled else Balance
        whose = "terms" if made.pooled else "terms, or all clients,"
        help_ = (
            f"Scales rows for the step, so that all {whose} weigh the same at the "
            "start; the loss reported stays the problem's own."
        )
        found["balance"] = Option(kind, "none", help_)
    return found


def first(text: str) -> tuple[Method, int]:
    """The method of the first rounds and their number, from a word.

    Args:
        text: METHOD:ROUNDS[,OPTION=VALUE,...], as "fedavg:5,tau=20".

    Raises:
        ValueError: If there is no such method or option, or a value does not suit.
    """
    word = Word("warm-up", text, WARMUP)
    known = {"rounds": Option(int), **options(word.name)}
    values = word.values(known, positional=1)
    rounds: int = values.pop("rounds")
    return load(word.name, **values), rounds


def resampled(method: Method, text: str) -> Method:
    """The method on points that are drawn again, as a word says.

    Args:
        method: Any.
        text: EVERY[,power=K,offset=C,ratio=R]; see ``Resampled``.

    Raises:
        ValueError: If the word is something else, or a number is out of range.
    """
    word = Word("resampling", text, RESAMPLE, named=False)
    return Resampled(method, **word.values(options_of(Resampled), positional=1))


def own(method: Method, text: str) -> Personal:
    """The method with parameters of each client's own, as a word says.

    Args:
        method: Any that can have some.
        text: ORDER[,epochs=K], as "alternate,epochs=20"; see ``Personal``.

    Raises:
        ValueError: If the word is something else, or does not suit the method.
    """
    word = Word("order of local training", text, PERSONAL, named=False)
    known = {"order": Option(Order), "epochs": Option(int | None, None)}
    values = word.values(known, positional=1)
    return Personal(method, values["order"], values.get("epochs"))


def privacy(text: str) -> Privacy:
    """What a run may tell of a point, from a word.

    Args:
        text: epsilon=E,delta=D[,...]; see ``Privacy``.

    Raises:
        ValueError: If the word is something else, or a number is out of range.
    """
    word = Word("privacy", text, DP, named=False)
    return Privacy(**word.values(options_of(Privacy)))
