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
