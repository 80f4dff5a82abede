"""The paper's claims, measured again: theorems exactly, experiments with drawn and with trained networks."""

from __future__ import annotations

from paperworks.papers.permutations_ntk.studies.experiment import experiment
from paperworks.papers.permutations_ntk.studies.networks import trained
from paperworks.papers.permutations_ntk.studies.theory import bound, closed_form, every_input, growth

__all__ = ["bound", "closed_form", "every_input", "experiment", "growth", "trained"]
