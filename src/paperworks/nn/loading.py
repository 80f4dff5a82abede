"""Loading a checkpoint folder of transformers so that every weight of the model comes from the file.

transformers gives a random value to every parameter that a file lacks, and leaves out what the model has no place for.
Here both are refused.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.errors import InputError
from paperworks.nn.devices import resolve_dtype

if TYPE_CHECKING:
    import torch

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")
_COMPUTED = re.compile(r"(rotary_emb\.inv_freq|\.masked_bias|attn\.bias|position_ids)$")
"""Buffers that old checkpoints hold and models compute."""


def load_strict(auto: Any, folder: Path, *, dtype: Any = "auto", trust_remote_code: bool = False) -> Any:
    """The model in ``folder``, from an Auto class of transformers (or a model class), in evaluation mode on the CPU.

    Raises
    ------
    InputError : naming the first tensor: one that the file lacks, one of another shape than in the configuration, or
        one that the model has no place for (a layer beyond ``num_hidden_layers``, a bias of a matrix without one; other
        heads may be there). Naming ``config.model_type``: a configuration whose ``architectures`` are of another type.
    """
    try:
        model, found = auto.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:  # whatever strange files make transformers raise
        raise InputError(
            "model", f"{folder}, which does not load ({first_line(error)})", "a checkpoint of a language model"
        ) from error
    _check_type(model, folder)
    modules = {name for name, _ in model.named_modules()}
    extra = [name for name in found["unexpected_keys"] if belongs(name, modules)]
    refuse_tensors(folder, found["missing_keys"], extra, found["mismatched_keys"])
    return model.eval()


def refuse_tensors(folder: Path, missing: Any, extra: Any, mismatched: Any) -> None:
    """Raise InputError for a checkpoint whose tensors are not those of its configuration.

    ``missing``, ``extra``: names; ``mismatched``: (name, shape in the file, shape in the model).
    """
    for name, stored, shape in sorted(mismatched):
        raise InputError(name, f"shape {tuple(stored)} in {folder}", f"{tuple(shape)}, as config.json says")
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(sorted(missing)[0], f"no such tensor{others} in {folder}", "a complete checkpoint")
    if extra:
        others = f", one of {len(extra)}" if len(extra) > 1 else ""
        expected = "only tensors that the model of config.json has (num_hidden_layers, biases, model_type)"
        raise InputError(sorted(extra)[0], f"a tensor without a place in the model{others}, in {folder}", expected)


def stored_dtype(folder: Path) -> torch.dtype:
    """The type that most weights of a checkpoint folder are stored in; float32 where neither file nor config says."""
    import torch
    from safetensors import safe_open

    numbers: Counter[str] = Counter()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as shard:
            for name in shard.keys():  # noqa: SIM118 - not a dictionary
                piece = shard.get_slice(name)
                numbers[piece.get_dtype()] += math.prod(piece.get_shape())
    kinds = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
    floating = [kinds[kind] for kind, _ in numbers.most_common() if kind in kinds]
    if floating:
        return floating[0]
    config = check_model_folder(folder)
    return resolve_dtype(str(config.get("dtype") or config.get("torch_dtype") or "float32"))


def belongs(name: str, modules: set[str]) -> bool:
    """Whether a tensor that the model has not is of a layer or of a module of it, rather than of another head."""
    return not _COMPUTED.search(name) and (bool(re.search(r"\.\d+\.", name)) or name.rpartition(".")[0] in modules)


def _check_type(model: Any, folder: Path) -> None:
    """Names of tensors are the same in many architectures: a wrong ``model_type`` would compute another function."""
    import transformers

    for name in getattr(model.config, "architectures", None) or ():
        stock = getattr(transformers, name, None)
        kind = getattr(getattr(stock, "config_class", None), "model_type", None)
        own = {part.model_type for part in (model.config, getattr(model, "config_class", None)) if part is not None}
        if kind is not None and kind not in own:
            found = f"{model.config.model_type}, with architectures {name} in {folder}"
            raise InputError("config.model_type", found, f"{kind}, or the architecture that the weights are of")


def check_model_folder(folder: Path) -> dict[str, Any]:
    """The config of a model folder. Raises InputError where the folder cannot be one, or its weights are quantised."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise InputError("model", f"{folder}, {found}", "a folder with config.json and weights")
    if not (folder / "config.json").is_file():
        raise InputError("model", f"{folder}, without config.json", "a folder with config.json and weights")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            "model", f"{folder / 'config.json'}, which is not JSON ({error})", "a config of transformers"
        ) from error
    _check_values(config, folder / "config.json")
    if not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        raise InputError("model", f"{folder}, without weights", "model.safetensors, or shards with their index")
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "quantised")
        raise InputError("model", f"{folder}, with {method} weights", "weights in float32, bfloat16 or float16")
    return config


def _check_values(config: Any, path: Path, field: str = "model") -> None:
    if not isinstance(config, dict):
        raise InputError(field, f"{path} with a {type(config).__name__}", "a config: names with values")
    for name, value in config.items():
        counts = name.startswith(("num_", "n_", "max_position")) or name.endswith(("_size", "_dim"))
        if counts and isinstance(value, (int, float)) and value < 0:
            raise InputError(field, f"{name} = {value} in {path}", "sizes of 0 or more")


def read_transformers_config(folder: Path, field: str = "model") -> Any:
    """The configuration of a folder as transformers' class. Raises InputError, naming ``field``, for a wrong one."""
    from transformers import AutoConfig

    path = folder / "config.json"
    try:
        _check_values(json.loads(path.read_text(encoding="utf-8")), path, field)
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except InputError:
        raise
    except Exception as error:  # whatever a strange configuration makes transformers raise
        raise InputError(field, f"{path} ({first_line(error)})", "a config that transformers knows") from None


def load_beside(kind: Any, folder: Path, field: str, expected: str) -> Any:
    """A tokenizer or processor that lies in a checkpoint's folder, from an Auto class of transformers.

    Raises InputError with ``field`` and ``expected`` where it is missing or does not load.
    """
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever strange files make transformers raise; it reads config.json as well
        raise InputError(field, f"{folder} ({first_line(error)})", expected) from None


def first_line(error: Exception) -> str:
    """What an exception says first, or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
