"""Checkpoint folders: read one module at a time, write finished modules at once, save sliced models that load anywhere.

A saved folder has safetensors, config.json, the tokenizer and the modelling code that the package itself runs (its
``auto_map`` points there), so that it loads with ``trust_remote_code=True`` where there is only transformers, and
without it wherever paperworks has been imported.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save

from paperworks.errors import InputError
from paperworks.nn.loading import belongs, refuse_tensors
from paperworks.runs.files import new_folder, partial_folder, replace_file, write_text
from paperworks.structure.allocator import trim
from paperworks.structure.export import as_stock, stock_config
from paperworks.structure.layers_sliced import part
from paperworks.structure.modeling_pruned import PrunedModel, pruned_variants
from paperworks.structure.modeling_sliced import MODEL_CLASSES
from paperworks.structure.registry import skeleton_of
from paperworks.structure.units import family_of

REPORT_FILE = "pruning_report.json"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf", ".ot")


class CheckpointReader:
    """The tensors of a folder of safetensors, read one by one.

    Names are those of the model class. Checkpoints that leave out the base model's prefix (GPT-2, OPT), carry one that
    the class has not (BERT), or call a LayerNorm's weights gamma and beta, are understood.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder
        self._prefix = f"{prefix}." if prefix else ""
        self._files: dict[str, Path] = {}
        files = sorted(folder.glob("*.safetensors"))
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            files = [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
        if not files:
            expected = "model.safetensors (load the model with transformers and call save_pretrained once)"
            raise InputError("model", f"{folder}, without safetensors", expected)
        for file in files:
            if not file.is_file():
                raise InputError("model", f"{file.name} is missing from {folder}", "all shards that the index names")
            with safe_open(file, "pt") as shard:
                self._files.update(dict.fromkeys(shard.keys(), file))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the first floating-point tensor. Raises InputError if all are quantised."""
        kinds = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
        for name, file in self._files.items():
            with safe_open(file, "pt") as shard:
                kind = shard.get_slice(name).get_dtype()
            if kind in kinds:
                return kinds[kind]
        raise InputError("model", f"{self.folder}, without floating-point weights", "weights that are not quantised")

    def find(self, name: str) -> str | None:
        """The stored name of a parameter, or None."""
        candidates = [name, self._prefix + name]
        if name.startswith(self._prefix):
            candidates.append(name.removeprefix(self._prefix))
        for candidate in candidates:
            old = candidate.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            for spelled in (candidate, old):
                if spelled in self._files:
                    return spelled
        return None

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """One tensor, in memory of its own, as ``dtype`` where that is given and it is not quantised.

        Raises InputError if the folder has it not.
        """
        stored = self._stored(name)
        with safe_open(self._files[stored], "pt") as shard:
            tensor = shard.get_tensor(stored)
            plain = tensor.is_floating_point() and tensor.element_size() > 1
            return tensor.to(dtype if dtype is not None and plain else tensor.dtype, copy=True)

    def read_rows(self, name: str, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Rows ``rows`` (int64 [n], ascending) of a matrix, as ``dtype`` [n, D]; the others are not read."""
        stored = self._stored(name)
        with safe_open(self._files[stored], "pt") as shard:
            matrix = shard.get_slice(stored)
            found = torch.empty(len(rows), matrix.get_shape()[1], dtype=dtype)
            starts = torch.cat([torch.zeros(1, dtype=torch.int64), (rows.diff() != 1).nonzero().flatten() + 1])
            for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(rows)], strict=True):
                found[start:stop] = matrix[int(rows[start]) : int(rows[stop - 1]) + 1]
        return found

    def check(self, model: PreTrainedModel) -> None:
        """Raise InputError naming the first tensor that is missing, has another shape, or has no place in ``model``.

        Only the files' headers are read. Tensors of other heads may be there.
        """
        tied = set(getattr(model, "all_tied_weights_keys", None) or ())
        known, missing, mismatched = set(), [], []
        for name, tensor in model.named_parameters(remove_duplicate=False):
            stored = self.find(name)
            if stored is None:
                missing += [name] if name not in tied else []
                continue
            known.add(stored)
            with safe_open(self._files[stored], "pt") as shard:
                shape = tuple(shard.get_slice(stored).get_shape())
            if shape != tuple(tensor.shape):
                mismatched.append((name, shape, tuple(tensor.shape)))
        modules = {name for name, _ in model.named_modules()}
        extra = [name for name in self._files if name not in known and belongs(name, modules)]
        refuse_tensors(self.folder, missing, extra, mismatched)

    def _stored(self, name: str) -> str:
        stored = self.find(name)
        if stored is None:
            raise InputError(name, f"no such tensor in {self.folder}", "a complete checkpoint")
        return stored


