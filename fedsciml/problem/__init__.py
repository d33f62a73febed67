"""What is trained, and who holds what."""

from fedsciml.problem.datafiles import DataFile, Points, load_points
from fedsciml.problem.images import Images, load_cifar, load_tiny_imagenet
from fedsciml.problem.outward import SiteError, outward
from fedsciml.problem.parts import numbered
from fedsciml.problem.problem import Problem
from fedsciml.problem.rows import Rows, Shard
from fedsciml.problem.term import Drawn, Residual, Row, Sampler, Term

__all__ = [
    "DataFile",
    "Drawn",
    "Images",
    "Points",
    "Problem",
    "Residual",
    "Row",
    "Rows",
    "Sampler",
    "Shard",
    "SiteError",
    "Term",
    "load_cifar",
    "load_points",
    "load_tiny_imagenet",
    "numbered",
    "outward",
]
