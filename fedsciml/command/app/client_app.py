"""What a site runs: its client of the problem that the run config names.

A Flower app of three files, which imports the fedsciml that is installed at the site.
The keys of the run config are in pyproject.toml; those of a site's node config are

    partition-id     which client the site is, from 0
    num-partitions   how many there are
    data             file with the site's rows, where site-data is true; "" for none
    delimiter        between the cells of a CSV file, "," if it is not given
    decimal          decimal sign there, "." if it is not given
    missing          what stands for a value that is not known, as "NA,-999", or "" for
                     an empty cell; rows with one are left out
    reply-megabytes  the largest reply that leaves the site, 500 if it is not given
    memory           directory for what a method's client remembers between rounds;
                     SCAFFOLD, FedDyn and keep_state need it; in secure sums the site
                     keeps there which sums it was in
    identity         file of the site's private key in secure sums
    identities       list of all sites' public ones, a line each in the order of
                     partition-id
    secure           true: the site takes part in secure sums alone
    one-set          false: also in sums over other sets of sites, far from the points
                     of the first; a server may then work out what one told that left
    least-sites      fewest sites of a sum; more than half of all if it is not given
    dp-epsilon       what all private runs together may spend of the site's points, with
                     dp-delta, 1e-5 if it is not given; the site refuses all others
"""

from collections.abc import Mapping

from fedsciml import problems, wrappers
from fedsciml.flower import client_app
from fedsciml.methods import Method
from fedsciml.problem import DataFile, Problem, SiteError
from fedsciml.registry import pairs

Config = Mapping[str, bool | int | float | str]

OPTIONS = {
    "rank": "rank",
    "policy": "policy",
    "local-epochs": "tau",
    "learning-rate": "learning_rate",
}
"""Keys of the run config that are options of methods."""

FORM = ("delimiter", "decimal", "missing")
"""Keys of the node config that say how the file is written."""


def problem_of(run: Config, node: Config) -> Problem:
    """The problem, with the rows of one site; with nobody's at the server.

    Raises:
        ValueError: If the problem cannot be made, or the site has no data file or a
            number that is none of the problem's.
    """
    options = pairs(str(run["problem-options"]))
    if run["site-data"]:
        clients = options.get("clients")
        if not isinstance(clients, int):
            raise ValueError(
                "With site-data, problem-options must say how many sites there are, "
                f"such as 'clients=3'; got '{run['problem-options']}'."
            )
        files: list[DataFile | str | None] = [None] * clients
        if node:
            if "data" not in node:
                raise SiteError(
                    'This site\'s node config has no data; give data="FILE", or '
                    'data="" for a site without rows of its own.'
                )
            client, sites = node["partition-id"], node.get("num-partitions")
            if sites != clients or client not in range(clients):
                raise SiteError(
                    f"With {clients} clients a site's node config has num-partitions="
                    f"{clients} and a partition-id from 0 to {clients - 1}; this one "
                    f"has num-partitions={sites} and partition-id={client}."
                )
            files[int(client)] = _file(node) if node["data"] else None
        options["data"] = files
    return problems.load(str(run["problem"]), **options)


def _file(node: Config) -> DataFile | str:
    """The site's file, and how it is written where its node config says so."""
    path, given = (
        str(node["data"]),
        {key: str(node[key]) for key in FORM if key in node},
    )
    if not given:
        return path
    words = given.pop("missing", None)
    return DataFile(
        path, **given, missing=() if words is None else tuple(words.split(","))
    )


def method_of(run: Config) -> Method:
    """The method.

    Raises:
        ValueError: If there is no such method, or it has no such option.
    """
    options = pairs(str(run["method-options"]))
    options |= {option: run[key] for key, option in OPTIONS.items() if run[key]}
    return wrappers.load(
        str(run["method"]),
        **{
            **options,
            "compress": str(run["compression"]),
            "secure": bool(run["secure"]),
            "groups": int(run["groups"]),
            "dp": str(run["dp"]) or None,
        },
    )


app = client_app(problem_of, method_of)
