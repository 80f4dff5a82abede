"""The paper's claims, measured again on random models and on the bundled language model."""

from paperworks.papers.compresso.studies.comparison import against_one_shot, training_data
from paperworks.papers.compresso.studies.constraint import constraint, sizes
from paperworks.papers.compresso.studies.exact import exact_properties

__all__ = ["against_one_shot", "constraint", "exact_properties", "sizes", "training_data"]
