"""The blocks of layers of a network, the adapters of each, and the head: what a stage trains and what it must not.

Block t is found by its whole number in the names of the modules, never by a part of the name: "layer.1" is not in
"layer.10".
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.s3t.bases import state_digest, tensor_bytes
from paperworks.papers.s3t.blocks import PEFT_PREFIX, stored_name
from paperworks.training import add_lora

if TYPE_CHECKING:
    from peft import PeftModel

ATTENTION = (
    ("query", "value"),
    ("q_proj", "v_proj"),
    ("q_lin", "v_lin"),
    ("c_attn",),
    ("query_key_value",),
    ("Wqkv",),
)
"""Modules that get an adapter where no others are named: query and value of attention, as the paper has them."""
_USED = ("r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules")
"""Options of ``peft.LoraConfig`` that are taken over."""
_OWN = ("base_model_name_or_path", "fan_in_fan_out", "inference_mode", "peft_version", "revision", "task_type")
"""Options that say nothing about the adapters' values."""
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@dataclass(frozen=True)
class Lora:
    """Options of the adapters: rank, scale, dropout, and whether the scale is ``alpha / sqrt(r)`` (rsLoRA)."""

    r: int = 16
    alpha: float = 16
    dropout: float = 0.1
    rank_stabilized: bool = True
    targets: tuple[str, ...] = ()

    @classmethod
    def from_peft(cls, config: Any) -> Lora:
        """The options of a ``peft.LoraConfig``. Raises InputError where it would train what stages share."""
        from peft import LoraConfig

        if not isinstance(config, LoraConfig):
            raise InputError("peft_config", type(config).__name__, "a peft.LoraConfig or Lora")
        if config.bias != "none":
            raise InputError("peft_config", f"bias={config.bias!r}", "'none': all stages would train the same biases")
        for name in ("use_dora", "modules_to_save", "layers_to_transform", "trainable_token_indices"):
            if getattr(config, name, None):
                raise InputError(
                    "peft_config", f"{name}={getattr(config, name)!r}", "none: S3T decides what is trained"
                )
        plain = LoraConfig(**{name: getattr(config, name) for name in _USED})
        for name, value in vars(plain).items():
            if getattr(config, name) != value and name not in _OWN:
                raise InputError("peft_config", f"{name}={getattr(config, name)!r}", f"{value!r}: S3T does not use it")
        targets = config.target_modules or ()
        if isinstance(targets, str):
            raise InputError("peft_config", f"target_modules={targets!r}", "a list of names")
        scaled = bool(config.use_rslora)
        return cls(config.r, config.lora_alpha, config.lora_dropout, scaled, tuple(sorted(targets)))


def find_layers(model: nn.Module, pattern: str | None = None, targets: Sequence[str] = ()) -> list[list[str]]:
    """Names of the linear modules that get an adapter, by layer from the input to the top.

    Parameters
    ----------
    pattern : regular expression with one group that is the layer's whole number, such as
        ``r"encoder\\.layer\\.(\\d+)\\."``; default: the numbered list of modules with the most linear modules.
    targets : last parts of the names; default query and value of attention, or else all linear modules of a layer.
    """
    linear = [name for name, module in model.named_modules() if _is_linear(module)]
    if pattern is not None:
        grouped = _by_pattern(linear, pattern)
    else:
        lists: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        for name in linear:
            for match in re.finditer(r"(?:^|(?<=\.))(\d+)(?=\.|$)", name):
                lists[name[: match.start()]][int(match[1])].append(name)
        if not lists:
            raise InputError("base", f"{type(model).__name__}, without numbered layers", "a network of numbered layers")
        grouped = max(lists.values(), key=lambda found: (len(found), sum(map(len, found.values()))))
    wanted = targets or next((names for names in ATTENTION if _has(grouped, names)), ())
    layers = []
    for number in sorted(grouped):
        names = [n for n in grouped[number] if not wanted or n.rpartition(".")[2] in wanted or n in wanted]
        if not names:
            known = sorted({n.rpartition(".")[2] for n in grouped[number]})
            raise InputError("targets", ", ".join(wanted), f"modules of every layer, such as {', '.join(known)}")
        layers.append(names)
    return layers


