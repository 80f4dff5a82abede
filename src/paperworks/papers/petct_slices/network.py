"""The network: a residual body of transformers, the head of the follow-up code, and ways to know the center."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.errors import InputError
from paperworks.nn.loading import check_model_folder, load_strict
from paperworks.nn.saving import SavedNetwork
from paperworks.parameters import check_seed

HEAD_UNITS, DROPOUT = 128, 0.2
RESNET18 = {"hidden_sizes": (64, 128, 256, 512), "depths": (2, 2, 2, 2), "embedding_size": 64}
SMALL = {"hidden_sizes": (16, 32, 64), "depths": (1, 1, 1), "embedding_size": 16}
ARCHITECTURES: dict[str, Mapping[str, Any]] = {"resnet18": RESNET18, "small": SMALL}
_FIRST = "embedder.embedder.convolution.weight"
CENTER_MODES = ("none", "one-hot", "batchnorm")


class SliceNetwork(SavedNetwork):
    """Slices ``[n, channels, H, W]`` to the logit of a lesion ``[n]``.

    ResNet-18 with global average pooling and the head Linear(512, 128), ReLU, Dropout(0.2),
    Linear(128, 1): 11,242,305 parameters with three channels.

    Parameters
    ----------
    channels : of the input.
    hidden_sizes, depths, embedding_size : widths and blocks of the stages, width of the stem.
    center_mode : ``none``; ``one-hot``: the center goes to the head beside the features; ``batchnorm``: every center
        has its own BatchNorm, and an unknown one the mean of them.
    n_centers : centers that are known; not used by ``none``.
    """

    def __init__(
        self,
        channels: int = 3,
        hidden_sizes: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (2, 2, 2, 2),
        embedding_size: int = 64,
        center_mode: str = "none",
        n_centers: int = 0,
    ) -> None:
        super().__init__(
            channels=channels,
            hidden_sizes=list(hidden_sizes),
            depths=list(depths),
            embedding_size=embedding_size,
            center_mode=center_mode,
            n_centers=n_centers,
        )
        from transformers import ResNetConfig, ResNetModel

        if center_mode not in CENTER_MODES:
            raise InputError("center_mode", repr(center_mode), f"one of {', '.join(CENTER_MODES)}")
        if center_mode != "none" and n_centers < 2:
            raise InputError("regime", f"caw with {n_centers} center(s)", "slices of at least two centers")
        self.body: Any = ResNetModel(
            ResNetConfig(
                num_channels=channels,
                embedding_size=embedding_size,
                hidden_sizes=list(hidden_sizes),
                depths=list(depths),
                layer_type="basic",
            )
        )
        if center_mode == "batchnorm":
            _by_center(self.body, n_centers)
        width = hidden_sizes[-1] + (n_centers if center_mode == "one-hot" else 0)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(width, HEAD_UNITS), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HEAD_UNITS, 1)
        )
        self.center_mode, self.n_centers = center_mode, n_centers

    def forward(self, inputs: Tensor, center: Tensor | None = None) -> Tensor:
        """Logits ``[n]``. ``center`` int64 ``[n]``: the number of each slice's center, -1 for one that is unknown."""
        if self.center_mode == "batchnorm":
            for module in self.body.modules():
                if isinstance(module, CenterBatchNorm):
                    module.center = center
        features = self.body(inputs).pooler_output.flatten(1)
        if self.center_mode == "one-hot":
            one_hot = features.new_zeros(len(features), self.n_centers)
            if center is not None:
                known = center >= 0
                one_hot[known] = nn.functional.one_hot(center[known], self.n_centers).to(one_hot)
            features = torch.cat([features, one_hot], 1)
        return self.head(features).squeeze(-1)

    @property
    def last_stage(self) -> nn.Module:
        """The last block of the last stage, where class-activation maps are read."""
        return self.body.encoder.stages[-1].layers[-1]


