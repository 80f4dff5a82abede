"""Networks as folders: ``config.json`` and ``model.safetensors``, read back with weights only, no code."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from paperworks.errors import InputError
from paperworks.runs.files import new_folder, write_text

WEIGHTS, CONFIG = "model.safetensors", "config.json"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class NetworkConfig:
    """What decides a network's shape.

    Attributes
    ----------
    features : numbers per input element (2 for points in the plane).
    hidden : H, the width of encoder, decoder and attention. The paper takes 256 or 512.
    embedding : put a learned linear map from ``features`` to H before both LSTMs. The paper has none.
    """

    features: int = 2
    hidden: int = 256
    embedding: bool = False

    def __post_init__(self) -> None:
        for name in ("features", "hidden"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(name, repr(value), "a whole number of 1 or more")


class PretrainedNetwork(nn.Module):
    """A module with a config that saves itself to a folder and comes back from it."""

    config_class: ClassVar[type[NetworkConfig]] = NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    def save_pretrained(
        self, folder: str | Path, *, dtype: str = "float32", about: dict[str, Any] | None = None
    ) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a new folder.

        Parameters
        ----------
        folder : new or empty; nothing is overwritten.
        dtype : float32, float16 or bfloat16: how the weights are stored.
        about : anything JSON-ready to keep beside the config, such as the training's settings.
        """
        if dtype not in DTYPES:
            raise InputError("dtype", repr(dtype), f"one of {', '.join(DTYPES)}")
        state = {name: p.detach().to("cpu", DTYPES[dtype]).contiguous() for name, p in self.state_dict().items()}
        content = {"model_type": type(self).__name__, **asdict(self.config), "dtype": dtype, "about": about or {}}
        with new_folder(Path(folder)) as aside:
            save_file(state, aside / WEIGHTS, metadata={"format": "pt"})
            write_text(aside / CONFIG, json.dumps(content, indent=1) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read a folder that ``save_pretrained`` wrote; the weights become float32, and the network is in eval mode.

        Raises InputError if the folder is not one, holds another kind of network, or its weights do not fit its config.
        """
        folder = Path(folder)
        content = read_config(folder)
        if content.get("model_type") != cls.__name__:
            raise InputError(str(folder), f"a {content.get('model_type')}", f"a {cls.__name__}")
        known = {f.name for f in fields(cls.config_class)}
        missing = known - content.keys()
        if missing:
            raise InputError(str(folder / CONFIG), f"no {', '.join(sorted(missing))}", "what save_pretrained writes")
        network = cls(cls.config_class(**{name: content[name] for name in known}))
        try:
            state = load_file(folder / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise InputError(
                str(folder / WEIGHTS), str(error).splitlines()[0], "weights in the safetensors format"
            ) from error
        own = network.state_dict()
        odd = sorted(own.keys() ^ state.keys()) or [n for n in own if own[n].shape != state[n].shape]
        if odd:
            raise InputError(str(folder / WEIGHTS), f"weights that differ in {odd[0]}", f"those of {CONFIG} beside it")
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        return network.eval()


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a saved network's ``config.json``."""
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(str(folder), f"no {CONFIG}", "a folder written by save_pretrained")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(str(path), f"text that is not JSON ({error})", "what save_pretrained writes") from None
    if not isinstance(content, dict):
        raise InputError(str(path), "no JSON object", "what save_pretrained writes")
    return content
