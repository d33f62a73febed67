"""What must be told of a run that came to its end and yet is not what it seems."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from fedsciml.federation.history import Round
from fedsciml.methods import EARLY
from fedsciml.problem import Problem

OFTEN = 0.5
"""Part of the rounds in which something must happen to be told."""

FELL = 100.0
"""Factor by which the loss fell after a suspicion that was none."""

LITTLE = 0.01
"""Part of the first loss at which a run that stands still has come somewhere."""

ROSE = 10.0
"""Factor by which the loss rose where something went wrong."""

SOME = 0.25
"""Part of the rounds in which sums must lose digits."""

MUCH, FAR = 1e-4, 0.01
"""Parts of the gradient outside of a shared basis. The first is much in half of the
rounds: it was so in 3 % of them where anchors cover the clients' points, and in 63 to
100 % with anchors in a quarter of the domain. From the second on clients are asked."""

SINGULAR = 1e8
"""Condition of a sum of whitened gramians that costs more digits than a run can spare;
it is 1 to 1e5 where anchors look like the clients' points."""

ROUNDING = 1e-16
"""Part of the greatest loss below which gradients are mostly rounding."""

FEW = 4
"""Points for each direction of a sum below which it gives most of them away: of 80
points in 92 directions 92 % were found, of 400 in 95 no more than by chance."""

MINIMUM = 1e-12
"""Part of the loss that steps still promise where it is least: deviances are not 0
there. In stalls far from it 1e-5 and more was seen."""

MANY = 10
"""Rounds after which a run should have come somewhere."""


def review(
    problem: Problem, history: Sequence[Round], holders: Mapping[int, Sequence[int]]
) -> list[str]:
    """Why the result may be wrong though the run was completed; in a sentence each.

    Args:
        problem: What was trained.
        history: Of all rounds.
        holders: By term, the clients that hold rows of it; empty if not known.
    """
    if not history:
        return []
    return [
        *_left_out(history),
        *_joined(history),
        *_unmerged(problem, history, holders),
        *_suspected(history),
        *_outside(history),
        *_unlike(history),
        *_standing(history),
    ]


def exposed(history: Sequence[Round], least: int, points: int | None) -> Iterator[str]:
    """What secure sums give away all the same.

    Args:
        history: Of a run of secure sums.
        least: Fewest clients whose sum may be known.
        points: Of all clients and terms; None if not known.
    """
    found = set[str]()
    basis = max((line.basis or 0 for line in history), default=0)
    if points is not None and points < FEW * basis:
        yield (
            f"The sums are over {points} points in up to {basis} directions: of fewer "
            f"than {FEW} points a direction a curious server can work out many from "
            "the sum itself. Take more points, or differential privacy."
        )
    for before, after in pairwise(history):
        changed = before.dropped.keys() ^ after.dropped.keys()
        if 0 < len(changed) < least:
            found |= changed
    if found:
        yield (
            f"Client(s) {', '.join(sorted(found, key=int))} left or came back alone: "
            "from the sums before and after a curious server can work out what they "
            "told. Where that matters, run again with all of them from another seed, "
            "with patience, or with differential privacy."
        )


def _left_out(history: Sequence[Round]) -> Iterator[str]:
    """Clients that most rounds did without."""
    rounds = Counter(m for line in history for m in line.dropped)
    for m, count in sorted(rounds.items()):
        if count > OFTEN * len(history):
            why = next(line.dropped[m] for line in history if m in line.dropped)
            yield (
                f"Client {m} was left out of {count} of {len(history)} rounds: the "
                f"model hardly knows its data. At first: {why}"
            )


def _joined(history: Sequence[Round]) -> Iterator[str]:
    """Clients that changed the weights of all rows."""
    for line in history:
        if line.joined:
            yield (
                f"Client(s) {', '.join(line.joined)} came in round {line.round}, and "
                "the weights of all rows changed with their points: the run began "
                "again at the model that it had. Losses before are of other sums."
            )


def _unmerged(
    problem: Problem, history: Sequence[Round], holders: Mapping[int, Sequence[int]]
) -> Iterator[str]:
    """Terms of which nothing was merged in any round."""
    merged = {m for line in history for m in _merged(line)}
    for t, of in sorted(holders.items()):
        if of and merged and not merged & set(of):
            who = " and ".join(map(str, of))
            yield (
                f"The term '{problem.terms[t].name}' was never merged: client(s) {who} "
                "alone hold rows of it, and were left out of every round, or sent "
                "nothing. The model does not fulfil it."
            )