class CenterBatchNorm(nn.Module):
    """A BatchNorm for every center. Slices of an unknown center (-1) see the mean of the sets.

    Within a batch the slices of each center are normalised together; training steps have slices of one center only.
    """

    def __init__(self, like: nn.BatchNorm2d, n_centers: int) -> None:
        super().__init__()
        self.sets = nn.ModuleList(nn.BatchNorm2d(like.num_features) for _ in range(n_centers))
        for one in self.sets:
            one.load_state_dict(like.state_dict())
        self.center: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[n, C, H, W]``."""
        if self.center is None:
            return self._mean_set(x)
        out = torch.empty_like(x)
        for number in torch.unique(self.center).tolist():
            mine = self.center == number
            out[mine] = self._mean_set(x[mine]) if number < 0 else self.sets[number](x[mine])
        return out

    def _mean_set(self, x: Tensor) -> Tensor:
        """With the variance of the mixture of the centers: the mean of the variances plus that of the means."""
        sets: list[Any] = list(self.sets)
        means = torch.stack([s.running_mean for s in sets])
        variance = torch.stack([s.running_var for s in sets]).mean(0) + means.var(0, unbiased=False)
        weight, bias = (torch.stack([getattr(s, name) for s in sets]).mean(0) for name in ("weight", "bias"))
        return nn.functional.batch_norm(x, means.mean(0), variance, weight, bias, training=False, eps=sets[0].eps)


def _by_center(module: nn.Module, n_centers: int) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, CenterBatchNorm(child, n_centers))
        else:
            _by_center(child, n_centers)


def make_network(
    channels: Sequence[str],
    *,
    architecture: str = "resnet18",
    backbone: str | Path | None = None,
    center_mode: str = "none",
    n_centers: int = 0,
    seed: int = 0,
) -> SliceNetwork:
    """A network with the weights of a pretrained body, or with random ones, which the seed decides.

    Parameters
    ----------
    channels : names of the input's channels. Filters of the first convolution are kept for three equal ones; otherwise
        every channel gets their sum over red, green and blue, divided by the number of channels.
    backbone : a folder of transformers with a ResNet-18 (such as microsoft/resnet-18), or a file with the weights of
        torchvision's resnet18 (.pth, .pt, .safetensors).

    Raises
    ------
    InputError : another architecture, or weights of another network.
    """
    check_seed("seed", seed)
    if architecture not in ARCHITECTURES:
        raise InputError("network", repr(architecture), f"one of {', '.join(ARCHITECTURES)}")
    options = ARCHITECTURES[architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SliceNetwork(len(channels), **options, center_mode="none", n_centers=0)
        if center_mode != "none":
            whole = SliceNetwork(len(channels), **options, center_mode=center_mode, n_centers=n_centers)
    if backbone is None:
        warnings.warn(
            "The body starts from random weights; the paper fine-tunes one trained on ImageNet (backbone_path).",
            UserWarning,
            stacklevel=2,
        )
    else:
        if architecture != "resnet18":
            raise InputError("network", architecture, "resnet18, with a backbone")
        _load_body(network.body, Path(backbone).expanduser(), channels)
    if center_mode == "none":
        return network
    whole.body.load_state_dict(_spread(network.body.state_dict(), whole.body.state_dict()))
    return whole


def _spread(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A body's weights for one with a BatchNorm per center: every set begins with the same."""
    import re

    return {name: state[re.sub(r"\.sets\.\d+", "", name)] for name in wanted}


def read_backbone(path: Path) -> dict[str, Tensor]:
    """The weights of a ResNet-18's body for colour images, by the names of transformers.

    Raises InputError, naming ``backbone``, for another network or file (see ``make_network``).
    """
    state = _transformers_state(path) if path.is_dir() else _torchvision_state(path)
    filters = state.get(_FIRST)
    if filters is None or filters.ndim != 4 or filters.shape[1] != 3:
        raise InputError("backbone", f"{path.name}, without filters of three channels", "a ResNet-18 for colour images")
    with torch.device("meta"):
        own = SliceNetwork(3, **ARCHITECTURES["resnet18"]).body.state_dict()
    for name, value in own.items():
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, torch.tensor(0))
        elif name not in state or state[name].shape != value.shape:
            found = "no such tensor" if name not in state else f"shape {tuple(state[name].shape)}"
            raise InputError("backbone", f"{path.name}: {name}, {found}", f"{tuple(value.shape)}, as a ResNet-18 has")
    return {name: state[name] for name in own}


def _load_body(body: nn.Module, path: Path, channels: Sequence[str]) -> None:
    state = read_backbone(path)
    if len(set(channels)) > 1 or len(channels) != 3:
        filters = state[_FIRST]
        state[_FIRST] = filters.sum(1, keepdim=True).repeat(1, len(channels), 1, 1) / len(channels)
    body.load_state_dict(state)


def _transformers_state(folder: Path) -> dict[str, Tensor]:
    from transformers import ResNetModel

    try:
        config = check_model_folder(folder)
    except InputError as error:
        raise InputError("backbone", error.found, error.expected) from None
    if config.get("model_type") != "resnet":
        raise InputError("backbone", f"a {config.get('model_type')!r} in {folder.name}", "a ResNet of transformers")
    try:
        return dict(load_strict(ResNetModel, folder, dtype="float32").state_dict())
    except InputError as error:
        raise InputError("backbone", f"{error.field}: {error.found}", error.expected) from None


def _torchvision_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError("backbone", f"{path}, nothing there", "a folder of transformers, or torchvision's weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            raw: Any = load_file(path)
        else:
            raw = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for files that are none of theirs
        found = f"{path.name}, which does not load ({type(error).__name__})"
        raise InputError("backbone", found, "weights of torchvision's resnet18 (.pth, .pt, .safetensors)") from None
    if not isinstance(raw, Mapping) or not all(isinstance(value, Tensor) for value in raw.values()):
        raise InputError("backbone", f"{path.name}, no table of tensors", "weights of torchvision's resnet18")
    return {new: value.float() for name, value in raw.items() if (new := torchvision_name(str(name)))}


def torchvision_name(name: str) -> str:
    """The name in transformers' ResNet of a tensor of torchvision's; empty for the classifier's."""
    parts = name.split(".")
    kinds = {"conv": "convolution", "bn": "normalization"}
    if parts[0] in ("conv1", "bn1"):
        return ".".join(["embedder.embedder", kinds[parts[0][:-1]], *parts[1:]])
    if not parts[0].startswith("layer") or len(parts) < 4:
        return ""
    where = f"encoder.stages.{int(parts[0][5:]) - 1}.layers.{parts[1]}"
    if parts[2] == "downsample":
        return ".".join([where, "shortcut", ("convolution", "normalization")[int(parts[3])], *parts[4:]])
    return ".".join([where, "layer", str(int(parts[2][-1]) - 1), kinds[parts[2][:-1]], *parts[3:]])