class LiveWeights:
    """The weights of a model in memory. Nothing is copied; with ``state``, finished modules are also kept on disk."""

    def __init__(self, model: PreTrainedModel, state: Path | None = None) -> None:
        self.model = model
        self.state = state

    def fetch(self, path: str, dtype: torch.dtype | None = None) -> Any:
        """The module at ``path``, ready to be edited, in its own type whatever ``dtype`` is."""
        return part(self.model, path)

    def release(self, path: str, needed: bool = False) -> None:
        """The module at ``path`` is finished."""
        if self.state is not None:
            write_part(self.state, path, part(self.model, path))

    def restore(self, path: str, needed: bool = False) -> None:
        """Load a finished module from ``state``; its shapes are right already."""
        assert self.state is not None, "only a fit with a checkpoint folder can be resumed"
        read_part(self.state, path, part(self.model, path))

    def borrow(self, path: str) -> Any:
        """A copy of a module to try something on."""
        return copy.deepcopy(part(self.model, path))

    def give_back(self, path: str) -> None:
        """The trial is over; the model never changed."""


@contextmanager
def temporary_parts(output: Path | None) -> Iterator[Path]:
    """A folder for finished modules next to where the checkpoint will appear (None: the system's temporary folder).

    If the process is killed, what is left there goes when a checkpoint is next written to ``output``.
    """
    if output is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    with partial_folder(output) as folder:
        yield folder


class FolderWeights:
    """The weights of a checkpoint folder: a model on the meta device whose modules are real only while in use.

    ``state``: where finished modules are kept; None where modules are only looked at.
    """

    def __init__(self, folder: Path, state: Path | None = None) -> None:
        self.folder = folder
        self.state = state
        self.model: Any = skeleton_of(folder)
        self.model.eval()
        self.reader = CheckpointReader(folder, type(self.model).base_model_prefix)
        self.reader.check(self.model)
        family_head = self.model.get_output_embeddings()
        if family_head is not None:
            # tied on the meta device: the two part ways as soon as they are real
            family_head.weight = nn.Parameter(family_head.weight.detach().clone())
        self._make_buffers()
        self._kept: set[str] = set()

    def fetch(self, path: str, dtype: torch.dtype | None = None) -> Any:
        """Read the module at ``path`` from the folder, one tensor after the other, as ``dtype`` (None: as stored)."""
        module = part(self.model, path)
        tied = {"lm_head.weight": self.model.get_input_embeddings()}
        for name, parameter in list(module.named_parameters()):
            if not parameter.is_meta:
                continue
            full = f"{path}.{name}"
            if full in tied and self.reader.find(full) is None:
                names = {id(m): n for n, m in self.model.named_modules()}
                full = f"{names[id(tied[full])]}.weight"
            tensor = self.reader.read(full, dtype)
            if tensor.shape != parameter.shape:
                raise InputError(full, f"shape {tuple(tensor.shape)}", f"{tuple(parameter.shape)}, as in config.json")
            if not tensor.is_floating_point() or tensor.element_size() < 2:
                raise InputError(full, f"weights of type {tensor.dtype}", "float16, bfloat16, float32 or float64")
            owner, _, leaf = name.rpartition(".")
            holder = part(module, owner) if owner else module
            setattr(holder, leaf, nn.Parameter(tensor))
        return module

    def release(self, path: str, needed: bool = False) -> None:
        """Write the finished module at ``path``, and let go of its memory unless it is still ``needed``."""
        module = part(self.model, path)
        write_part(self._state(), path, module)
        if not needed:
            self._let_go(module)

    def restore(self, path: str, needed: bool = False) -> None:
        """A finished module is on disk; read it only if it is ``needed``."""
        if needed:
            read_part(self._state(), path, part(self.model, path))

    def borrow(self, path: str) -> Any:
        """A module to try something on."""
        return self.fetch(path)

    def give_back(self, path: str) -> None:
        """The trial is over; the folder still has the module as it was."""
        self._let_go(part(self.model, path))

    @staticmethod
    def _let_go(module: Any) -> None:
        module.to("meta")
        trim()

    def _state(self) -> Path:
        assert self.state is not None, "finished modules need a folder to be kept in"
        return self.state

    def _make_buffers(self) -> None:
        """Compute the buffers that checkpoints do not hold (rotary frequencies, position ids)."""
        for module in self.model.modules():
            names = [name for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta]
            for name in names:
                buffer = getattr(module, name)
                setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))
            if names:
                self.model._init_weights(module)


def part_file(state: Path, path: str) -> Path:
    """Where the finished module at ``path`` is kept."""
    return state / "parts" / f"{path}.safetensors"


def write_part(state: Path, path: str, module: nn.Module) -> None:
    """Write one finished module under its full parameter names, in one step."""
    target = part_file(state, path)
    tensors = {f"{path}.{name}": p.detach().cpu().contiguous() for name, p in module.named_parameters()}
    with replace_file(target) as aside:
        save_file(tensors, aside, {"format": "pt"})


