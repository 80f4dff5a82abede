"""Released CodeGen2 checkpoints as transformers' ``CodeGenForCausalLM``.

The rows of ``qkv_proj`` stand in G groups, each [query | value | key] of H / G heads: G = 8 in the 1B and 3.7B models,
4 in the 7B and 16B models and in transformers. Nothing in a file says which. Read with the wrong number, a model loads
without a word and writes garbage: here both are tried on a piece of Python, and the right one has to stand out.
"""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from paperworks.errors import InputError
from paperworks.nn import check_ids, evaluation_mode, resolve_device, resolve_dtype
from paperworks.nn.loading import check_model_folder, first_line, refuse_tensors
from paperworks.papers.codegen2.completion import encode
from paperworks.runs.files import new_folder

if TYPE_CHECKING:
    from transformers import CodeGenForCausalLM, PreTrainedTokenizerBase

GROUPS = (4, 8)
STOCK_GROUPS = 4
"""The groups of transformers' class."""
LEAST_GAIN, LEAST_ERRORS = 0.25, 5.0
"""By how much the right layout must beat the other: nats per token, and standard errors of the paired difference."""
SNIPPET = '''\
import os
import sys


def read_lines(path, encoding="utf-8"):
    """Return the lines of a file without their ends."""
    with open(path, encoding=encoding) as file:
        return [line.rstrip("\\n") for line in file]


class Counter:
    def __init__(self):
        self.counts = {}

    def add(self, name, value=1):
        if name not in self.counts:
            self.counts[name] = 0
        self.counts[name] += value
        return self.counts[name]


def main():
    if len(sys.argv) < 2:
        print("usage: count.py FILE", file=sys.stderr)
        return 1
    counter = Counter()
    for line in read_lines(sys.argv[1]):
        for word in line.split():
            counter.add(word)
    for name, value in sorted(counter.counts.items()):
        print(name, value)
    return 0


if __name__ == "__main__":
    sys.exit(main())
'''
COMPUTED = ("attn.causal_mask", "attn.bias", "attn.masked_bias", "attn.embed_positions")


