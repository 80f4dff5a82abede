"""The claims, measured again: theorems by linear programming, gains on small real tasks, and the large trees.

ImageNet, LSHTC and PubMed need data that cannot be had offline. In their place: disease progression of patients in
ordered classes, handwritten digits, and furniture of WordNet with a sentence encoder.
"""

from __future__ import annotations

from paperworks.papers.loki.studies.exact import exact_rules, gains, loci
from paperworks.papers.loki.studies.random import active, crowding, samples
from paperworks.papers.loki.studies.real import diabetes, digits, furniture
from paperworks.papers.loki.studies.scale import scale

__all__ = ["active", "crowding", "diabetes", "digits", "exact_rules", "furniture", "gains", "loci", "samples", "scale"]
