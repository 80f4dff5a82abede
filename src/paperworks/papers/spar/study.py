"""The paper's claims, measured again. Each file of ``studies`` says its setting.

Models of 8B parameters, IFEval, FollowBench and LLMBar are out of reach here. In their place: tasks with closed values,
a model of letters, and the bundled language model on glosses of WordNet.
"""

from __future__ import annotations

from paperworks.papers.spar.studies.bits import efficiency
from paperworks.papers.spar.studies.definitions import definitions
from paperworks.papers.spar.studies.exact import loss, sizes
from paperworks.papers.spar.studies.interference import letters_in_miniature
from paperworks.papers.spar.studies.rivals import letters_rivals

__all__ = ["definitions", "efficiency", "letters_in_miniature", "letters_rivals", "loss", "sizes"]