def find_head(model: nn.Module, layers: list[list[str]]) -> list[str]:
    """Names of the modules that are trained in every stage: the task's head, and input statistics.

    The head is the part of the network that holds the last linear module and no layer.
    """
    inside = [name for names in layers for name in names]
    last = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and n not in inside]
    statistics = [name for name, module in model.named_modules() if hasattr(module, "fit_statistics")]
    if not last or model.get_submodule(last[-1]) is _language_head(model):
        return statistics
    parts = last[-1].split(".")
    for length in range(1, len(parts) + 1):
        name = ".".join(parts[:length])
        if not any(other == name or other.startswith(name + ".") for other in inside):
            return [name, *statistics]
    raise InputError("head", last[-1], "a head outside the layers")


class Adapted:
    """A frozen network with an adapter on every layer, of which stages train, keep and deactivate their own.

    Parameters
    ----------
    base : the network; its modules are wrapped in place.
    lora : options of the adapters.
    pattern : see ``find_layers``.
    head : names of the modules that are trained in every stage; None finds the head, () is no head.
    digest : of the base that is expected; another one is refused before anything is wrapped.

    Attributes
    ----------
    digest : of the base's weights but those of the head, before any training.
    """

    def __init__(
        self,
        base: nn.Module,
        lora: Lora,
        *,
        pattern: str | None = None,
        head: Sequence[str] | None = None,
        digest: str | None = None,
    ) -> None:
        check_plain(base)
        fitted = [n for n, m in base.named_modules() if hasattr(m, "fit_statistics")]
        moving = next((n for n, m in base.named_modules() if isinstance(m, _NORMS) and m.track_running_stats), None)
        if moving is not None:
            raise InputError("base", f"{moving}, whose running statistics all stages share", "a network without them")
        self.layers = find_layers(base, pattern, lora.targets)
        self.head = find_head(base, self.layers) if head is None else list(head)
        self.lora, self.digest = lora, state_digest(base, tuple(f"{name}." for name in self.head))
        if digest is not None and digest != self.digest:
            raise InputError("base", "another network than at fit (its weights differ)", "the network of fit")
        names = [name for layer in self.layers for name in layer]
        self.model: PeftModel = add_lora(
            base,
            names,
            r=lora.r,
            alpha=lora.alpha,
            dropout=lora.dropout,
            rank_stabilized=lora.rank_stabilized,
            train_also=self.head,
        )
        self.parameters = self._owned()
        starts = tuple(f"{PEFT_PREFIX}{name}." for name in fitted)
        self.statistics = {name for name in self.head_names if name.startswith(starts)}

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers as they are now: a move to another device makes new buffers."""
        return dict(self.model.named_parameters()) | dict(self.model.named_buffers())

    @property
    def depth(self) -> int:
        """Number of layers T."""
        return len(self.layers)

    def names(self, layers: Iterable[int]) -> list[str]:
        """Names of the adapters' tensors of some layers."""
        return [name for layer in layers for name in self.parameters[layer]]

    def reset(self, seed: int) -> None:
        """As at the start of every sequence: ``B = 0``, and A and the head drawn from the seed."""
        tensors = self.tensors
        with torch.no_grad():
            for name in self.names(range(self.depth)):
                tensor = tensors[name]
                if ".lora_A." in name:
                    bound = tensor.shape[1] ** -0.5  # kaiming uniform with a = sqrt(5), as peft draws it
                    drawn = torch.empty(tensor.shape)  # on the CPU: the same values for every device
                    tensor.copy_(drawn.uniform_(-bound, bound, generator=_generator(seed, name)))
                else:
                    tensor.zero_()
            for name in self.head_names:
                self._reset_head(tensors, name, seed)

    def train_only(self, layers: Iterable[int]) -> list[str]:
        """Let a stage train the adapters of its own layers and the head, nothing else; return their names."""
        wanted = {*self.names(layers), *self.head_names} - self.statistics
        found, tensors = [], self.tensors
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in wanted)
            if parameter.requires_grad:
                found.append(name)
        expected = [name for name in wanted if isinstance(tensors[name], nn.Parameter)]
        if sorted(found) != sorted(expected):
            raise AssertionError("a stage would train the layers of another one")
        return found

    def read(self, layers: Iterable[int] = (), *, head: bool = False) -> dict[str, torch.Tensor]:
        """Copies of the adapters of some layers, and of the head, under the names that peft stores."""
        names, tensors = [*self.names(layers), *(self.head_names if head else [])], self.tensors
        return {stored_name(name): _stored(tensors[name]) for name in names}

    def write(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put stored adapters and heads back."""
        own = {stored_name(name): name for name in [*self.names(range(self.depth)), *self.head_names]}
        current = self.tensors
        with torch.no_grad():
            for name, value in tensors.items():
                if name not in own or current[own[name]].shape != value.shape:
                    raise InputError("adapter", f"{name} of shape {tuple(value.shape)}", "tensors of this network")
                current[own[name]].copy_(value)

    def frozen(self) -> dict[str, str]:
        """Digests of the parameters and buffers that no stage may change, by name."""
        own = {*self.names(range(self.depth)), *self.head_names}
        return {
            name: hashlib.sha256(tensor_bytes(value)).hexdigest()
            for name, value in self.tensors.items()
            if name not in own and ".original_module." not in name
        }

    def check_frozen(self, before: Mapping[str, str]) -> None:
        """Raise InputError if a training has changed what all stages share."""
        moved = next((name for name, digest in self.frozen().items() if before.get(name) != digest), None)
        if moved is not None:
            name = moved.removeprefix(PEFT_PREFIX)
            raise InputError("base", f"{name}, which moves in training: all stages share it", "a network without it")

    def fit_statistics(self, examples: Any) -> None:
        """Let input statistics, if there are any, be those of a sequence's first slice."""
        for name in self.head:
            wrapper: Any = self.model.get_submodule(PEFT_PREFIX + name)
            module = wrapper.modules_to_save["default"]
            if hasattr(module, "fit_statistics"):
                module.fit_statistics(examples)

    def _owned(self) -> list[list[str]]:
        """Names of the adapters' parameters of each layer."""
        where = {PEFT_PREFIX + name: layer for layer, names in enumerate(self.layers) for name in names}
        found: list[list[str]] = [[] for _ in self.layers]
        self.head_names = []
        state = self.model.state_dict()
        for name in state:
            if ".lora_" in name:
                found[where[name.partition(".lora_")[0]]].append(name)
            elif ".modules_to_save." in name:
                self.head_names.append(name)
        return found

    def _reset_head(self, tensors: Mapping[str, torch.Tensor], name: str, seed: int) -> None:
        tensor = tensors[name]
        if name in self.statistics or not tensor.is_floating_point():
            tensor.zero_()
        elif not isinstance(tensor, nn.Parameter):  # a constant of the head
            tensor.copy_(tensors[name.replace(".modules_to_save.default.", ".original_module.")])
        elif tensor.ndim >= 2:
            tensor.copy_(torch.empty(tensor.shape).normal_(0, 0.02, generator=_generator(seed, name)))
        else:
            tensor.fill_(1.0 if name.endswith(".weight") else 0.0)  # a weight of one dimension scales: it is of a norm


def check_plain(base: nn.Module) -> None:
    """Raise InputError for a network that has adapters: those of another fit, for it is wrapped in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    wrapped = next((name for name, module in base.named_modules() if isinstance(module, BaseTunerLayer)), None)
    if wrapped is not None:
        raise InputError("base", f"{wrapped}, which has adapters already: fit and load wrap in place", "a fresh copy")


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in the form of files, which know no bfloat16."""
    found = tensor.detach().cpu()
    return found.float() if found.dtype == torch.bfloat16 else found.clone()


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _by_pattern(linear: list[str], pattern: str) -> dict[int, list[str]]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError("pattern", f"{pattern!r} ({error})", "a regular expression with one group") from None
    if expression.groups != 1:
        raise InputError("pattern", f"{pattern!r} with {expression.groups} groups", "one group, the layer's number")
    grouped: dict[int, list[str]] = defaultdict(list)
    for name in linear:
        match = expression.search(name)
        if match and match[1].isdigit():
            grouped[int(match[1])].append(name)
    if not grouped:
        raise InputError("pattern", repr(pattern), f"one that matches linear modules, such as {', '.join(linear[:3])}")
    return grouped


def _has(grouped: Mapping[int, list[str]], names: Sequence[str]) -> bool:
    return all({n.rpartition(".")[2] for n in found} >= set(names) for found in grouped.values())


def _language_head(model: nn.Module) -> nn.Module | None:
    """The output embeddings of a language model, which are not trained."""
    getter = getattr(model, "get_output_embeddings", None)
    return None if getter is None else getter()


def _is_linear(module: nn.Module) -> bool:
    if type(module).__name__ == "NonDynamicallyQuantizableLinear":  # read by attention without being called
        return False
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
