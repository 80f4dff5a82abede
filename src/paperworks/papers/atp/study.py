"""The paper's claims, measured again: exact properties on random models, and the bundled model tuned on dictionary
entries alone."""

from __future__ import annotations

from paperworks.papers.atp.studies.exact import exact_properties
from paperworks.papers.atp.studies.tuned import ablations, sizes, stages

__all__ = ["ablations", "exact_properties", "sizes", "stages"]
