"""What is measured of a trained model: errors, and how surely unknowns are known."""

from fedsciml.analysis.determined import NETWORK, undetermined
from fedsciml.analysis.information import Coefficient, coefficients, standard_errors
from fedsciml.analysis.laplace import (
    SENSORS,
    Evidence,
    Laplace,
    combine,
    evidence,
    laplace,
)
from fedsciml.analysis.metrics import (
    Errors,
    errors,
    gauss_newton_gap,
    gradient_norm,
    measure,
    metrics,
    predicted,
    quantity,
)
from fedsciml.analysis.personal import Deviations, Personalised, deviations, personalise
from fedsciml.analysis.variation import Variation, variation

__all__ = [
    "NETWORK",
    "SENSORS",
    "Coefficient",
    "Deviations",
    "Errors",
    "Evidence",
    "Laplace",
    "Personalised",
    "Variation",
    "coefficients",
    "combine",
    "deviations",
    "errors",
    "evidence",
    "gauss_newton_gap",
    "gradient_norm",
    "laplace",
    "measure",
    "metrics",
    "personalise",
    "predicted",
    "quantity",
    "standard_errors",
    "undetermined",
    "variation",
]
