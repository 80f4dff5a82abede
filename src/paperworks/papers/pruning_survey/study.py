"""The survey's claims, measured again. Each file of ``studies`` says its setting.

Networks of the survey's tables (VGG-16, OPT, DeiT) need days here. In their place: a network of six convolutions and a
residual one on handwritten digits, and the trained transformer all-MiniLM-L6-v2.
"""

from __future__ import annotations

from paperworks.papers.pruning_survey.studies.costs import costs, criteria, speed
from paperworks.papers.pruning_survey.studies.digits import inheritance, runtime, schedules, transfer, units
from paperworks.papers.pruning_survey.studies.exact import exact
from paperworks.papers.pruning_survey.studies.transformer import transformer

__all__ = [
    "costs",
    "criteria",
    "exact",
    "inheritance",
    "runtime",
    "schedules",
    "speed",
    "transfer",
    "transformer",
    "units",
]
