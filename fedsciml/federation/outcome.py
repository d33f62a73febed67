"""Whether a run has converged, still falls or has stalled, and what to try.

From the history alone, of rounds with the clients of the last one, by the lowest loss
so far and by what steps promised:

    converged  the lowest loss is below ROUNDING eps^2 of the first, and did not halve
               in the last rounds: what is left of the residual is rounding;
               or the last round's step promised less than eps of it, and it fell by
               a tenth at least: it is at rest, as deviances are, which do not become 0;
               or it fell by less than 2 % in them, steps promised less than a tenth
               of it in most of them, and it is below a tenth of the first: it is at a
               floor, as the noise of data is one
    falling    it fell by more than a tenth in the last rounds, and did not rise again
               by half of these digits; where there were fewer than ten, at that pace
    stalled    else

The last rounds are ten. Of methods that solve no linear problem, so that their steps
promise nothing, they are half of all, if that is more, as losses stand still for long
and then fall; and these converge to rounding alone. Promised is ``Round.promised``,
what the best step of a round would remove if the residual were linear. It is small at a
minimum, but also where the damping is large: at the start of hard problems both loss
and promise stand still, hence the tenth of the first loss, or else half of it and a
promise below ``SURELY``. And it is small where a network is saturated.

Held against each round of 83 runs, of 26 problems, 8 methods and 9 policies: of 1953
rounds at which a run had converged none was followed by half the loss, of 1728 at which
it had stalled 14 %, of 4824 at which it fell 78 %.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import ceil, log10
from statistics import median
from typing import Literal, NamedTuple

from fedsciml.federation.history import Round

WINDOW, PART = 10, 2
"""Last rounds that are looked at: so many, or of other methods this part of all."""

ROUNDING = 1e4
"""Of eps^2: losses of 1e-31 to 5e-26 of the first were reached in float64."""

FLAT, FALLS = 0.98, 0.9
"""Factors of the loss in the last rounds above which it is at a floor, if steps promise
nothing, and below which it falls."""

NOTHING = 0.1
"""Part of the loss below which a step promises nothing. Of noisy data it was 0.01 to
0.1, at the rounding level 1e-5 to 0.01, and about 1 where a run stood still and fell
later."""

CAME, HALF, SURELY = 0.1, 0.5, 1e-8
"""Part of the first loss below which a run has come somewhere; below which it has if
steps promise less than this: the damping of hard starts left 1e-5."""

SINGLE = 1e-10
"""Rounding unit above which the precision may be what a run stalls at."""

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
) -> Outcome:
    """How a run ended.

    Args:
        history: Of all rounds, one at least.
        loss: Of the model; None if it is not that of the last round's clients.
        eps: Rounding unit of the arithmetic, as ``torch.finfo(dtype).eps``.
        terms: Loss of the model by terms, where it is known.
        asked: Callbacks that ended the run.
    """
    state, sentence = _judged(_comparable(history), loss, eps, terms or {})
    if asked:
        names = ", ".join(str(getattr(one, "__name__", one)) for one in asked)
        sentence = f"Ended after round {len(history)}, as asked ({names}). {sentence}"
    return Outcome(state, sentence)


def _comparable(history: Sequence[Round]) -> list[Round]:
    """Rounds whose losses are of the same rows as the last one's."""
    since = max((k for k, line in enumerate(history) if line.joined), default=0)
    gone = missing(history[-1])
    return [line for line in history[since:] if missing(line) == gone]


def missing(line: Round) -> set[str]:
    """Clients whose loss is not in that of a round; of who is stood in for it is."""
    return line.dropped.keys() - line.stale.keys()


def _judged(
    history: Sequence[Round], loss: float | None, eps: float, terms: Mapping[str, float]
) -> tuple[State, str]:
    losses = [line.loss for line in history]
    losses.append(losses[-1] if loss is None else loss)
    lowest, first = list(accumulate(losses, min)), losses[0]
    linear = any(line.promised is not None for line in history)
    least = WINDOW if linear else max(WINDOW, len(history) // PART)
    last = history[-least:]
    now, before = lowest[-1], lowest[-1 - len(last)]
    fell = now / before if before > 0 else 1.0
    ended = now if loss is None else loss
    worse = ended > max(now / FALLS, (now * before) ** 0.5)  # in digits, by most
    if ended <= 0:
        return "converged", "Converged: the loss is 0."
    if ended <= ROUNDING * eps**2 * first and fell > 0.5:
        return "converged", (
            f"Converged: the loss, {ended:.1e}, is rounding, {ended / first:.0e} of "
            "the first. More rounds change nothing."
        )
    left = history[-1].promised
    if left is not None and left <= eps and now <= FALLS * first and not worse:
        return "converged", (
            f"Converged: the loss, {ended:.5g}, is at rest: the last step promised "
            f"{left:.0e} of it. More rounds change nothing."
        )
    told = [line.promised for line in last if line.promised is not None]
    promised = median(told) if told else None
    came = f"{now:.3g}, fell by {_percent(1 - fell)} in {_rounds(len(last))}"
    bound = NOTHING if now <= CAME * first else SURELY
    flat = fell >= FLAT and now <= HALF * first and not worse
    if flat and promised is not None and promised <= bound:
        return "converged", (
            f"Converged: the loss, {came}, and steps promise {_percent(promised)} "
            "more. It is at a floor: of noise in data, or of this network and start."
        )
    if not worse and fell < FALLS ** min(len(last) / WINDOW, 1.0):
        text = (
            f"The loss still falls: to {now:.1e}, by a factor {1 / fell:.3g} in "
            f"{_rounds(len(last))}"
        )
        late = (len(last) + 1) // 2
        lately = now / lowest[-1 - late]
        if lately > FALLS ** min(late / WINDOW, 1.0):
            return "falling", (
                f"{text}, but hardly in the last {late} of them. A few more rounds "
                "will tell whether it has converged."
            )
        if history[-1].metrics:  # of a deviance, which is not 0 where it is least
            return "falling", f"{text}."
        more = ceil(late / -log10(lately))
        pace = "1 more round gives" if more == 1 else f"{more} more rounds give"
        return "falling", f"{text}. At this late pace {pace} another digit."
    if worse:
        came = f"{ended:.3g}, was as low as {now:.3g} before"
    if now == first:
        came = f"{ended:.3g}, has not been lower than at the start"
    return (
        "stalled",
        f"Stalled: the loss, {came}{_stalled(last, promised, terms, eps)}.",
    )


def _stalled(
    last: Sequence[Round],
    promised: float | None,
    terms: Mapping[str, float],
    eps: float,
) -> str:
    """What more is known of a loss that stands still, and what to try."""
    text = ""
    if promised is not None:
        but = "though" if promised > NOTHING else "and"
        text = f", {but} steps promise {_percent(promised)}"
    stood = sum(line.step == 0 for line in last)
    if 2 * stood > len(last):
        text += f"; in {stood} of these rounds no step was taken"
    advice = "more rounds, another seed or policy, or more points"
    if promised is None:
        advice = "fipa or gauss_newton, another learning rate, or fewer local epochs"
    if eps > SINGLE:
        advice = f"float64, {advice}"
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
    if part < 1e-4:
        return "less than 0.01 %"
    return f"{100 * part:.2g} %" if part < 0.995 else "100 %"
