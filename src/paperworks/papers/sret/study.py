"""The paper's claims, counted exactly and measured again in miniature."""

from __future__ import annotations

from paperworks.papers.sret.studies.digits import deep, resolution, slices, teacher
from paperworks.papers.sret.studies.exact import attention, counts, depth
from paperworks.papers.sret.studies.sums import sums

__all__ = ["attention", "counts", "deep", "depth", "resolution", "slices", "sums", "teacher"]
