"""Where a segmenter starts from: the bundled trunk, a Mask2Former, a backbone, or a segmenter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoBackbone, AutoConfig, Mask2FormerModel, PreTrainedConfig

from paperworks.errors import InputError
from paperworks.nn.loading import first_line, read_transformers_config
from paperworks.papers.gkc.clip_resnet import CLIP_MEAN, CLIP_STD, load_clip_resnet
from paperworks.papers.gkc.segmenter import GKCConfig, GKCForOpenVocabularySegmentation, TrunkConfig, trunk_of
from paperworks.papers.gkc.towers import CropEncoder, Towers, load_towers
from paperworks.parameters import check_seed

BUNDLE = Path(__file__).parent / "bundle"
OWN_KINDS = (GKCConfig.model_type, "paperworks_gkc_trunk")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def new_segmenter(
    start: str | Path | None = None,
    *,
    text_width: int = 384,
    size: int = 64,
    queries: int = 100,
    seed: int = 0,
) -> GKCForOpenVocabularySegmentation:
    """A segmenter with trained weights in it, and heads of names that are new.

    Parameters
    ----------
    start : None for the bundled trunk; a folder of transformers with a Mask2Former, a backbone, or a segmenter of this
        package; a file with CLIP's RN50 or RN101 (see ``load_clip_resnet``).
    text_width : columns of the text vectors.
    size : pixels of a side that images are brought to.
    queries : of a trunk that is new (a backbone alone was given); its other sizes are the paper's.
    seed : of the new weights.

    Raises
    ------
    InputError : a path of another kind, or a folder that lacks weights.
    """
    check_seed("seed", seed)
    torch.manual_seed(seed)
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    std: Sequence[float] = (0.25, 0.25, 0.25)
    if start is None:
        trunk = _mask2former(BUNDLE / "trunk")
    else:
        path = Path(start).expanduser()
        if path.is_file():
            backbone: Any = load_clip_resnet(path)
            trunk = _around(backbone, queries)
            mean, std = CLIP_MEAN, CLIP_STD
        else:
            kind = _kind(path)
            if kind not in OWN_KINDS:
                read_transformers_config(path, "start")
            mean, std = _statistics(path)
            try:
                if kind == GKCConfig.model_type:
                    given = GKCForOpenVocabularySegmentation.from_pretrained(path)
                    trunk, mean, std = given.trunk, given.config.image_mean, given.config.image_std
                elif kind in ("mask2former", "paperworks_gkc_trunk"):
                    trunk = _mask2former(path)
                else:
                    trunk = _around(_backbone(path), queries)
            except InputError:
                raise
            except Exception as error:  # whatever a damaged folder makes transformers raise
                found = f"{path}, which does not load ({first_line(error)})"
                raise InputError("start", found, "a whole folder of transformers") from None
    config = GKCConfig(trunk.config.to_dict(), text_width, image_size=(size, size), image_mean=mean, image_std=std)
    model = GKCForOpenVocabularySegmentation(config)
    model.trunk.load_state_dict(trunk.float().state_dict())
    return model


def bundled_towers() -> Towers:
    """The bundled MiniLM, with the small image tower that was trained beside it on crops of all shapes."""
    texts = load_towers()
    encoder = CropEncoder(384)
    encoder.load_state_dict({name: value.float() for name, value in load_file(BUNDLE / "teacher.safetensors").items()})
    return encoder.towers(texts.name, texts.encode_text)


def _kind(path: Path) -> str:
    try:
        return str(json.loads((path / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected = "a folder of transformers, or CLIP's RN50.pt"
        raise InputError("start", f"{path} ({error})", expected) from None


def _statistics(path: Path) -> tuple[Any, Any]:
    try:
        content = json.loads((path / "preprocessor_config.json").read_text(encoding="utf-8"))
        return content["image_mean"], content["image_std"]
    except (OSError, ValueError, KeyError):
        return IMAGENET_MEAN, IMAGENET_STD


def _mask2former(path: Path) -> Mask2FormerModel:
    config = trunk_of(json.loads((path / "config.json").read_text(encoding="utf-8")))
    kind: Any = Mask2FormerModel
    model, said = kind.from_pretrained(path, config=config, dtype=torch.float32, output_loading_info=True)
    _require_all(path, said["missing_keys"])
    trunk: Mask2FormerModel = model
    return trunk


def _backbone(path: Path) -> Any:
    config = AutoConfig.from_pretrained(path, local_files_only=True)
    stages = getattr(config, "stage_names", None)
    if not stages or len(stages) < 5:
        found = f"{path}, a {config.model_type} without four stages"
        raise InputError("start", found, "a backbone with stages of strides 4 to 32: ResNet, Swin, ConvNeXt")
    model, said = AutoBackbone.from_pretrained(path, out_features=list(stages[-4:]), output_loading_info=True)
    # norms of the stages' outputs, which Swin's own checkpoints do not have
    _require_all(path, [name for name in said["missing_keys"] if "hidden_states_norms" not in name])
    return model


def _require_all(path: Path, missing: Sequence[str]) -> None:
    if missing:
        found = f"{path}, without {sorted(missing)[0]} and {len(missing) - 1} more weights"
        raise InputError("start", found, "all weights")


def _around(backbone: Any, queries: int) -> Mask2FormerModel:
    """A trunk of the paper's sizes around a backbone."""
    config: PreTrainedConfig = backbone.config
    trunk = Mask2FormerModel(TrunkConfig(backbone_config=config, num_queries=queries))
    trunk.pixel_level_module.encoder.load_state_dict(backbone.state_dict())
    return trunk
