"""What goes along with a training and keeps a state of its own: ``TrainingCallback``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TrainingCallback:
    """Base class of what acts in front of and behind every step of ``train``: masks, multipliers, records.

    ``train(..., callbacks=[...])`` calls them in their order, in every process; in several processes a callback must
    do the same in each. What ``state_dict`` gives is in the same checkpoint as the weights. Override what is needed.
    """

    def before_step(self, step: int) -> None:
        """Called before each step, counted from 0. It must leave PyTorch's global random state as it is."""

    def after_step(self, step: int, loss: float, learning_rate: float) -> None:
        """Called after each step, counted from 0, with the mean loss per target before the update."""

    def state_dict(self) -> Mapping[str, Any]:
        """The state to keep: tensors, numbers, strings, lists and dictionaries."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave. Raises InputError for the state of another training."""
