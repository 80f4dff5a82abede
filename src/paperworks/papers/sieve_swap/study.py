"""The paper's claims, measured again at a scale that this machine can bear."""

from __future__ import annotations

from paperworks.papers.sieve_swap.studies.exact import attention, metrics, objectives, reader
from paperworks.papers.sieve_swap.studies.learning import prediction, pretraining
from paperworks.papers.sieve_swap.studies.sieving import segments, sieving

__all__ = ["attention", "metrics", "objectives", "prediction", "pretraining", "reader", "segments", "sieving"]
