"""Counts at six sites: visits to a doctor in a year, by Poisson regression.

The RAND Health Insurance Experiment (1974 to 1982) gave families insurance plans by
lot, at six sites in the USA; 20,190 rows, one for each person and year. They come with
statsmodels, in the public domain (A. C. Cameron, P. K. Trivedi, Microeconometrics,
2005, chapter 20). statsmodels' table leaves the sites out; they are in the original
file beside it, row by row the same. Sites 1 to 6 have 4462, 4036, 2436, 3090, 2595 and
3571 rows, and each is a client.

    visits ~ Poisson(lambda),    log lambda = theta . covariates + intercept

    lncoins   log(coinsurance + 1), coinsurance in per cent
    idp       1 in a plan with individual deductibles, else 0
    lpi       log(max(1, yearly participation incentive in dollars))
    fmde      log(max(1, largest expenditure / (0.01 coinsurance))), 0 where idp is 1
    physlm    1 of a person with physical limitations; a share where it is not known
    disea     chronic diseases, in tens (statsmodels has them one by one)
    hlthg     1 of a person in good health by own account,
    hlthf     in fair health,
    hlthp     in poor health; none of these three: in excellent health

theta are the nine coefficients in this order and the intercept. All rows of a fixed
fifth of each site's persons are for testing alone: the years of a person are alike.
"""

import torch
from torch import Tensor

from fedsciml.collocation import explicit, in_box, split
from fedsciml.likelihoods import Poisson
from fedsciml.network import MLP
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._data import held_out, packaged, table

SITES = 6

COVARIATES = (
    *("lncoins", "idp", "lpi", "fmde", "physlm", "disea"),
    *("hlthg", "hlthf", "hlthp"),
)

UPPER = (4.7, 1.0, 7.2, 8.3, 1.0, 5.9, 1.0, 1.0, 1.0)
"""No covariate is above it; none is negative."""


def measured() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Covariates [n, 9], visits [n], sites 0 to 5 [n] and persons [n], n = 20,190.

    Raises:
        ModuleNotFoundError: If statsmodels is not installed.
        FileNotFoundError: If it came without the data.
        ValueError: If its two files are not of the same rows.
    """
    place = ("datasets", "randhie")
    own = table(packaged("statsmodels", *place, "randhie.csv"))
    original = packaged("statsmodels", *place, "src", "randhie.csv")
    site, person, visits = table(original, [1, 5, 21]).unbind(1)
    if not torch.equal(visits, own[:, 0]):
        raise ValueError(
            f"The visits in {original} are not those of statsmodels' own table, row by "
            "row, so that its sites cannot be told. Install statsmodels 0.14 or 0.15."
        )
    covariates = own[:, 1:].clone()
    covariates[:, COVARIATES.index("disea")] /= 10
    return covariates, visits, site.long() - 1, person.unique(return_inverse=True)[1]


def log_mean(u: Jet, row: Row) -> Tensor:
    """log lambda."""
    return u.value


def make(clients: int = SITES, test: bool = True, prior: float = 0.0) -> Problem:
    """The problem.

    Args:
        clients: Number of clients, 1 to 6; fewer than 6 hold several sites each.
        test: Whether a fifth of the persons are kept for testing; false to train on
            all, as published tables do.
        prior: lambda of lambda / 2 times the sum of the squared parameters, added to
            the mean loss of a row; 0 for none.

    Raises:
        ValueError: If there are no 1 to 6 clients.
        ModuleNotFoundError: If statsmodels is not installed.
    """
    if not 1 <= clients <= SITES:
        raise ValueError(
            f"The experiment was made at {SITES} sites; clients must be 1 to {SITES}, "
            f"got {clients}."
        )
    covariates, visits, site, person = measured()
    home = torch.zeros(int(person.max()) + 1, dtype=torch.long)
    home[person] = site
    apart = torch.zeros(len(home), dtype=torch.bool)
    apart[held_out(home).test] = test
    kept = apart[person]
    owners = site[~kept] * clients // SITES
    corners = [0.0] * len(COVARIATES), list(UPPER)
    known = Poisson()
    tests = [Term("visits", log_mean, covariates[kept], visits[kept], likelihood=known)]
    return Problem(
        "randhie",
        MLP((len(COVARIATES), 1)),
        [
            Term(
                "visits",
                log_mean,
                split(covariates[~kept], owners),
                split(visits[~kept], owners),
                sample=in_box(*corners),
                likelihood=known,
            )
        ],
        explicit(clients),
        coordinates=COVARIATES,
        outputs=("log_visits",),
        domain=corners,
        parameters={"clients": clients, "test": test, "prior": prior},
        prior=prior,
        tests=tests if test else [],
    )
