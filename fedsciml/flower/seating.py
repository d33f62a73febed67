"""A site's seat in secure sums, as its node config says."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from flwr.app import Context
from flwr.app import UserConfig as Config

from fedsciml.federation.files import locked
from fedsciml.federation.site import Site
from fedsciml.federation.vault import Vault
from fedsciml.methods import Method
from fedsciml.problem import SiteError
from fedsciml.secure import identity, keys, ledger
from fedsciml.secure.seat import Seat
from fedsciml.wrappers import Privacy
from fedsciml.wrappers.secure import Secure

_VAULT = "vault"

_LOOSE = (
    *("out", "resume", "num-server-rounds", "min-available-nodes", "deadline"),
    *("patience", "join", "poll", "reply-megabytes", "threads", "staleness"),
)
"""Keys of the run config that make no other run."""


def admitted(method: Method, node: Config, client: int, clients: int) -> Method:
    """The method of a run, if the site may take part in it; with no seat yet.

    Raises:
        SiteError: If the site is for secure sums alone and the run has none, or has
            them and the site has not what they need.
    """
    if not isinstance(method, Secure):
        if node.get("secure") or node.get("dp-epsilon"):
            raise SiteError(
                "This site takes part in secure sums alone (secure=true in its node "
                "config), and this run has none. Give the run secure=true."
            )
        return method
    if node.get("dp-epsilon") and method.budget is None:
        raise SiteError(
            "This site takes part in private runs alone (dp-epsilon in its node "
            'config), and this run has no noise. Give the run dp="epsilon=...".'
        )
    if method.seats is not None:
        return method
    if not node.get("memory"):
        raise SiteError(
            "For secure sums a site's node config needs memory, a directory: what it "
            "told in one message or run it must know in the next."
        )
    _seat(node, client, clients, {})
    return replace(method, seats=())


@contextmanager
def seated(site: Site, context: Context, totals: list[int]) -> Iterator[None]:
    """Have the site in its seat, while it answers one message.

    Args:
        site: Whose method is that of the run.
        context: Flower's, of the message.
        totals: Points of each term over all clients, as the message says.

    Raises:
        SiteError: If it answers another one at the same time.
    """
    method = site.method
    if not isinstance(method, Secure) or method.seats:
        yield
        return
    # A run that is resumed is the same run, also where the site counts its releases.
    told = {**context.run_config, "resume": False}
    common = keys.digest(json.dumps([sorted(told.items()), totals]).encode())
    # Of what the server may change at a resume, or from message to message, no run is
    # another one.
    of = {key: word for key, word in told.items() if key not in _LOOSE}
    run = keys.digest(json.dumps(sorted(of.items())).encode())
    with ExitStack() as held:
        vault = _vault(context, site.client, held)
        clients = site.problem.clients
        seat = _seat(context.node_config, site.client, clients, vault, common, run)
        held.callback(setattr, site, "method", method)
        site.method = replace(method, seats=(seat,))
        yield


def _vault(context: Context, client: int, held: ExitStack) -> Vault:
    """Where the site keeps what it told; of files it is the only user until the end.

    Two messages at once could have it mask the same sum twice.
    """
    memory = str(context.node_config["memory"])
    vault = Vault(Path(memory, f"{_VAULT}-{client}"))
    vault.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        held.enter_context(locked(vault.directory))
    except BlockingIOError as error:
        raise SiteError(
            f"Client {client} is busy with another message: a site takes part in one "
            "run of secure sums at a time."
        ) from error
    return vault


def _budget(node: Config) -> float | None:
    """What a site pays for in all runs, 1 / z^2 of one sum that spends it."""
    epsilon = float(node.get("dp-epsilon", 0.0))
    if not epsilon:
        return None
    whole = Privacy(epsilon, float(node.get("dp-delta", 1e-5)), releases=1)
    return whole.multiplier**-2


def _seat(
    node: Config,
    client: int,
    clients: int,
    vault: ledger.Vault,
    common: bytes = b"",
    run: bytes = b"",
) -> Seat:
    """The site's seat; its keys are read.

    Raises:
        SiteError: If they are not there, or not what they must be.
    """
    missing = [key for key in ("identity", "identities") if not node.get(key)]
    if missing:
        raise SiteError(
            f"This run has secure sums, but the site's node config has no "
            f"{' and no '.join(missing)}: identity is the file of its private key, "
            "identities the list of all sites' public keys. Make a pair with: "
            "fedsciml new key identity FILE"
        )
    known = identity.listed(Path(str(node["identities"])))
    if len(known) != clients:
        raise SiteError(
            f"The list of identities has {len(known)} keys, but the run has {clients} "
            "clients. It needs a line for each, in the order of partition-id."
        )
    try:
        private = identity.read(Path(str(node["identity"])))
        return Seat(
            client,
            private,
            known,
            vault,
            common,
            faithful=bool(node.get("one-set", True)),
            fewest=int(node.get("least-sites", clients // 2 + 1)),
            run=run,
            budget=_budget(node),
        )
    except SiteError:
        raise
    except ValueError as error:
        raise SiteError(str(error)) from error
