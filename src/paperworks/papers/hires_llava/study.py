"""The paper's claims, measured again. Each file of ``studies`` says its setting."""

from __future__ import annotations

from paperworks.papers.hires_llava.studies.answers import answers
from paperworks.papers.hires_llava.studies.exact import parts
from paperworks.papers.hires_llava.studies.reading import reading, towers
from paperworks.papers.hires_llava.studies.resolution import resolution
from paperworks.papers.hires_llava.studies.sampling import samplers

__all__ = ["answers", "parts", "reading", "resolution", "samplers", "towers"]
