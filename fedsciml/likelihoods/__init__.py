"""What a term's rows are: squares, classes, counts, yes or no, robust or censored."""

from fedsciml.likelihoods._base import Likelihood
from fedsciml.likelihoods._classes import Reliability
from fedsciml.likelihoods.bernoulli import Bernoulli
from fedsciml.likelihoods.categorical import Categorical
from fedsciml.likelihoods.censored import Censored
from fedsciml.likelihoods.gaussian import Gaussian
from fedsciml.likelihoods.huber import Huber
from fedsciml.likelihoods.poisson import Poisson
from fedsciml.likelihoods.student import StudentT

__all__ = [
    "Bernoulli",
    "Categorical",
    "Censored",
    "Gaussian",
    "Huber",
    "Likelihood",
    "Poisson",
    "Reliability",
    "StudentT",
]
