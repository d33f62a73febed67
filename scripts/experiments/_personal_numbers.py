"""Numbers of each site's own in families of equations and of sensors."""

import time

import torch

from experiments._personal import Options, bare, costs, family
from experiments._record import Entry, short
from fedsciml import methods, personalise, problems, run
from fedsciml.analysis import deviations
from fedsciml.analysis.laplace import SENSORS


def told(
    problem: str, seed: int, setting: Options, options: Options, rounds: int
) -> Entry:
    """Errors of the numbers, and their standard deviations.

    Of each number of each site: error over truth (of an offset, itself), error over
    its standard deviation from all rows, and over that with theta held.
    """
    made = problems.load(problem, seed=seed, **setting)
    begin = time.process_time()
    result = run(made, methods.load("fipa", **bare(options)), rounds, seed)
    found = costs(made, result.history, begin)
    every = deviations(made, result.theta, result.personal, SENSORS)
    view = made.personal
    assert view is not None
    errors, joint, alone = [], [], []
    names = list(made.unknowns)
    for m in range(made.clients):
        if problem == "gauges" and m == 0:  # calibrated: it has no numbers
            continue
        data = {
            made.terms[rows.term].name: rows.points
            if rows.target is None
            else (rows.points, rows.target)
            for rows in made.shard(m).rows
        }
        mine = personalise(made, result, data)
        spread = mine.deviations(SENSORS)
        start = view.at(torch.zeros_like(spread)).numbers(result.theta)
        held = view.at(spread).numbers(result.theta) - start
        truth, got = made.true(m), result.unknowns(m)
        for name in view.names:
            off = got[name] - truth[name]
            errors.append(short(off / truth[name] if name != "offset" else off))
            joint.append(short(off / every.numbers[m][name]))
            off = mine.unknowns()[name] - truth[name]
            alone.append(short(off / float(held[names.index(name)])))
    last = result.history[-1]
    return {
        "options": options,
        "seed": seed,
        "error": short(last.relative_l2),
        "loss": short(last.loss),
        "numbers": errors,
        "joint": joint,
        "held": alone,
        **found,
    }


def gap(seed: int, setting: Options, options: Options, rounds: int) -> Entry:
    """How far steps are from the centralised joint ones, by way of sending."""
    made, begin = family(seed, setting, options), time.process_time()
    method = methods.load("fipa", **bare(options))
    result = run(made, method, rounds, seed, gn_gap=True)
    gaps = [h.gn_gap for h in result.history if h.gn_gap is not None]
    outside = [h.outside for h in result.history if h.outside is not None]
    return {
        "options": options,
        "seed": seed,
        "gap": short(max(gaps)),
        "middle": short(sorted(gaps)[len(gaps) // 2]),
        "outside": short(max(outside)) if outside else None,
        "error": short(result.history[-1].relative_l2),
        **costs(made, result.history, begin),
    }
