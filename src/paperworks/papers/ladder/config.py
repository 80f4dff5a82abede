"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError

BUNDLED = ("digits", "spam-assassin")
NOT_METADATA = ("digits", "spam-assassin", "features", "model")
HOMES: dict[str, tuple[str, ...]] = {
    "data": ("digits", "spam-assassin", "model"),
    "layer": ("model",),
    "text": ("model",),
    "label": ("model", "metadata"),
    **dict.fromkeys(("sentences", "caption", "style", "vlm"), ("features", "model")),
    **dict.fromkeys(("predictions", "prediction", "hide", "conjunctions", "min_support"), ("metadata",)),
    **dict.fromkeys(("plant", "limit"), ("spam-assassin",)),
    **dict.fromkeys(("correlation", "steps"), ("digits",)),
}
"""Option -> the inputs with which it does something; those that are not named go with all."""
AUDIT_ONLY = (
    "encoder",
    "backend",
    "aligner",
    "top_k",
    "percentile",
    "percentile_scope",
    "balance",
    "n",
    "optimizer",
    "epochs",
    "lr",
    "combine",
    "faithful",
)
"""Options of slices and heads, which metadata mode does not have."""


class Config(runs.Config):
    """Options of ``paperworks run ladder``."""

    data: Annotated[str, runs.File(BUNDLED)] = Field(
        "digits",
        description="digits (on coloured ground, a classifier is trained) or spam-assassin (e-mail); with --model the "
        "classifier's data: a folder or file of labelled images, or a table of texts (.csv, .tsv, .parquet, .jsonl)",
    )
    model: Annotated[str | None, runs.File()] = Field(
        None, description="folder of an image or text classifier of transformers, which --data is the data of"
    )
    layer: str | None = Field(None, description="name of the model's last linear layer, where it is not the last one")
    features: Annotated[str | None, runs.File()] = Field(
        None,
        description=".npz file in place of data and model: features_train, vlr_train, features_val, y_val and pred_val "
        "(or proba_val); also known: vlr_val, ids_val, class_names, head_weight, head_bias, sentence_emb, and "
        "features_test, y_test, groups_test",
    )
    metadata: Annotated[str | None, runs.File()] = Field(
        None,
        description="metadata mode: a table (.csv, .tsv, .parquet), or a folder of DICOM files and --predictions; "
        "its columns are tested for what they do to the error",
    )
    predictions: Annotated[str | None, runs.File()] = Field(
        None, description="metadata mode: table with columns file, label and prediction for a folder of DICOM files"
    )
    prediction: str | None = Field(
        None, description="column with the classifier's prediction; default: a logistic model is trained (metadata)"
    )
    hide: tuple[str, ...] = Field((), description="metadata columns that the logistic model must not see")
    conjunctions: bool = Field(False, description="metadata mode: conjunctions of two conditions, too")
    min_support: float = Field(0.05, gt=0, lt=1, description="metadata mode: least share of the rows in a slice")
    label: str | None = Field(None, description="column with the label, where its name does not tell")
    text: str | None = Field(None, description="column with the text, where its name does not tell")
    sentences: Annotated[str | None, runs.File()] = Field(
        None,
        description="sentences about the validation data: a .txt file, one a line, or a table with --caption; default "
        "for texts: their own sentences",
    )
    caption: str | None = Field(None, description="column of the sentences' table; default caption, report or text")
    style: Literal["captions", "reports"] = Field(
        "captions", description="how sentences are split: captions at '. '; reports also drop short sentences"
    )
    vlm: Annotated[str | None, runs.File()] = Field(
        None, description="folder of CLIP or SigLIP: image and text encoder (images need one)"
    )
    encoder: Annotated[str | None, runs.File()] = Field(
        None, description="folder of a sentence encoder; default the bundled all-MiniLM-L6-v2"
    )
    backend: Literal["offline", "static", "transformers", "endpoint", "caption-free"] = Field(
        "offline",
        description="what proposes hypotheses: word contrast, --hypotheses, --llm, a server, or descriptions by "
        "--describer",
    )
    hypotheses: Annotated[str | None, runs.File()] = Field(
        None, description="JSON file: class name -> list of hypotheses (static)"
    )
    llm: Annotated[str | None, runs.File()] = Field(
        None, description="folder of a causal language model of transformers (transformers)"
    )
    endpoint: Annotated[str | None, runs.CommandLineOnly()] = Field(
        None, description="base address of an OpenAI-compatible server (endpoint)"
    )
    endpoint_model: str | None = Field(None, description="the model's name at the server")
    key_variable: Annotated[str, runs.CommandLineOnly()] = Field(
        "OPENAI_API_KEY", description="environment variable with the server's key"
    )
    describer: Annotated[str | None, runs.File()] = Field(
        None, description="folder of a vision-language model that describes images (caption-free)"
    )
    aligner: Literal["ridge", "sgd"] = Field("ridge", description="how features are mapped to the space of texts")
    top_k: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="sentences that hypotheses are made from; default 200, at most half of them",
    )
    percentile: float = Field(50, gt=0, lt=100, description="percentile of similarity below which it is a slice")
    percentile_scope: Literal["split", "class"] = Field("split", description="the percentile is over these rows")
    margin: float = Field(0.1, ge=0, le=1, description="rise of the error that confirms a hypothesis")
    n_hypotheses: int = Field(8, ge=1, le=100, description="hypotheses for each class at most")
    balance: Literal["extremes", "pseudo_label"] = Field("extremes", description="how rows are chosen for a head")
    n: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="rows of each class on each side; default a tenth of the smallest class, at least 60",
    )
    optimizer: Literal["lbfgs", "sgd", "adamw"] = Field("lbfgs", description="how heads are trained")
    epochs: int | None = Field(
        None, ge=0, le=100_000, description="epochs of a head; default 9 (lbfgs: to the optimum)"
    )
    lr: float | None = Field(None, gt=0, le=10, description="learning rate of sgd and adamw; default 0.001")
    combine: Literal["select", "mean"] = Field("select", description="how heads are combined")
    faithful: bool = Field(False, description="heads for every hypothesis, chosen by raw similarity, as released")
    correlation: float = Field(0.95, ge=0.5, le=1, description="digits: how often the ground tells the class")
    plant: str | None = Field(None, description="spam-assassin: text put before 95% of the spam and 5% of the rest")
    limit: int = Field(600, ge=100, le=1_000_000_000, description="spam-assassin: messages used, drawn with the seed")
    steps: int = Field(600, ge=1, le=100_000_000, description="digits: steps for which the classifier is trained")

    @model_validator(mode="after")
    def _together(self) -> Config:
        needs = {"static": "hypotheses", "transformers": "llm", "endpoint": "endpoint", "caption-free": "describer"}
        for backend, name in needs.items():
            value = getattr(self, name)
            if self.backend == backend and value is None:
                raise InputError(name, "nothing", f"--{name} for the {backend} backend")
            if self.backend != backend and value is not None:
                raise InputError(name, repr(value), f"--backend {backend} beside it")
        if self.backend == "endpoint" and self.endpoint_model is None:
            raise InputError("endpoint_model", "nothing", "the model's name at the server")
        if self.backend != "endpoint" and self.endpoint_model is not None:
            raise InputError("endpoint_model", repr(self.endpoint_model), "--backend endpoint beside it")
        given = [name for name in ("features", "metadata", "model") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(given[1], "an option beside " + given[0], "one of features, metadata, model")
        if self.features is not None and self.sentences is None:
            raise InputError("sentences", "nothing", "a file with sentences about the validation data, for --features")
        if self.model is not None and self.data in BUNDLED and not Path(self.data).exists():
            raise InputError("data", self.data, "the data that the model of --model classifies")
        if self.model is None and not given and self.data not in BUNDLED:
            raise InputError("data", self.data, f"one of {', '.join(BUNDLED)}; your own data with --model")
        source = given[0] if given else self.data
        self._refuse_idle_options(source)
        if self.lr is not None and self.optimizer == "lbfgs":
            raise InputError("lr", self.lr, "--optimizer sgd or adamw: lbfgs has no learning rate")
        if self.hide and self.prediction is not None:
            raise InputError("hide", ", ".join(self.hide), "no --prediction: no model is trained beside it")
        return self

    def _refuse_idle_options(self, source: str) -> None:
        """Raise InputError for an option that would do nothing with this input."""
        for name, field in type(self).model_fields.items():
            homes = HOMES.get(name, NOT_METADATA if name in AUDIT_ONLY else ())
            if homes and source not in homes and getattr(self, name) != field.default:
                raise InputError(name, repr(getattr(self, name)), f"{', '.join(homes)}: it does nothing with {source}")
