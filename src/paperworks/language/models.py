"""Loading causal language models from folders, and the one that the package brings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from paperworks.errors import InputError
from paperworks.nn import resolve_device, resolve_dtype
from paperworks.nn.loading import check_model_folder, first_line, load_strict

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BUNDLED = Path(__file__).parent / "bundled"


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
    InputError : not a folder, or one without config.json, weights or tokenizer; quantised weights; weights that are not
        those of its configuration (see ``load_strict``); or what transformers cannot load.
    """
    from transformers import AutoModelForCausalLM

    folder = bundled_model_path() if path is None else Path(path).expanduser()
    check_model_folder(folder)
    place = resolve_device(device)
    number = "auto" if dtype is None else resolve_dtype(dtype)
    tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
    model = load_strict(AutoModelForCausalLM, folder, dtype=number, trust_remote_code=trust_remote_code)
    return cast(Any, model).to(place).eval(), tokenizer


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer beside a checkpoint. Raises InputError if there is none."""
    from transformers import AutoTokenizer

    check_model_folder(folder)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever strange files make transformers raise; it reads config.json as well
        found = f"{folder}, whose tokenizer does not load ({first_line(error)})"
        raise InputError("model", found, "a tokenizer beside it") from error


def check_length(folder: Path, length: int, field: str = "length") -> None:
    """Raise InputError naming ``field`` if ``length`` tokens are more than the checkpoint's positions allow."""
    config = check_model_folder(folder)
    longest = config.get("max_position_embeddings") or config.get("n_positions")
    if longest is not None and length > longest:
        raise InputError(field, f"{length} tokens", f"at most {longest}, the longest input of this model")
