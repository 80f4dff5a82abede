"""Text encoders from folders: of sentence-transformers, or of transformers with a way of pooling.

A sentence-transformers folder names its modules in ``modules.json``. Those that almost all published encoders consist
of are read here (Transformer, Pooling, Dense, Normalize), so that the package itself is not needed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.embedding.encoders import TruncationWarning
from paperworks.errors import InputError, nearest

if TYPE_CHECKING:
    import torch

POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""In the order in which several of them are concatenated."""
OLD_POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
LONGEST_UNKNOWN = 10**6
"""Tokenizers without a limit name a number above this."""


@dataclass(frozen=True)
class _Recipe:
    """What a folder says: where the transformer is, and what happens to its hidden states."""

    transformer: Path
    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    dense: tuple[Path, ...] = ()
    normalize: bool = False
    max_length: int | None = None
    lower: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


class TextEncoder:
    """A text encoder from a folder on this machine.

    Parameters
    ----------
    folder : of sentence-transformers (``modules.json``) or of transformers (``config.json``).
    pooling : "mean", "cls", "max", "lasttoken", "weightedmean" or "mean_sqrt_len_tokens"; by default what the folder
        says, else "mean".
    normalize : divide vectors by their norm; by default what the folder says, else False.
    prompt : text put before each text, or the name of one of the folder's prompts; by default the folder's default
        prompt, "" for none.
    max_length : tokens read of a text; by default what the folder says. What is longer is cut, with a
        TruncationWarning.
    batch_tokens : tokens (padding included) of a batch. Batches hold texts of like length.
    device, dtype : where and in which format the model runs.
    trust_remote_code : run code that the folder brings.

    Attributes
    ----------
    dimensions : columns of the vectors.
    prompts : name -> text, of the folder.
    module : the transformer, a ``torch.nn.Module``.

    Raises
    ------
    InputError : a folder that is not there, lacks a file or a weight, or has modules of other kinds.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        pooling: str | None = None,
        normalize: bool | None = None,
        prompt: str | None = None,
        max_length: int | None = None,
        batch_tokens: int = 8192,
        device: str = "auto",
        dtype: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        from paperworks.nn import resolve_device

        folder = Path(folder).expanduser()
        recipe = _read_recipe(folder)
        if pooling is not None:
            if pooling not in POOLINGS:
                raise InputError("pooling", repr(pooling), f"one of {', '.join(POOLINGS)}{nearest(pooling, POOLINGS)}")
            recipe = replace(recipe, pooling=(pooling,))
        if batch_tokens < 1:
            raise InputError("batch_tokens", batch_tokens, "1 or more")
        if max_length is not None and max_length < 3:
            raise InputError("max_length", max_length, "3 or more: a token between the two special ones")
        self.folder, self._recipe = folder, recipe
        self.prompts = recipe.prompts
        self.prompt = self._prompt(prompt)
        self.normalize = recipe.normalize if normalize is None else normalize
        self.batch_tokens = batch_tokens
        self.device = resolve_device(device)
        self.module, self.tokenizer = load_strictly(recipe.transformer, "text", dtype, trust_remote_code)
        if hasattr(self.module, "get_text_features"):
            found = f"{folder}, a {self.module.config.model_type} of images and texts"
            raise InputError("encoder", found, "an encoder of texts alone")
        self.module.to(self.device)
        self._dense = [_Dense(path, self.device) for path in recipe.dense]
        self.max_length = self._limit(max_length)
        width = int(self.module.config.hidden_size) * len(recipe.pooling)
        self.dimensions = self._dense[-1].width if self._dense else width
        self.name = folder.name

    @property
    def identity(self) -> str:
        """What decides the vectors of a text, in words."""
        return (
            f"{self.folder.resolve()}|{self._recipe.pooling}|{self.normalize}|{self.prompt!r}|{self.max_length}"
            f"|{self.module.dtype}"
        )

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """As ``encode``: the form that a search takes."""
        return self.encode(texts)

    def encode(self, items: Sequence[str]) -> np.ndarray:
        """Vectors of texts: float32 [n, dimensions]. Warns once a call of texts that were cut."""
        import torch

        from paperworks.nn import evaluation_mode

        texts = [self._text(item, number) for number, item in enumerate(items)]
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        if not texts:
            return vectors
        tokens = self.tokenizer(texts, add_special_tokens=True, truncation=True, max_length=self.max_length)[
            "input_ids"
        ]
        lengths = [len(ids) for ids in tokens]
        self._warn_of_cuts(texts, lengths)
        with torch.inference_mode(), evaluation_mode(self.module):
            for batch in batches_by_length(lengths, self.batch_tokens):
                hidden, mask = self._hidden([tokens[i] for i in batch])
                pooled = torch.cat([_pool(hidden, mask, how) for how in self._recipe.pooling], dim=1)
                for dense in self._dense:
                    pooled = dense(pooled)
                if self.normalize:
                    pooled = torch.nn.functional.normalize(pooled, dim=1)
                vectors[batch] = pooled.float().cpu().numpy()
        return vectors

    def _text(self, item: Any, number: int) -> str:
        if not isinstance(item, str):
            raise InputError(f"texts, number {number}", type(item).__name__, "a text")
        text = self.prompt + item.strip()
        return text.lower() if self._recipe.lower else text

    def _prompt(self, given: str | None) -> str:
        if given is not None:
            return self.prompts.get(given, given)
        default = self._recipe.default_prompt
        if default is not None and default not in self.prompts:
            raise InputError(
                str(self.folder / "config_sentence_transformers.json"),
                f"default_prompt_name {default!r}",
                f"one of its prompts: {', '.join(self.prompts) or 'none'}",
            )
        return self.prompts[default] if default is not None else ""

    def _limit(self, given: int | None) -> int:
        """Tokens of a text: what was asked for, within what tokenizer and positions allow."""
        config = self.module.config
        positions = getattr(config, "max_position_embeddings", None)
        if positions is not None and config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
            positions -= 2  # their positions start after the padding token
        limits = [positions, self.tokenizer.model_max_length, given or self._recipe.max_length]
        known = [int(n) for n in limits if n is not None and 0 < n < LONGEST_UNKNOWN]
        if given is not None and given > min(known):
            raise InputError("max_length", given, f"at most {min(known)}, what the model reads")
        return min(known, default=512)

    def _warn_of_cuts(self, texts: list[str], lengths: list[int]) -> None:
        full = [i for i, n in enumerate(lengths) if n >= self.max_length]
        if full:
            whole = self.tokenizer([texts[i] for i in full], add_special_tokens=True, truncation=False, verbose=False)
            cut = sum(len(ids) > self.max_length for ids in whole["input_ids"])
            warn_of_cuts(cut, len(texts), self.max_length)

    def _hidden(self, sequences: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Last hidden states [b, t, h] and the mask [b, t] of tokens that are pooled."""
        import torch

        batch = self.tokenizer.pad({"input_ids": sequences}, return_tensors="pt").to(self.device)
        wanted = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask", "token_type_ids")}
        mask = batch["attention_mask"]
        hidden = self.module(**wanted).last_hidden_state
        if self.prompt and not self._recipe.include_prompt:
            mask = mask.clone()
            position = mask.cumsum(1) - 1
            mask[position < self._prompt_tokens()] = 0
        return hidden, mask.to(hidden.dtype)[..., None].to(torch.promote_types(hidden.dtype, torch.float32))

    def _prompt_tokens(self) -> int:
        ids = self.tokenizer(self.prompt)["input_ids"]
        ends = ids[-1:] and ids[-1] in self.tokenizer.all_special_ids
        return len(ids) - bool(ends)


