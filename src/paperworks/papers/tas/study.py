"""The claims, measured again: exactly on small networks, and on handwritten digits."""

from paperworks.papers.tas.studies.digits import depth, rivals, search_time, targets
from paperworks.papers.tas.studies.exact import certain_choice, expected_cost, interpolation, released_shapes

__all__ = [
    "certain_choice",
    "depth",
    "expected_cost",
    "interpolation",
    "released_shapes",
    "rivals",
    "search_time",
    "targets",
]
