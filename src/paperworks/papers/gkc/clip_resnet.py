"""CLIP's residual networks as a backbone: RN50 and RN101 without attention pool, from OpenAI's or open_clip's files.

Three convolutions with an average pool make the stem; where a block has a stride, an average pool goes before its last
convolution and before the convolution of its shortcut (anti-aliasing). The four stages have strides 4 to 32 and
256, 512, 1024 and 2048 channels at width 64.
"""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from paperworks.errors import InputError

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Statistics by which CLIP's images are normalised."""

DEPTHS = {"RN50": (3, 4, 6, 3), "RN101": (3, 4, 23, 3)}


class CLIPResNetConfig(BackboneConfigMixin, PreTrainedConfig):
    """Options of ``CLIPResNetBackbone``.

    Parameters
    ----------
    depths : blocks of the four stages; (3, 4, 6, 3) is RN50, (3, 4, 23, 3) RN101.
    width : channels of the stem; stage s gives ``width * 4 * 2**s``.
    """

    model_type = "paperworks_clip_resnet"

    def __init__(
        self,
        depths: Sequence[int] = DEPTHS["RN50"],
        width: int = 64,
        out_features: Sequence[str] | None = None,
        out_indices: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.depths, self.width = list(depths), width
        self.stage_names = ["stem", *(f"stage{n + 1}" for n in range(len(self.depths)))]
        chosen = list(self.stage_names[1:] if out_features is None else out_features)
        self.set_output_features_output_indices(out_features=chosen, out_indices=None)


class _Bottleneck(nn.Module):
    """Names of submodules are those of CLIP's checkpoints."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = width * 4
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3, self.bn3 = nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after)
        self.downsample: nn.Module | None = None
        if stride > 1 or before != after:
            parts = [
                ("-1", nn.AvgPool2d(stride) if stride > 1 else nn.Identity()),
                ("0", nn.Conv2d(before, after, 1, bias=False)),
                ("1", nn.BatchNorm2d(after)),
            ]
            self.downsample = nn.Sequential(OrderedDict(parts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn1(self.conv1(x)).relu()
        out = self.avgpool(self.bn2(self.conv2(out)).relu())
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        total: torch.Tensor = (out + shortcut).relu()
        return total


class CLIPResNetBackbone(BackboneMixin, PreTrainedModel):
    """The four stages of CLIP's residual network, for ``Mask2FormerConfig(backbone_config=CLIPResNetConfig())``."""

    config_class = CLIPResNetConfig
    main_input_name = "pixel_values"
    has_attentions = False

    def __init__(self, config: CLIPResNetConfig) -> None:
        super().__init__(config)
        width = config.width
        self.num_features = [width, *(width * 4 * 2**n for n in range(len(config.depths)))]
        half = width // 2
        self.conv1, self.bn1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, padding=1, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        before = width
        for number, depth in enumerate(config.depths):
            inner = width * 2**number
            blocks = []
            for block in range(depth):
                blocks.append(_Bottleneck(before, inner, 2 if number > 0 and block == 0 else 1))
                before = inner * 4
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Layers start as PyTorch starts them."""

    def forward(self, pixel_values: torch.Tensor, *_: Any, **__: Any) -> BackboneOutput:
        """Feature maps of the stages that the config names, of images float ``[B, 3, H, W]``."""
        x = self.bn1(self.conv1(pixel_values)).relu()
        x = self.bn2(self.conv2(x)).relu()
        x = self.avgpool(self.bn3(self.conv3(x)).relu())
        stages = {"stem": x}
        for number in range(len(self.config.depths)):
            x = getattr(self, f"layer{number + 1}")(x)
            stages[f"stage{number + 1}"] = x
        return BackboneOutput(feature_maps=tuple(stages[name] for name in self.out_features))


def load_clip_resnet(path: str | Path) -> CLIPResNetBackbone:
    """The backbone of a CLIP RN50 or RN101 on disk.

    Parameters
    ----------
    path : OpenAI's TorchScript archive (``RN50.pt``), or open_clip's weights (``.safetensors``). Weights alone are
        read; no code of the file is run. Text tower and attention pool are left out.

    Raises
    ------
    InputError : a file of another form, or of a CLIP without a residual network.
    """
    file = Path(path).expanduser()
    weights = _weights(file)
    visual = {name.removeprefix("visual."): value for name, value in weights.items() if name.startswith("visual.")}
    if "layer1.0.conv1.weight" not in visual:
        raise InputError("backbone", f"{file}, without visual.layer1", "a CLIP with a residual network (RN50, RN101)")
    depths = []
    for stage in range(1, 5):
        blocks = {name.split(".")[1] for name in visual if name.startswith(f"layer{stage}.")}
        depths.append(len(blocks))
    backbone = CLIPResNetBackbone(CLIPResNetConfig(depths, width=int(visual["layer1.0.conv1.weight"].shape[0])))
    chosen = {name: value.float() for name, value in visual.items() if not name.startswith("attnpool.")}
    counters = {name for name in backbone.state_dict() if name.endswith("num_batches_tracked")}
    missing, unexpected = backbone.load_state_dict(chosen, strict=False)
    if unexpected or set(missing) - counters:
        name = (list(unexpected) + sorted(set(missing) - counters))[0]
        raise InputError("backbone", f"{file}, whose {name} does not fit", "CLIP's own names of weights")
    backbone.eval()
    return backbone


def _weights(file: Path) -> Mapping[str, torch.Tensor]:
    if not file.is_file():
        raise InputError("backbone", f"{file}, which is not there", "RN50.pt of OpenAI, or open_clip's .safetensors")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                script = any(name.endswith("constants.pkl") for name in archive.namelist())
            if script:
                return dict(torch.jit.load(file, map_location="cpu").state_dict())
        found = torch.load(file, map_location="cpu", weights_only=True)
        return found.get("state_dict", found)
    except Exception as error:  # every library has its own for a broken file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError("backbone", f"{file} ({reason})", "RN50.pt of OpenAI, or open_clip's .safetensors") from None


AutoConfig.register(CLIPResNetConfig.model_type, CLIPResNetConfig, exist_ok=True)
AutoBackbone.register(CLIPResNetConfig, CLIPResNetBackbone, exist_ok=True)
