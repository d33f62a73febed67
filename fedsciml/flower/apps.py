"""The two programs of a Flower app: what runs at a site, what runs at the server.

The app itself makes problem and method; it hands in two functions:

    problem_of(run_config, node_config) -> Problem     node_config is {} at the server
    method_of(run_config) -> Method

Of the run config this module reads

    num-server-rounds, seed     see ``fedsciml.run``
    out, resume                 run directory at the server, "" for none
    min-available-nodes, deadline, patience, outlier, staleness,
    drop-suspects                                                   see ``Rules``
    fraction-train              1.0: every client that is there is asked
    join, poll                  see ``Flower``
    dtype, threads              float64; CPU threads, which the last digits depend on
    reply-megabytes             largest reply that is read, 500

and of the node config ``partition-id``, ``num-partitions``, ``device``,
``reply-megabytes``, the largest reply that the site sends, 500 if it is not given, and
``memory``: a directory for what the site remembers. Without it a site forgets when the
run is resumed or its SuperNode starts again. With FIPA the last digits then differ;
SCAFFOLD and FedDyn need the directory, as the server's control variate is wrong for
good once a client has forgotten its own, and so do solvers that keep their state.

For secure sums (``fedsciml.wrappers.secure``) a site's node config has ``identity``,
the file of its private key, and ``identities``, the list of all sites' public ones, see
``fedsciml.secure.identity``. What the site must not forget of these sums is under
``memory``, which is needed, beside what it remembers, for all later runs. With
``secure``, true, the site refuses every run that is not of secure sums: the run config,
which is the server's, chooses the method. ``one-set``, ``least-sites``, ``dp-epsilon``
and ``dp-delta`` bound further what the site takes part in, see docs/deploy.md.

Of an error at a site the server is told what ``outward`` says; all of it is in the
site's own log.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.app import UserConfig as Config
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedsciml.federation.directory import RunDirectory
from fedsciml.federation.history import Round
from fedsciml.federation.participation import Rules
from fedsciml.federation.result import Result
from fedsciml.federation.site import Files, Memories, Order, Site
from fedsciml.flower.backend import Flower
from fedsciml.flower.codec import REPLY_MEGABYTES, Kept, decode, encode, megabytes
from fedsciml.flower.messenger import RAISED, log
from fedsciml.flower.seating import admitted, seated
from fedsciml.methods import Method, Opening
from fedsciml.problem import Problem, SiteError, outward
from fedsciml.training import run

ProblemOf = Callable[[Config, Config], Problem]
MethodOf = Callable[[Config], Method]
Handler = Callable[[Message, Context], Message]


def client_app(problem_of: ProblemOf, method_of: MethodOf) -> ClientApp:
    """What runs at a site: answers a hello, exchanges, and what its loss is.

    Where the process lives from message to message, so do the site's jets and data.
    """
    app, sites = ClientApp(), dict[str, Site]()

    def site(context: Context) -> Site:
        run_config, node = context.run_config, context.node_config
        key = repr((sorted(run_config.items()), sorted(node.items())))
        if key not in sites:
            _set_threads(run_config)
            sites[key] = _site(problem_of, method_of, run_config, node)
        return sites[key]

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        told: dict[str, Any] = {"partition-id": _client(context.node_config)}
        examples = 0
        try:
            here = site(context)
            told |= {"agreement": here.agreement, "counts": here.counts}
            told["one-set"] = bool(context.node_config.get("one-set", True))
            examples = sum(here.counts)
        except Exception as error:
            told["error"] = outward(error)
            log.exception("This site cannot take part.")
        metrics = MetricRecord({"num-examples": examples})
        content = RecordDict({"config": ConfigRecord(told), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.train()
    @_discreet
    def train(message: Message, context: Context) -> Message:
        here, order = site(context), message.content.config_records["order"]
        totals = _totals(order)
        with seated(here, context, totals):
            upload, remembered = here.exchange(
                decode(message.content, here.method.kinds),
                totals,
                Order(*(str(order[key]) for key in Order._fields)),
                _memories(context, str(order["run"]), here.client),
            )
        told = MetricRecord({"remembered": int(remembered)})
        told["num-examples"] = sum(here.counts)
        content = RecordDict({**encode(upload), "metrics": told})
        _bound(content, context.node_config)
        return Message(content, reply_to=message)

    @app.evaluate()
    @_discreet
    def evaluate(message: Message, context: Context) -> Message:
        here, order = site(context), message.content.config_records["order"]
        theta, totals = decode(message.content, (Opening,)).theta, _totals(order)
        told: dict[str, float | list[float]] = {}
        if order.get("breakdown"):
            held_out, terms = here.breakdown(theta, totals)
            told = {**held_out._asdict(), "terms": list(terms)}
        else:
            told["loss"] = here.loss(theta, totals)
        metrics = MetricRecord({**told, "num-examples": sum(here.counts)})
        content = RecordDict({"metrics": metrics})
        return Message(content, reply_to=message)

    return app


def server_app(
    problem_of: ProblemOf,
    method_of: MethodOf,
    *,
    train: Callable[..., Result] = run,
    done: Callable[[Result], None] | None = None,
    **options: Any,  # noqa: ANN401
) -> ServerApp:
    """What runs at the server: trains, and logs a line per round.

    Args:
        problem_of: Makes the problem.
        method_of: Makes the method.
        train: ``fedsciml.run``, to have a report in the run directory, too.
        done: Called with the result; by default that is logged.
        options: For ``train``, such as ``progress``, which replaces the log's
            lines.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        given = grid, context.run_config, problem_of, method_of
        result = _train(*given, train, options)
        (done or _finish)(result)

    return app


