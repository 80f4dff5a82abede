"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError

BUNDLED = ("shape-world",)


class Config(runs.Config):
    """Options of ``paperworks run gkc``."""

    images: Annotated[str, runs.File(BUNDLED)] = Field(
        "shape-world",
        description="a folder of images; shape-world makes small scenes of coloured shapes before real photographs",
    )
    masks: Annotated[str | None, runs.File()] = Field(
        None, description="a folder of integer masks with the images' names, or of COCO's panoptic PNG files"
    )
    names: Annotated[str | None, runs.File()] = Field(
        None, description='a JSON file of the masks\' ids: {"1": "sofa"}, a list, or COCO\'s panoptic JSON'
    )
    ask: str | None = Field(
        None, description="other names to look for after training, such as 'red square, sofa|couch' (| joins synonyms)"
    )
    others: str | None = Field(
        None,
        description="names that compete with the asked ones, or none; default the trained names that are not asked",
    )
    model: Annotated[str | None, runs.File()] = Field(
        None, description="folder of a trained segmenter, which answers ask on the images; nothing is trained then"
    )
    start: Annotated[str | None, runs.File()] = Field(
        None,
        description="weights to start from: a Mask2Former folder of transformers, a folder of a backbone, or CLIP's "
        "RN50.pt; default the bundled trunk of 0.6 million weights",
    )
    towers: Annotated[str | None, runs.File()] = Field(
        None,
        description="folder of a CLIP or SigLIP, whose text tower names and whose image tower teaches; default the "
        "bundled MiniLM, with a bundled teacher for shape-world and none for your images",
    )
    synonyms: Annotated[str | None, runs.File(("wordnet", "none"))] = Field(
        None,
        description="a JSON file of class -> names that you reviewed; wordnet builds one; default wordnet if it is "
        "there (paperworks data get wordnet)",
    )
    captions: Annotated[str | None, runs.File()] = Field(
        None, description="captions for the grounding loss: COCO's JSON, or a JSON file of image -> caption"
    )
    diversification: Literal["threshold", "prob", "uniform", "off"] = Field(
        "threshold", description="which synonyms stand for an instance: score above 0.1, by score, any, or none"
    )
    distillation: Literal["auto", "distance", "inner", "point", "vision", "off"] = Field(
        "auto", description="form of the distillation; auto is distance where there is a teacher"
    )
    student: Literal["prior", "posterior", "direct"] = Field(
        "prior", description="student vectors that are distilled: before the text projection, after it, or as they are"
    )
    grounding: Literal["names", "captions", "off"] = Field(
        "names", description="words of the grounding loss: the image's names, the nouns of its captions, or none"
    )
    mask_weight: float = Field(5.0, ge=0, le=1000, description="weight of the mask loss")
    name_weight: float = Field(2.0, ge=0, le=1000, description="weight of the name loss")
    grounding_weight: float = Field(2.0, ge=0, le=1000, description="weight of the grounding loss")
    distillation_weight: float = Field(2.0, ge=0, le=1000, description="weight of the distillation")
    size: int | None = Field(
        None, ge=32, le=2048, description="pixels of a side that images are brought to; default 64 for shape-world, 128"
    )
    steps: int = Field(120, ge=1, le=1_000_000, description="steps of training")
    batch_size: int = Field(16, ge=1, le=1024, description="images in a step")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="of AdamW; falls in a line")
    backbone_rate: float = Field(1.0, ge=0, le=1, description="learning rate of the backbone, as a factor")
    weight_decay: float = Field(0.05, ge=0, le=1, description="of AdamW, on matrices and kernels")
    clip_norm: float = Field(1.0, ge=0, le=100, description="the gradient's norm is cut to this; 0 turns it off")
    points: int = Field(512, ge=16, le=100_000, description="points at which masks are compared (the paper: 12544)")
    queries: int = Field(24, ge=2, le=1000, description="queries of a backbone that has no trunk yet")
    test_size: float = Field(0.2, gt=0, lt=1, description="share of the images that are not trained on")
    ignore: tuple[int, ...] = Field((0, 255), description="ids of mask pixels without a class, unless names has them")
    instances: Literal["class", "components"] = Field(
        "class", description="segments of a mask: all pixels of a class, or each connected part"
    )
    output: Literal["semantic", "panoptic", "instance"] = Field(
        "semantic", description="form of the maps that are saved"
    )
    threshold: float = Field(0.5, ge=0, lt=1, description="least score of panoptic and instance segments")
    limit: int | None = Field(None, ge=2, le=10_000_000, description="at most so many images")
    scenes: int = Field(400, ge=8, le=100_000, description="training scenes of shape-world")
    compare: bool = Field(True, description="measure the two-stage way beside it, where there is a teacher")
    onnx: bool = Field(False, description="write the segmenter as ONNX, too")

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.bundled:
            for name in ("masks", "names", "captions"):
                if getattr(self, name) is not None:
                    raise InputError("images", "shape-world, with " + name, "a folder of images")
        elif self.model is None and (self.masks is None or self.names is None):
            missing = "masks" if self.masks is None else "names"
            expected = "a folder of masks and a JSON file of names, to train on; or model, a trained segmenter"
            raise InputError(missing, "none, with images of yours", expected)
        if self.model is not None and self.ask is None:
            raise InputError("ask", "none, with model", "names to look for, such as 'cat, sofa'")
        if self.grounding == "captions" and self.captions is None:
            raise InputError("captions", "none, with grounding captions", "a JSON file of captions")
        if self.ask is not None and not self.ask.replace(",", "").replace("|", "").strip():
            raise InputError("ask", repr(self.ask), "names separated by commas")
        return self

    @property
    def bundled(self) -> bool:
        """Whether the images are made."""
        return self.images in BUNDLED

    @property
    def side(self) -> int:
        """Pixels of a side."""
        return self.size or (64 if self.bundled else 128)
