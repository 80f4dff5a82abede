"""What the studies share."""

from __future__ import annotations

from paperworks.papers.pointer_networks.estimators import BUNDLED
from paperworks.papers.pointer_networks.pretrained import read_config


def about_bundled(task: str) -> str:
    about = read_config(BUNDLED / task)["about"]
    return (
        f"bundled network: H = {read_config(BUNDLED / task)['hidden']}, trained on {about['sizes'][0]} to "
        f"{about['sizes'][1]} points, {about['steps']} steps of {about['batch_size']} instances"
    )
