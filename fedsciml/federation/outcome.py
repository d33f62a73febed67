"""Whether a run has converged, still falls or has stalled, and what to try.

From the history alone, by the lowest loss so far and by what steps promised:

    converged  the lowest loss is below ROUNDING eps^2 of the greatest, and did not
               halve in the last rounds: what is left of the residual is rounding;
               or it fell by less than 2 % in them, steps promised less than a tenth
               of it in most of them, and it is below a tenth of the greatest: it is
               at a floor, as the noise of data is one
    falling    it fell by more than a tenth in the last rounds; where there were fewer
               than ten, at that pace
    stalled    else

The last rounds are ten; of methods whose steps promise nothing, as they solve no linear
problem, a fifth of all if that is more, and these converge to rounding alone. Promised
is ``Round.promised``, what the best step of a round would remove if the residual were
linear. It is small at a minimum, but also where the damping is large: at the start of
hard problems both loss and promise stand still, hence the tenth of the greatest loss.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import ceil, log10
from statistics import median
from typing import Literal, NamedTuple

from fedsciml.federation.history import Round

WINDOW, PART = 10, 5
"""Last rounds that are looked at: so many, or this part of all."""

ROUNDING = 1e4
"""Of eps^2: losses of 1e-31 to 5e-26 of the greatest were reached in float64."""

FLAT, FALLS = 0.98, 0.9
"""Factors of the loss in the last rounds above which it is at a floor, if steps promise
nothing, and below which it falls."""

NOTHING = 0.1
"""Part of the loss below which a step promises nothing. Of noisy data it was 0.01 to
0.1, at the rounding level 1e-5 to 0.01, and about 1 where a run stood still and fell
later."""

CAME = 0.1
"""Part of the greatest loss below which a run has come somewhere."""

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
    loss: float,
    eps: float,
    terms: Mapping[str, float] | None = None,
    asked: Sequence[object] = (),
) -> Outcome:
    """How a run ended.

    Args:
        history: Of all rounds, one at least.
        loss: Of the model.
        eps: Rounding unit of the arithmetic, as ``torch.finfo(dtype).eps``.
        terms: Loss of the model by terms, where it is known.
        asked: Callbacks that ended the run.
    """
    state, sentence = _judged(history, loss, eps, terms or {})
    if asked:
        names = ", ".join(str(getattr(one, "__name__", one)) for one in asked)
        sentence = f"Ended after round {len(history)}, as asked ({names}). {sentence}"
    return Outcome(state, sentence)


def _judged(
    history: Sequence[Round], loss: float, eps: float, terms: Mapping[str, float]
) -> tuple[State, str]:
    losses = [*(line.loss for line in history), loss]
    lowest, peak, rounds = list(accumulate(losses, min)), max(losses), len(history)
    linear = any(line.promised is not None for line in history)
    last = min(rounds, WINDOW if linear else max(WINDOW, rounds // PART))
    now, before = lowest[-1], lowest[-1 - last]
    fell = now / before if before > 0 else 1.0
    if now <= ROUNDING * eps**2 * peak and fell > 0.5:
        return "converged", (
            f"Converged: the loss, {now:.1e}, is rounding, {now / (peak or 1):.0e} of "
            "the greatest. More rounds change nothing."
        )
    told = [line.promised for line in history[-last:] if line.promised is not None]
    promised = median(told) if told else 1.0
    flat = last >= WINDOW and fell >= FLAT
    if flat and promised <= NOTHING and now <= CAME * peak:
        return "converged", (
            f"Converged: the loss, {now:.3g}, fell by {_percent(1 - fell)} in the last "
            f"{last} rounds, and a step promises {_percent(promised)} at most. It is "
            "at its floor, as the noise of data is one."
        )
    if fell < FALLS ** min(last / WINDOW, 1.0):
        return "falling", _falling(now, fell, last)
    return "stalled", _stalled(now, fell, last, promised if told else None, terms)


def _falling(now: float, fell: float, last: int) -> str:
    """How fast, and what more rounds would give."""
    digits = -log10(fell) if fell > 0 else 1.0
    word = "round" if last == 1 else f"{last} rounds"
    text = (
        f"The loss still falls: to {now:.1e}, by a factor {1 / fell:.3g} in the last "
    )
    more = ceil(last / digits)
    return f"{text}{word}. At this pace {more} more would give another digit."


def _stalled(
    now: float,
    fell: float,
    last: int,
    promised: float | None,
    terms: Mapping[str, float],
) -> str:
    """What stands still, and what to try."""
    word = "round" if last == 1 else f"{last} rounds"
    text = (
        f"Stalled: the loss, {now:.3g}, fell by {_percent(1 - fell)} in the last {word}"
    )
    advice = "fipa or gauss_newton, a smaller learning rate or fewer local epochs"
    if promised is not None:
        text += f", though a step promises {_percent(promised)}"
        advice = "more rounds, another seed or policy, or more points"
    total = sum(terms.values())
    for name, part in terms.items():
        if len(terms) > 1 and part > MOST * total:
            text += f"; {_percent(part / total)} of it is of term '{name}'"
            advice += ", or look at that term: its weight, units and data"
    return f"{text}. Try {advice}."


def _percent(part: float) -> str:
    return f"{100 * part:.2g} %"
