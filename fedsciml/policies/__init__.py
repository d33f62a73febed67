"""Step policies by name. One module each, which is its own registry entry.

A module of this package whose name has no leading underscore is a policy of that name
(see ``fedsciml.registry``). Its ``make`` is a dataclass whose fields are the policy's
options, and the first line of the module's docstring says what the policy does.
"""

from typing import Any

from fedsciml.policies._base import (
    HALVINGS,
    MARGIN,
    MOST,
    Bending,
    Bent,
    Candidates,
    Choice,
    LossFree,
    Policy,
    Probed,
    S,
    check_candidates,
    check_fractions,
    lowest,
    proposal,
    resolved,
)
from fedsciml.registry import Registry

__all__ = [
    "FORM",
    "HALVINGS",
    "MARGIN",
    "MOST",
    "Bending",
    "Bent",
    "Candidates",
    "Choice",
    "LossFree",
    "Policy",
    "Probed",
    "S",
    "check_candidates",
    "check_fractions",
    "lowest",
    "names",
    "options",
    "parse",
    "proposal",
    "resolved",
    "summary",
]

FORM = "NAME or NAME:OPTION=VALUE,..., for example line_search:damping=1e-6"
"""What ``parse`` understands, for messages."""


_POLICIES: Registry[Policy[Any]] = Registry("policy", __name__, FORM)

names = _POLICIES.names
"""Names of all policies, sorted."""

summary = _POLICIES.summary
"""What the policy of a name does, in one line."""

options = _POLICIES.options
"""The options of the policy of a name that a word can give."""

parse = _POLICIES.parse
"""The policy that a word names: ``parse("line_search:damping=1e-6,memory=10")``."""
