"""The claims, measured again: exact properties, a small world of shapes, digits with words, and the cost."""

from paperworks.papers.gkc.studies.cost import rerun_cost, speed
from paperworks.papers.gkc.studies.digits import digits
from paperworks.papers.gkc.studies.exact import exact
from paperworks.papers.gkc.studies.shapes import shape_world

__all__ = ["digits", "exact", "rerun_cost", "shape_world", "speed"]