def read_part(state: Path, path: str, module: nn.Module) -> None:
    """Read a finished module into one that has its shapes."""
    for name, tensor in load_file(part_file(state, path)).items():
        owner, _, leaf = name.removeprefix(f"{path}.").rpartition(".")
        holder = part(module, owner) if owner else module
        old = getattr(holder, leaf)
        device = "cpu" if old.is_meta else old.device
        setattr(holder, leaf, nn.Parameter(tensor.to(device), requires_grad=old.requires_grad))


def assemble(
    weights: FolderWeights, order: list[str], folder: Path, dtype: torch.dtype, report: Mapping[str, Any]
) -> None:
    """Make a checkpoint folder of the finished modules, in ``order``, and of what no cut touches."""
    model = weights.model
    sizes: dict[str, str] = {}
    total = 0
    count = len(order) + 1
    finished = {f"{path}.{name}" for path in order for name, _ in part(model, path).named_parameters()}
    rest = {name: weights.reader.read(name).to(dtype) for name, _ in model.named_parameters() if name not in finished}
    with new_folder(folder, "output_dir") as out:
        for number, path in enumerate(order, 1):
            name = f"model-{number:05d}-of-{count:05d}.safetensors"
            source = part_file(weights._state(), path)
            try:
                os.link(source, out / name)
            except OSError:
                shutil.copyfile(source, out / name)
            with safe_open(out / name, "pt") as shard:
                sizes.update(dict.fromkeys(shard.keys(), name))
        if rest:
            name = f"model-{count:05d}-of-{count:05d}.safetensors"
            save_file(rest, out / name, {"format": "pt"})
            sizes.update(dict.fromkeys(rest, name))
        total = sum(f.stat().st_size for f in out.glob("*.safetensors"))
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(sizes.items()))}
        write_text(out / "model.safetensors.index.json", json.dumps(index, indent=2))
        copy_other_files(weights.folder, out)
        write_code(model, out)
        model.config.dtype = dtype
        model.config.save_pretrained(out)
        write_text(out / REPORT_FILE, json.dumps(report, indent=1))


def copy_other_files(source: Path, out: Path) -> None:
    """Copy what lies beside the weights: tokenizer, generation settings, pooling of sentence encoders."""
    for file in sorted(source.rglob("*")):
        inner = file.relative_to(source)
        skip = any(part.startswith(".") for part in inner.parts) or file.name in ("config.json", "README.md")
        if file.is_file() and not skip and file.suffix not in (*WEIGHT_SUFFIXES, ".py"):
            if file.name.endswith(".index.json") or len(inner.parts) > 2:
                continue
            (out / inner.parent).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, out / inner)


def write_code(model: PreTrainedModel, out: Path) -> None:
    """Put the modelling code of a sliced model beside it and point ``auto_map`` of its configuration there."""
    config: Any = model.config
    custom_object_save(model, out, config=config)


def _name_variants(model: PreTrainedModel, out: Path) -> None:
    """Let AutoModel find the model without its head, which serving engines ask for, and other heads find theirs."""
    path = out / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if "auto_map" in config:
        for auto, found in pruned_variants(family_of(model)).items():
            config["auto_map"][auto] = f"{found.__module__.rpartition('.')[2]}.{found.__name__}"
        write_text(path, json.dumps(config, indent=2) + "\n")


def save_model(
    model: PreTrainedModel,
    folder: str | Path,
    tokenizer: Any = None,
    report: Mapping[str, Any] | None = None,
    level: Literal["auto", "stock", "code"] = "auto",
) -> Path:
    """Save a sliced or pruned model: safetensors, configuration, and the tokenizer and report where given.

    The folder appears under its name when it is complete. Raises InputError if something is there already, for a model
    of another kind, or where ``stock`` is asked for and impossible.

    Parameters
    ----------
    level : ``stock`` writes a checkpoint of the plain architecture, which loads everywhere, and is possible where all
        layers of a pruned model are equal (see ``stock_config``); ``code`` writes the modelling code beside the
        weights; ``auto`` takes ``stock`` where it can.
    """
    pruned = isinstance(model, PrunedModel)
    if not pruned and type(model) not in MODEL_CLASSES.values():
        raise InputError("model", type(model).__name__, "a sliced model or a pruned one, with adapters merged")
    if level not in ("auto", "stock", "code"):
        raise InputError("level", level, "auto, stock or code")
    saved: Any = model
    if level != "code":
        plain = stock_config(model) if pruned else None
        if plain is not None or level == "stock":
            if not pruned:
                raise InputError("level", level, "auto or code: sliced models have no stock class")
            saved = as_stock(model, plain)
    folder = Path(folder)
    with new_folder(folder, "folder") as out:
        saved.save_pretrained(out)
        if pruned and saved is model:
            _name_variants(model, out)
        if tokenizer is not None:
            tokenizer.save_pretrained(out)
        if report is not None:
            write_text(out / REPORT_FILE, json.dumps(report, indent=1))
    return folder
