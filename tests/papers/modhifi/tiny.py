"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A narrow perceptron of the user's that is pruned, and a network that is trained on digits to forget one."""
    import torch

    from paperworks.nn import MLP

    if not (folder / "mlp").exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            MLP(inputs=64, hidden=(16, 16), outputs=10).save_pretrained(folder / "mlp")
    small = {"limit": 120, "epochs": 0.5, "samples": 4, "device": "cpu"}
    return [
        {**small, "model": str(folder / "mlp"), "compare": False},
        {**small, "model": "small-cnn", "task": "unlearn", "forget": "3", "compare": False},
    ]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    from tiny_checkpoint import tiny_inputs

    return {"text": {"model": tiny_inputs(folder)[0], "samples": 4, "compare": False}}
