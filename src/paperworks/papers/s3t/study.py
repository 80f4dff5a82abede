"""The paper's claims, measured again. Each file of ``studies`` says its setting."""

from __future__ import annotations

from paperworks.papers.s3t.studies.encoders import _encoders

__all__ = ["_encoders"]
