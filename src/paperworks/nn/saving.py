"""Networks that save themselves: a folder with ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn.devices import resolve_device
from paperworks.nn.loading import refuse_tensors
from paperworks.runs.files import new_folder

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class SavedNetwork(nn.Module):
    """A network that ``save_pretrained`` writes with its options, and ``from_pretrained`` makes again.

    A subclass takes all its options as keywords of plain values, and passes them on to ``super().__init__``.

    Attributes
    ----------
    config : the options by name.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config: dict[str, Any] = config

    @classmethod
    def options(cls) -> list[str]:
        """The names of the network's options."""
        return list(inspect.signature(cls).parameters)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``config.json`` and ``model.safetensors`` to a new or empty folder; return it.

        Raises InputError naming ``folder`` if there is something in it: nothing is overwritten.
        """
        from safetensors.torch import save_file

        with new_folder(Path(folder)) as out:
            content = {"network": type(self).__name__, **self.config}
            (out / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
            save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
        return Path(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | torch.device = "cpu") -> Self:
        """Load what ``save_pretrained`` wrote, in evaluation mode, to the bit.

        Raises InputError naming ``folder`` for another network or another option, and naming a tensor that is missing,
        that has no place, or that is of another shape.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        source = Path(folder).expanduser()
        options = read_network_config(source)
        name = options.pop("network", None)
        if name != cls.__name__:
            raise InputError("folder", f"{source}, a network {name!r}", f"a folder of {cls.__name__}")
        try:
            model = cls(**options)
        except (InputError, TypeError) as error:
            raise InputError("folder", f"{source / CONFIG} ({error})", f"options of {cls.__name__}") from error
        try:
            state = load_file(source / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise InputError("folder", f"{source}, whose weights do not load ({error})", WEIGHTS) from error
        own = model.state_dict()
        shapes = [(name, state[name].shape, own[name].shape) for name in own.keys() & state.keys()]
        mismatched = [found for found in shapes if found[1] != found[2]]
        refuse_tensors(source, own.keys() - state.keys(), state.keys() - own.keys(), mismatched)
        model.load_state_dict(state, assign=True)
        return model.to(resolve_device(device)).eval()


def read_network_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a saved network. Raises InputError naming ``folder`` where there is none."""
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("folder", f"{folder}, without a readable {CONFIG} ({error})", "a saved network") from error
    if not isinstance(found, dict):
        raise InputError("folder", f"{folder / CONFIG}, a {type(found).__name__}", "an object with options")
    return found


def require(name: str, found: Any, right: bool, expected: str) -> None:
    """Raise InputError unless an option is right."""
    if not right:
        raise InputError(name, found, expected)