def _merged(line: Round) -> set[int]:
    """Clients of which something was merged: an empty sketch is nothing."""
    clients = [int(m) for m in line.losses]
    if len(line.ranks) != len(clients):
        return set(clients)
    return {m for m, rank in zip(clients, line.ranks, strict=True) if rank}


def _suspected(history: Sequence[Round]) -> Iterator[str]:
    """Clients without whom the others' data would agree, where the loss stood still."""
    late = [line for line in history if line.round > EARLY]
    # What the run got over was no contradiction.
    late = [line for line in late if line.loss <= FELL * history[-1].loss]
    rounds = Counter(m for line in late for m in line.suspects)
    for m, count in sorted(rounds.items()):
        if count > 1:
            first = next(line.round for line in late if m in line.suspects)
            yield (
                f"The data of client {m} seem to contradict the others' (seen in "
                f"{count} rounds, at first in round {first}): their linear problem can "
                "be solved without it and not with it. Look at its data and units; or "
                "the solution is hardest in its part. Run without it to compare, or "
                "with drop_suspects."
            )


def _outside(history: Sequence[Round]) -> Iterator[str]:
    """Anchors that miss what the clients' rows tell."""
    peak = max(line.loss for line in history)
    late = [line for line in history if line.round > EARLY]
    late = [line for line in late if line.loss > ROUNDING * peak]
    missed = [x for line in late if (x := line.outside or 0.0) > MUCH]
    last = max((line.round for line in history if line.basis), default=0)
    if 0 < last < len(history) and sum(x > FAR for x in missed) > EARLY:
        yield (
            f"From round {last + 1} on clients sent their own sketches: before, more "
            f"than {FAR:g} of the gradient lay outside of the basis that the anchors "
            "span. Mend Term(sample=...)."
        )
    elif len(missed) > max(EARLY, OFTEN * len(late)):
        yield (
            f"In {len(missed)} of {len(late)} rounds more than {MUCH:g} of the "
            f"gradient, {max(missed):.1g} at most, lay outside of the basis that the "
            "anchors span: the samples of the terms do not cover the clients' points, "
            "or the residual depends on their targets. The steps were restricted to "
            "what is covered. Mend Term(sample=...), or take basis own."
        )


def _unlike(history: Sequence[Round]) -> Iterator[str]:
    """Anchors that are so unlike the clients' points that their sums lose digits."""
    known = [line.condition for line in history if line.condition is not None]
    lost = [x for x in known if not x < SINGULAR]
    if len(lost) > max(EARLY, SOME * len(known)):
        yield (
            f"In {len(lost)} of {len(known)} rounds the summed gramian had a condition "
            f"above {SINGULAR:.0e}: clients have points far from all anchors, or fewer "
            "rows than there are directions, and what little they tell of some was "
            "lost in rounding. Mend Term(sample=...), or take upload rows."
        )


def _standing(history: Sequence[Round]) -> Iterator[str]:
    """Runs that came nowhere, since the rows have their weights."""
    began = max((k for k, line in enumerate(history) if line.joined), default=0)
    history = history[began:]
    first, last, count = history[0], history[-1], len(history)
    stood = sum(line.step == 0 for line in history)
    if last.loss > ROSE * first.loss:
        yield f"The loss rose from {first.loss:.2e} to {last.loss:.2e}."
    if count < MANY or last.loss < LITTLE * first.loss:
        return
    if last.promised is not None and last.promised <= MINIMUM:
        return
    against = Counter(m for line in history for m in line.against)
    told = [f"client {m} in {n}" for m, n in sorted(against.items())]
    alone = f" (alone against one: {', '.join(told)})" if told else ""
    if stood > OFTEN * count:
        yield f"No step was taken in {stood} of {count} rounds{alone}."
    elif OFTEN * first.loss <= last.loss <= ROSE * first.loss:
        went = "fell only" if last.loss < first.loss else "rose"
        yield (
            f"The loss {went} from {first.loss:.2e} to {last.loss:.2e} in {count} "
            "rounds. If the start was no solution, this is none either: try another "
            "seed, more rounds, or another policy."
        )
