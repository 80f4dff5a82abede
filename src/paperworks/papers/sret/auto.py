"""Called before the Auto classes of transformers are first asked for a model, once paperworks is imported."""

from __future__ import annotations


def register() -> None:
    """Make the Auto classes know ``SReTModel`` and ``SReTForImageClassification``."""
    from paperworks.papers.sret.modeling import register as register_models

    register_models()
