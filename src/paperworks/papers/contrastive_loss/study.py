"""The paper's claims, measured again at a scale that one core can bear."""

from __future__ import annotations

from paperworks.papers.contrastive_loss.studies.exact import (
    entropy,
    gradients,
    limits,
    nt_xent_study,
    uniform_law_study,
)
from paperworks.papers.contrastive_loss.studies.trained import digits, patches, real_encoder

__all__ = ["digits", "entropy", "gradients", "limits", "nt_xent_study", "patches", "real_encoder", "uniform_law_study"]
