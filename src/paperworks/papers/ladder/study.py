"""The claims, measured again on digits on coloured ground, on texts with a planted word, and on a census table.

Waterbirds, CelebA, the X-rays and the encoders of the paper cannot be had offline.
"""

from __future__ import annotations

from paperworks.papers.ladder.studies.digits import captions, mitigation, precision, slices
from paperworks.papers.ladder.studies.tables import metadata
from paperworks.papers.ladder.studies.texts import glosses

__all__ = ["captions", "glosses", "metadata", "mitigation", "precision", "slices"]
