"""The user's network made smaller, or made to forget a class, from synthetic samples."""

from __future__ import annotations

from pathlib import Path

from paperworks import runs
from paperworks.extras import require_extra
from paperworks.papers.modhifi.config import TEXT_MODELS, Config

__all__ = ["Config", "run"]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Prune or unlearn without training, from unlabelled or synthetic samples."""
    if _is_text_model(config.model):
        require_extra("llm", f"model {config.model}")
        from paperworks.papers.modhifi.text_models import prune_text_model

        return prune_text_model(config, run)
    if config.task == "unlearn":
        from paperworks.papers.modhifi.unlearning_run import unlearn_images

        return unlearn_images(config, run)
    from paperworks.papers.modhifi.pruning_run import prune_images

    return prune_images(config, run)


def _is_text_model(name: str) -> bool:
    """A name of one, or a folder whose configuration is neither of our networks nor of an image classifier."""
    from paperworks.pruning.image_options import MODELS

    if name in TEXT_MODELS:
        return True
    folder = Path(name).expanduser()
    if name in MODELS:
        return False
    if (folder / "modules.json").is_file():
        return True
    from paperworks.nn.saving import read_network_config

    content = read_network_config(folder)
    if "network" in content:
        return False
    from transformers import AutoModelForImageClassification

    kinds = {kind.model_type for kind in AutoModelForImageClassification._model_mapping if hasattr(kind, "model_type")}
    return content.get("model_type") not in kinds
