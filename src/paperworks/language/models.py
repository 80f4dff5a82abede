"""Loading causal language models from folders, and the one that the package brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from paperworks.errors import InputError
from paperworks.nn import resolve_device, resolve_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BUNDLED = Path(__file__).parent / "bundled"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")


def bundled_model_path() -> Path:
    """The folder of the bundled model: Llama architecture, 5.7 million parameters, context of 256 tokens."""
    return _BUNDLED / "model"


def bundled_text(split: Literal["train", "validation", "test"]) -> str:
    """Real English under free licences, of the kind the bundled model was trained on; blank lines between documents.

    ``train`` is a sample of what it has seen; ``validation`` and ``test`` it has not seen.
    """
    if split not in ("train", "validation", "test"):
        raise InputError("split", repr(split), "train, validation or test")
    return (_BUNDLED / "text" / f"{split}.txt").read_text(encoding="utf-8")


def load_model(
    path: Path | str | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device = "auto",
    *,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in evaluation mode, and its tokenizer, from a Hugging Face folder on this machine.

    Parameters
    ----------
    path : the folder; None is the bundled model.
    dtype : format of the weights in memory; None keeps that of the file, "float32" and so on convert.
    device : "auto" or a device of PyTorch.

    Raises
    ------
    InputError : not a folder, or one without config.json, weights or tokenizer, quantised weights, or what
        transformers cannot load.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    folder = bundled_model_path() if path is None else Path(path).expanduser()
    check_model_folder(folder)
    place = resolve_device(device)
    number = "auto" if dtype is None else resolve_dtype(dtype)
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=number, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(
            "model", f"{folder}, which does not load ({_first_line(error)})", "a causal language model"
        ) from error
    return cast(Any, model).to(place).eval(), tokenizer


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer beside a checkpoint. Raises InputError if there is none."""
    from transformers import AutoTokenizer

    check_model_folder(folder)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        found = f"{folder}, whose tokenizer does not load ({_first_line(error)})"
        raise InputError("model", found, "a tokenizer beside it") from error


def check_length(folder: Path, length: int, field: str = "length") -> None:
    """Raise InputError naming ``field`` if ``length`` tokens are more than the checkpoint's positions allow."""
    config = check_model_folder(folder)
    longest = config.get("max_position_embeddings") or config.get("n_positions")
    if longest is not None and length > longest:
        raise InputError(field, f"{length} tokens", f"at most {longest}, the longest input of this model")


def check_model_folder(folder: Path) -> dict[str, Any]:
    """The config of a model folder. Raises InputError where the folder cannot be one, or its weights are quantised."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise InputError("model", f"{folder}, {found}", "a folder with config.json and weights")
    if not (folder / "config.json").is_file():
        raise InputError("model", f"{folder}, without config.json", "a folder with config.json and weights")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            "model", f"{folder / 'config.json'}, which is not JSON ({error})", "a config of transformers"
        ) from error
    if not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        raise InputError("model", f"{folder}, without weights", "model.safetensors, or shards with their index")
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "quantised")
        raise InputError("model", f"{folder}, with {method} weights", "weights in float32, bfloat16 or float16")
    return config


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