def split_qkv(weight: torch.Tensor, groups: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value matrices ``[d, d]``, in the order of the heads, of a stored ``qkv_proj`` ``[3 d, d]``."""
    parts = _parts(weight, groups)
    query, value, key = (parts[:, i].reshape(-1, weight.shape[1]) for i in range(3))
    return query, key, value


def pack_qkv(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, groups: int) -> torch.Tensor:
    """The inverse of ``split_qkv``: ``[3 d, d]``."""
    width = query.shape[0]
    if width % groups:
        raise InputError("groups", groups, f"a divisor of the width {width}")
    parts = [m.reshape(groups, width // groups, m.shape[1]) for m in (query, value, key)]
    return torch.stack(parts, 1).reshape(3 * width, -1)


def regroup_qkv(weight: torch.Tensor, groups: int, to_groups: int = STOCK_GROUPS) -> torch.Tensor:
    """A stored ``qkv_proj`` in another number of groups, ``[3 d, d]``."""
    if groups == to_groups:
        return weight
    query, key, value = split_qkv(weight, groups)
    return pack_qkv(query, key, value, to_groups)


def _parts(weight: torch.Tensor, groups: int) -> torch.Tensor:
    rows, columns = weight.shape
    if groups < 1 or rows % (3 * groups):
        raise InputError("groups", groups, f"a divisor of the width {rows // 3}")
    return weight.reshape(groups, 3, rows // 3 // groups, columns)


@dataclass(frozen=True)
class LayoutCheck:
    """What told the layouts apart: nats per token of ``SNIPPET`` by number of groups, and the number that was taken."""

    groups: int
    losses: dict[int, float]
    standard_errors: float

    def __str__(self) -> str:
        losses = ", ".join(f"{groups} groups {loss:.3f}" for groups, loss in self.losses.items())
        return f"stored in {self.groups} groups: nats per token of a piece of Python, {losses}"


def load_released(
    folder: str | Path,
    *,
    groups: int | None = None,
    dtype: str | torch.dtype | None = None,
    device: str = "auto",
) -> tuple[CodeGenForCausalLM, PreTrainedTokenizerBase, LayoutCheck]:
    """A released (or converted) CodeGen2 checkpoint in evaluation mode, its tokenizer, and what the check found.

    The folder's own Python code is not run. ``config.json`` says bos 1 and eos 2 in the released folders; the end token
    is the tokenizer's.

    Parameters
    ----------
    folder : with config.json, safetensors or ``pytorch_model.bin`` weights, and the tokenizer.
    groups : 4 or 8, where it is known. It is checked all the same; a checkpoint that was never trained needs it.

    Raises
    ------
    InputError : no CodeGen checkpoint, tensors that are missing or of another shape, a layout that does not stand out
        (``groups`` not given), or one that the check contradicts.
    """
    path = Path(folder).expanduser()
    raw = check_model_folder(path)
    model: Any = _empty_model(raw, path)
    if dtype is not None:
        model = model.to(resolve_dtype(dtype))
    stored = _state(path)
    if dtype is None:
        model = model.to(next((t.dtype for n, t in stored.items() if n.endswith("qkv_proj.weight")), torch.float32))
    _fill(model, stored, path)
    from paperworks.language import load_tokenizer

    tokenizer = load_tokenizer(path)
    model = model.to(resolve_device(device)).eval()
    check = check_layout(model, tokenizer, groups=groups)
    _regroup(model, check.groups, STOCK_GROUPS)
    set_ends(model, tokenizer)
    return model, tokenizer, check


def convert_checkpoint(
    folder: str | Path, out: str | Path, *, groups: int | None = None, dtype: str | torch.dtype | None = None
) -> LayoutCheck:
    """Write a released checkpoint as a folder that plain transformers load right. ``out`` must be free."""
    model, tokenizer, check = load_released(folder, groups=groups, dtype=dtype, device="cpu")
    with new_folder(Path(out), "out") as made:
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
    return check


def check_layout(model: Any, tokenizer: Any, *, groups: int | None = None, snippet: str = SNIPPET) -> LayoutCheck:
    """Which number of groups the attention matrices of a model are stored in; the model is left as it is.

    The loss of ``snippet`` with the right number must be lower by ``LEAST_GAIN`` nats per token and ``LEAST_ERRORS``
    standard errors of the paired differences. A number that is given is taken, unless another one beats it so.
    """
    heads = model.config.n_head
    possible = [g for g in GROUPS if heads % g == 0]
    if groups is not None and groups not in possible:
        raise InputError("groups", groups, f"one of {', '.join(map(str, possible))}, for {heads} heads")
    if not possible:
        raise InputError("model", f"{heads} heads", "a multiple of 4, as every CodeGen2 model has")
    ids = encode(tokenizer, snippet)[: model.config.n_positions]
    check_ids(model, torch.tensor(ids), "tokenizer")
    losses = {}
    for number in possible:
        _regroup(model, number, STOCK_GROUPS)
        try:
            losses[number] = _token_losses(model, ids)
        finally:
            _regroup(model, STOCK_GROUPS, number)
    means = {number: float(values.mean()) for number, values in losses.items()}
    best = min(means, key=lambda number: means[number])
    others = [number for number in possible if number != best]
    errors = min((_standard_errors(losses[o] - losses[best]) for o in others), default=math.inf)
    gain = min((means[o] - means[best] for o in others), default=math.inf)
    clear = gain >= LEAST_GAIN and errors >= LEAST_ERRORS
    told = ", ".join(f"{number}: {mean:.3f}" for number, mean in means.items())
    if groups is None and not clear:
        raise InputError(
            "groups", f"losses too near to tell the layout (nats per token by groups: {told})", "4 or 8, as you know it"
        )
    if groups is not None and clear and groups != best:
        raise InputError(
            "groups", f"{groups}, while the losses say {best} (nats per token by groups: {told})", str(best)
        )
    return LayoutCheck(best if groups is None else groups, means, errors)


def set_ends(model: Any, tokenizer: Any) -> None:
    """Set the end tokens of a model: the tokenizer's end of text, and ``<eom>`` where the tokenizer has it."""
    end = tokenizer.eos_token_id
    model.config.bos_token_id = model.config.eos_token_id = end
    ends = [end, tokenizer.get_vocab()["<eom>"]] if "<eom>" in tokenizer.get_vocab() else end
    pad = tokenizer.pad_token_id
    model.generation_config.update(bos_token_id=end, eos_token_id=ends, pad_token_id=end if pad is None else pad)


def _empty_model(raw: dict[str, Any], path: Path) -> CodeGenForCausalLM:
    from transformers import CodeGenConfig, CodeGenForCausalLM

    if raw.get("model_type") != "codegen":
        found = f"model_type {raw.get('model_type')!r} in {path}"
        raise InputError("model", found, "codegen (CodeGen2.5 is a Llama: transformers load it as it is)")
    left = {"auto_map", "architectures", "torch_dtype", "dtype", "transformers_version", "bos_token_id", "eos_token_id"}
    try:
        kept = {name: value for name, value in raw.items() if name not in left}
        config = CodeGenConfig(**kept, bos_token_id=None, eos_token_id=None)  # wrong in released folders: see set_ends
        config.tie_word_embeddings = False
        with torch.device("meta"):
            model = CodeGenForCausalLM(config)
    except Exception as error:  # whatever a strange configuration makes transformers raise
        raise InputError("model", f"{path / 'config.json'} ({first_line(error)})", "a config of CodeGen") from None
    model = model.to_empty(device="cpu")
    from transformers.models.codegen.modeling_codegen import create_sinusoidal_positions

    for block in model.transformer.h:  # buffers that no file holds
        attention: Any = block.attn
        attention.embed_positions = create_sinusoidal_positions(attention.max_positions, attention.pos_embd_dim)
    return model


def _state(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder, memory-mapped where its format allows it."""
    from safetensors.torch import load_file

    files = sorted(path.glob("*.safetensors"))
    index = path / ("model.safetensors.index.json" if files else "pytorch_model.bin.index.json")
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError("model", f"{index} ({first_line(error)})", "an index of shards") from None
        files = [path / Path(name).name for name in names]
    files = files or sorted(path.glob("pytorch_model*.bin"))
    state: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            if file.suffix == ".safetensors":
                state |= load_file(file)
            else:
                state |= torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:
            raise InputError("model", f"{file}, which does not load ({first_line(error)})", "weights") from None
    return state


def _fill(model: Any, stored: dict[str, torch.Tensor], path: Path) -> None:
    own = dict(model.named_parameters())
    stored = {name: tensor for name, tensor in stored.items() if not name.endswith(COMPUTED)}
    shapes = [
        (name, tuple(tensor.shape), tuple(own[name].shape))
        for name, tensor in stored.items()
        if name in own and tensor.shape != own[name].shape
    ]
    refuse_tensors(path, sorted(set(own) - set(stored)), sorted(set(stored) - set(own)), shapes)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(stored[name])


def _regroup(model: Any, groups: int, to_groups: int) -> None:
    if groups == to_groups:
        return
    with torch.no_grad():
        for block in model.transformer.h:
            weight = block.attn.qkv_proj.weight
            weight.copy_(regroup_qkv(weight.clone(), groups, to_groups))


def _token_losses(model: Any, ids: list[int]) -> torch.Tensor:
    rows = torch.tensor([ids], device=model.device)
    with torch.inference_mode(), evaluation_mode(model), warnings.catch_warnings():
        logits = model(input_ids=rows, use_cache=False).logits[0, :-1].float()
        return torch.nn.functional.cross_entropy(logits, rows[0, 1:], reduction="none").double().cpu()


def _standard_errors(differences: torch.Tensor) -> float:
    error = float(differences.std()) / math.sqrt(len(differences))
    return float(differences.mean()) / error if error > 0 else 0.0
