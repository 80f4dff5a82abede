"""The paper's claims, measured again. Each file of ``studies`` says its setting.

CIFAR, Tiny-ImageNet, GLUE, Alpaca and models of billions of parameters are out of reach here. In their place: digits,
glosses of WordNet with a pretrained sentence encoder, and the bundled language model.
"""

from __future__ import annotations

from paperworks.papers.s3t.studies.combinatorics import _diversity, _kept, _requests
from paperworks.papers.s3t.studies.digits import _digits, _exact, _total
from paperworks.papers.s3t.studies.encoders import _encoders
from paperworks.papers.s3t.studies.texts import _language

__all__ = ["_digits", "_diversity", "_encoders", "_exact", "_kept", "_language", "_requests", "_total"]
