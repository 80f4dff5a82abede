"""Options of recipes that make an image classifier smaller. Light to import."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from paperworks import runs
from paperworks.inputs.options import LabelledImageOptions

MODELS = ("auto", "plain-cnn", "strided-cnn", "mlp", "small-cnn", "tiny-vit", "resnet", "vit", "convnext", "swin")


class ImageOptions(LabelledImageOptions):
    """Which labelled images, and which classifier of them."""

    size: int | None = Field(None, ge=4, le=1024, description="side in pixels that images are resized to")
    test_size: float = Field(
        0.2, gt=0, lt=1, description="share of the images that tests, where the data name no test split"
    )
    model: Annotated[str, runs.File(MODELS)] = Field(
        "auto",
        description=f"the dense classifier: {', '.join(MODELS)}, trained here; or the folder of a trained classifier "
        "of this package or of transformers; auto is plain-cnn",
    )