def _discreet(handler: Handler) -> Handler:
    """The handler, of whose errors no text leaves the site but by ``outward``."""

    def answered(message: Message, context: Context) -> Message:
        try:
            return handler(message, context)
        except Exception as error:
            log.exception("This site cannot answer.")
            return Message(Error(RAISED, outward(error)), reply_to=message)

    return answered


def _bound(content: RecordDict, node: Config) -> None:
    """Refuse to send more than the site lets leave at once."""
    size, most = megabytes(content), float(node.get("reply-megabytes", REPLY_MEGABYTES))
    if size > most:
        raise SiteError(
            f"Client {_client(node)} would send {size:.3g} MB at once, more than the "
            f"{most:g} MB that its site lets pass. Take a smaller rank, network or "
            "compression, or have reply-megabytes raised, in the site's node config "
            "and in the run config."
        )


def _train(
    grid: Grid,
    config: Config,
    problem_of: ProblemOf,
    method_of: MethodOf,
    train: Callable[..., Result],
    options: Mapping[str, Any],
) -> Result:
    _set_threads(config)
    if config.get("fraction-train", 1.0) != 1.0:
        raise ValueError(
            "Every client that is there takes part in a round; fraction-train must be "
            f"1.0, got {config['fraction-train']}."
        )
    problem, method = problem_of(config, {}), method_of(config)
    if method.pooled:
        raise ValueError(
            f"Method {method.name} is centralised: it needs all rows in one place. Run "
            "it in process, or take a federated method."
        )
    out, resume = str(config.get("out", "")) or None, bool(config.get("resume", False))
    began = _began(Path(out)) if out and resume else {"run": uuid.uuid4().hex[:12]}
    timing: dict[str, Any] = {
        k.replace("-", "_"): float(config[k])
        for k in ("join", "poll", "reply-megabytes")
        if k in config
    }
    rules = _rules(config)
    rounds = int(config.get("num-server-rounds", 50))
    given = {"progress": partial(_report, rounds), **options}
    return train(
        problem,
        method,
        rounds,
        int(config.get("seed", 0)),
        out=out,
        resume=resume,
        backend=Flower(grid, need=rules.min_clients, **began, **timing),
        rules=rules,
        dtype=_dtype(config),
        **given,
    )


def _site(
    problem_of: ProblemOf, method_of: MethodOf, config: Config, node: Config
) -> Site:
    client, clients = _client(node), node.get("num-partitions")
    if client < 0:
        raise SiteError(
            "Its node config needs a partition-id, the client's number counted from 0; "
            f"it has {node.get('partition-id')!r}."
        )
    problem = problem_of(config, node)
    if clients != problem.clients:
        raise SiteError(
            f"Its node config has num-partitions {clients}, but the problem has "
            f"{problem.clients} clients; make them the same."
        )
    device = str(node.get("device", "cpu"))
    method = admitted(method_of(config), node, client, problem.clients)
    return Site(problem, method, client, device, _dtype(config))


def _client(node: Config) -> int:
    """The client's number; -1 if the node has none."""
    number = node.get("partition-id", -1)
    return number if isinstance(number, int) else -1


def _memories(context: Context, run_: str, client: int) -> Memories:
    """What the site remembers: in files where there is a place for them."""
    directory = context.node_config.get("memory")
    if directory:
        return Files(str(directory), run_, client)
    return Kept(context.state, run_)


def _totals(order: ConfigRecord) -> list[int]:
    totals = order["totals"]
    assert isinstance(totals, list)
    return [int(n) for n in totals]


def _began(out: Path) -> dict[str, Any]:
    """Name and counts of the run that a directory holds, and who joined it."""
    try:
        found: dict[str, Any] = json.loads((out / "run.json").read_text())["flower"]
        since = [line.joined for line in RunDirectory(out, {}).history()]
        joined = {int(m): own for line in since for m, own in line.items()}
        found = {**found, "joined": joined}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"No run over Flower to resume in {out}: {error!r}. Leave resume out, or "
            "give the directory of such a run."
        ) from error
    return found


def _rules(config: Config) -> Rules:
    kinds = {"min_clients": int, "staleness": int, "drop_suspects": bool}
    names = {"min_clients": "min-available-nodes", "drop_suspects": "drop-suspects"}
    given: dict[str, Any] = {
        key: kinds.get(key, float)(config[name])
        for key in Rules.__dataclass_fields__
        if config.get(name := names.get(key, key))
    }
    return Rules(**given)


def _dtype(config: Config) -> torch.dtype:
    name = config.get("dtype", "float64")
    if name not in ("float64", "float32"):
        raise ValueError(f"dtype must be float64 or float32, got {name!r}.")
    return torch.float64 if name == "float64" else torch.float32


def _set_threads(config: Config) -> None:
    if "threads" in config:
        torch.set_num_threads(int(config["threads"]))


def _finish(result: Result) -> None:
    log.info("Done: loss %.3e, theta %s.", result.loss, result.theta_sha256())
    log.info("%s", result.outcome)


def _report(rounds: int, line: Round) -> None:
    """A line for the log."""
    text = f"Round {line.round} of {rounds}: loss {line.loss:.3e}"
    if isfinite(line.relative_l2):
        text += f", error {line.relative_l2:.1e}"
    up, down = line.bytes_up / 1e6, line.bytes_down / 1e6
    text += f", {up:.2f} MB up, {down:.2f} MB down, {line.seconds:.1f} s"
    for m, reason in line.dropped.items():
        text += f"; without client {m}: {reason}"
    log.info("%s", text)