def warn_of_cuts(cut: int, count: int, limit: int) -> None:
    """Say how many texts were cut, if any."""
    if cut:
        warnings.warn(
            f"{cut} of {count} texts have more than {limit} tokens; the rest of each was left out",
            TruncationWarning,
            stacklevel=4,
        )


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Positions in batches of like length, each of at most ``batch_tokens`` tokens (or one text)."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[i] > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _pool(hidden: torch.Tensor, mask: torch.Tensor, how: str) -> torch.Tensor:
    """Hidden states [b, t, h] and a mask [b, t, 1] to vectors [b, h]."""
    import torch

    hidden = hidden.to(mask.dtype)
    if how in ("cls", "lasttoken"):
        inside = mask[..., 0] > 0
        place = inside.int().argmax(1) if how == "cls" else inside.shape[1] - 1 - inside.flip(1).int().argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), place]
    if how == "max":
        return hidden.masked_fill(mask == 0, -torch.inf).amax(1)
    weights = mask
    if how == "weightedmean":  # later tokens weigh more (SGPT, arXiv 2202.08904)
        weights = mask * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)[None, :, None]
    total, size = (hidden * weights).sum(1), weights.sum(1).clamp(min=1e-9)
    return total / size.sqrt() if how == "mean_sqrt_len_tokens" else total / size


