"""Whether a run has converged, still falls or has stalled, and what to try.

From the history and the model's loss, beside the lowest loss so far, and by what steps
promised:

    converged  the loss is below ROUNDING eps^2 of the greatest, and did not
               halve in the last rounds: what is left of the residual is rounding;
               or it fell by less than 2 % in them, steps promised less than a tenth
               of it in most of them, and it is below a tenth of the greatest: it is
               at a floor, as the noise of data is one
    falling    it fell by more than a tenth in the last rounds, and did not rise again
               by half of these digits; where there were fewer than ten, at that pace
    stalled    else

Losses of other clients are other sums: of rounds those count that lacked the same
clients as most, after the last one in which clients joined.

The last rounds are ten. Of methods that solve no linear problem, so that their steps
promise nothing, they are half of all, if that is more, as losses stand still for long
and then fall; and these converge to rounding alone. Promised is ``Round.promised``,
what the best step of a round would remove if the residual were linear. It is small at a
minimum, but also where the damping is large: at the start of hard problems both loss
and promise stand still, hence the tenth of the greatest loss, or else a promise below
``SURELY``.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from math import ceil, log10
from statistics import median
from typing import Literal, NamedTuple

from fedsciml.federation.history import Round

WINDOW, PART = 10, 2
"""Last rounds that are looked at: so many, or of other methods this part of all."""

ROUNDING = 1e4
"""Of eps^2: losses of 1e-31 to 5e-26 of the greatest were reached in float64."""

FLAT, FALLS = 0.98, 0.9
"""Factors of the loss in the last rounds above which it is at a floor, if steps promise
nothing, and below which it falls."""

NOTHING = 0.1
"""Part of the loss below which a step promises nothing. Of noisy data it was 0.01 to
0.1, at the rounding level 1e-5 to 0.01, and about 1 where a run stood still and fell
later."""

CAME, SURELY = 0.1, 1e-8
"""Part of the greatest loss below which a run has come somewhere, and below which a
promise is nothing also where it has not: the damping of hard starts left 1e-5."""

MOST = 0.8
"""Part of the loss of which one term has the most."""

State = Literal["converged", "falling", "stalled"]


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        state: ``converged``, ``falling`` or ``stalled``.
        sentence: What that is based on, and what to try.
    """

    state: State
    sentence: str

    def __str__(self) -> str:
        return self.sentence


UNKNOWN = Outcome("falling", "Not known whether the run has converged.")


def outcome(
    history: Sequence[Round],
    loss: float | None,
    eps: float,
    terms: Mapping[str, float] | None = None,
    asked: Sequence[object] = (),
    absent: Collection[str] = (),
) -> Outcome:
    """How a run ended.

    Args:
        history: Of all rounds, one at least.
        loss: Of the model; None where clients do not tell it.
        eps: Rounding unit of the arithmetic, as ``torch.finfo(dtype).eps``.
        terms: Loss of the model by terms, where it is known.
        asked: Callbacks that ended the run.
        absent: Clients that are not in the model's loss.
    """
    lines, missing = _comparable(history)
    if set(absent) != missing:
        loss = None
    state, sentence = _judged(lines, loss, eps, terms or {})
    if asked:
        names = ", ".join(str(getattr(one, "__name__", one)) for one in asked)
        sentence = f"Ended after round {len(history)}, as asked ({names}). {sentence}"
    return Outcome(state, sentence)


def _comparable(history: Sequence[Round]) -> tuple[list[Round], set[str]]:
    """Rounds whose losses are sums over the same clients, and who is in none of them.

    Where another stands in for a client its loss is counted.
    """
    began = max((k for k, line in enumerate(history) if line.joined), default=0)
    missing = [frozenset(x.dropped.keys() - x.stale.keys()) for x in history[began:]]
    usual = Counter(missing).most_common(1)[0][0]
    pairs = zip(history[began:], missing, strict=True)
    return [line for line, those in pairs if those == usual], set(usual)


def _judged(
    history: Sequence[Round], loss: float | None, eps: float, terms: Mapping[str, float]
) -> tuple[State, str]:
    losses = [line.loss for line in history]
    # Where the model's loss is not known: a point that is tried may have a higher one.
    losses.append(min(losses) if loss is None else loss)
    now, lowest, peak = losses[-1], list(accumulate(losses, min)), max(losses)
    linear = any(line.promised is not None for line in history)
    least = WINDOW if linear else max(WINDOW, len(history) // PART)
    last = history[-least:]
    before = lowest[-1 - len(last)]
    fell = now / before if before > 0 else 1.0
    if now <= 0:
        return "converged", "Converged: the loss is 0."
    if now <= ROUNDING * eps**2 * peak and fell > 0.5:
        return "converged", (
            f"Converged: the loss, {now:.1e}, is rounding, {now / peak:.0e} of the "
            "greatest. More rounds change nothing."
        )
    told = [line.promised for line in last if line.promised is not None]
    promised = median(told) if told else None
    came = f"{now:.3g}, fell by {_percent(1 - fell)} in {_rounds(len(last))}"
    bound = NOTHING if now <= CAME * peak else SURELY
    flat = FLAT <= fell <= 1 / FLAT and len(last) >= WINDOW
    if flat and promised is not None and promised <= bound:
        return "converged", (
            f"Converged: the loss, {came}, and steps promise {_percent(promised)} "
            "more. It is at its floor, as data with noise have one."
        )
    keeps = now**2 < lowest[-1] * before  # most of what was won, in digits
    if keeps and fell < FALLS ** min(len(last) / WINDOW, 1.0):
        more = ceil(len(last) / -log10(fell))
        return "falling", (
            f"The loss still falls: to {now:.1e}, by a factor {1 / fell:.3g} in "
            f"{_rounds(len(last))}. At this pace {more} more give another digit."
        )
    if lowest[-1] == losses[0]:
        came = f"{now:.3g}, has not been lower than at the start"
    elif now > lowest[-1]:
        came = f"{now:.3g}, was lower before: {lowest[-1]:.3g}"
    return "stalled", f"Stalled: the loss, {came}{_stalled(last, promised, terms)}."


def _stalled(
    last: Sequence[Round], promised: float | None, terms: Mapping[str, float]
) -> str:
    """What more is known of a loss that stands still, and what to try."""
    text = f", though steps promise {_percent(promised)}" if promised else ""
    stood = sum(line.step == 0 for line in last)
    if 2 * stood > len(last):
        text += f"; in {stood} of these rounds no step was taken"
    advice = "more rounds, another seed or policy, or more points"
    if promised is None:
        advice = "fipa or gauss_newton, another learning rate, or fewer local epochs"
    if last[-1].epsilon is not None:
        advice = "a larger epsilon or more points"
    total = sum(terms.values())
    for name, part in terms.items():
        if len(terms) > 1 and part > MOST * total:
            text += f"; {_percent(part / total)} of it is of term '{name}'"
            advice += ", or look at that term: its weight, units and data"
    return f"{text}. Try {advice}"


def _rounds(last: int) -> str:
    return "the last round" if last == 1 else f"the last {last} rounds"


def _percent(part: float) -> str:
    return "less than 0.01 %" if part < 1e-4 else f"{100 * part:.2g} %"
