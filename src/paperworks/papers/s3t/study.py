"""The paper's claims, measured again. Each file of ``studies`` says its setting.

CIFAR, Tiny-ImageNet, GLUE, Alpaca and models of billions of parameters are out of reach here. In their place: digits,
glosses of WordNet with a pretrained sentence encoder, and the bundled language model.
"""

from __future__ import annotations

from paperworks.papers.s3t.studies.baselines import isolation, many_records, membership, unsliced
from paperworks.papers.s3t.studies.combinatorics import diversity, kept, requests
from paperworks.papers.s3t.studies.digits import digits, exact, total
from paperworks.papers.s3t.studies.encoders import encoders
from paperworks.papers.s3t.studies.texts import language

__all__ = [
    "digits",
    "diversity",
    "encoders",
    "exact",
    "isolation",
    "kept",
    "language",
    "many_records",
    "membership",
    "requests",
    "total",
    "unsliced",
]