class _Dense:
    """A Dense module of sentence-transformers: a linear layer and an activation."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        import torch
        from safetensors.torch import load_file

        config = _read_json(folder / "config.json")
        name = str(config.get("activation_function") or "torch.nn.modules.linear.Identity").rsplit(".", 1)[-1]
        kind = getattr(torch.nn, name, None)
        if kind is None:
            raise InputError(str(folder / "config.json"), f"activation_function {name!r}", "an activation of torch.nn")
        file = folder / "model.safetensors"
        if not file.is_file():
            raise InputError(str(folder), "no model.safetensors", "the weights of the Dense module in safetensors")
        weights = load_file(file, device=str(device))
        wanted = {"linear.weight", *(["linear.bias"] if config.get("bias", True) else [])}
        if set(weights) != wanted:
            raise InputError(str(file), f"tensors {', '.join(sorted(weights))}", ", ".join(sorted(wanted)))
        self._weight, self._bias = weights["linear.weight"], weights.get("linear.bias")
        self._activation = kind()
        self.width = int(self._weight.shape[0])

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        import torch

        bias = None if self._bias is None else self._bias.to(vectors.dtype)
        return self._activation(torch.nn.functional.linear(vectors, self._weight.to(vectors.dtype), bias))


def _read_recipe(folder: Path) -> _Recipe:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise InputError("encoder", f"{folder}, {found}", "a folder of sentence-transformers or transformers")
    if not (folder / "modules.json").is_file():
        return _Recipe(folder)
    modules = _read_json(folder / "modules.json")
    kinds = [str(m.get("type", "")).rsplit(".", 1)[-1] for m in modules]
    wrong = [k for k in kinds if k not in ("Transformer", "Pooling", "Dense", "Normalize")]
    dense_last = "Normalize" in kinds and "Dense" in kinds[kinds.index("Normalize") :]
    if wrong or kinds[:2] != ["Transformer", "Pooling"] or dense_last:
        right = "Transformer, Pooling, then Dense, then Normalize"
        raise InputError(str(folder / "modules.json"), f"modules {', '.join(kinds)}", right)
    transformer, pooling, *rest = (folder / m["path"] for m in modules)
    settings = _read_json(pooling / "config.json")
    own = _read_json(transformer / "sentence_bert_config.json", required=False)
    prompts = _read_json(folder / "config_sentence_transformers.json", required=False)
    return _Recipe(
        transformer,
        _poolings(settings, pooling / "config.json"),
        bool(settings.get("include_prompt", True)),
        tuple(path for path, kind in zip(rest, kinds[2:], strict=True) if kind == "Dense"),
        "Normalize" in kinds,
        own.get("max_seq_length"),
        bool(own.get("do_lower_case", False)),
        {k: v for k, v in (prompts.get("prompts") or {}).items() if isinstance(v, str)},
        prompts.get("default_prompt_name"),
    )


def _poolings(settings: dict[str, Any], file: Path) -> tuple[str, ...]:
    named = settings.get("pooling_mode")
    if isinstance(named, str):
        named = named.split("+")
    chosen = named if named is not None else [how for how, key in OLD_POOLING_KEYS.items() if settings.get(key)]
    unknown = [how for how in chosen if how not in POOLINGS]
    if unknown or not chosen:
        raise InputError(str(file), f"pooling {unknown or 'none'}", f"one of {', '.join(POOLINGS)}")
    return tuple(how for how in POOLINGS if how in chosen)


def _read_json(path: Path, required: bool = True) -> Any:
    if not path.is_file() and not required:
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"what cannot be read ({error})", "JSON") from error


def load_strictly(
    folder: Path, what: str, dtype: str | None = None, trust_remote_code: bool = False, **options: Any
) -> tuple[Any, Any]:
    """A base model of transformers in evaluation mode and its tokenizer (text) or image processor (image).

    Raises InputError where a file is missing, or a weight that the model needs is not in the folder: it would be
    random.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

    from paperworks.nn import resolve_dtype

    if not (folder / "config.json").is_file():
        raise InputError("encoder", f"{folder}, without config.json", "a folder with config.json and weights")
    common: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(folder, **common)
        helper = (AutoTokenizer if what == "text" else AutoImageProcessor).from_pretrained(folder, **common)
    except Exception as error:  # whatever strange files make transformers raise
        raise _unloadable(folder, error, what) from error
    number = "auto" if dtype is None else resolve_dtype(dtype)
    common |= {"config": config, "dtype": number, "output_loading_info": True}
    try:
        try:
            model, said = AutoModel.from_pretrained(folder, **common, **options)
        except TypeError:  # an option that this architecture does not have
            model, said = AutoModel.from_pretrained(folder, **common)
    except Exception as error:
        raise _unloadable(folder, error, what) from error
    missing = sorted(name for name in said["missing_keys"] if name.split(".")[0] != "pooler")  # not used
    if missing or said["mismatched_keys"]:
        names = missing or sorted(str(m[0]) for m in said["mismatched_keys"])
        raise InputError(
            "encoder", f"{folder}, without fitting weights for {names[0]} and {len(names) - 1} more", "all weights"
        )
    if what == "text" and config.is_encoder_decoder:  # T5 and its kin: the vectors are those of the encoder
        model = model.get_encoder()
    if what == "text" and model.main_input_name != "input_ids" and not hasattr(model, "get_text_features"):
        found = f"{folder}, a {config.model_type}, which reads {model.main_input_name}"
        raise InputError("encoder", found, "an encoder of texts")
    return model.eval(), helper


def _unloadable(folder: Path, error: Exception, what: str) -> InputError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return InputError("encoder", f"{folder}, which does not load ({reason})", f"a {what} encoder of transformers")
