"""The paper's claims, measured again: on random models, on the bundled language model, and on MiniLM."""

from paperworks.papers.slicegpt.studies.calibration import calibrations, recovery
from paperworks.papers.slicegpt.studies.encoder import post_ln
from paperworks.papers.slicegpt.studies.exact import exact_properties, parameter_counts
from paperworks.papers.slicegpt.studies.perplexity import perplexities
from paperworks.papers.slicegpt.studies.times import times

__all__ = ["calibrations", "exact_properties", "parameter_counts", "perplexities", "post_ln", "recovery", "times"]
