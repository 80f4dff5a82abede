"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.options import TableOptions
from paperworks.inputs.tables import BUNDLED


class Config(TableOptions):
    """Options of ``paperworks run fold-se``."""

    other_names: ClassVar = {"target": "label"}

    data: Annotated[str, runs.File(tuple(BUNDLED))] = Field(
        "breast-cancer",
        description=f"table: a .csv, .tsv, .txt (also .gz) or .parquet file, or one of {', '.join(BUNDLED)}",
    )
    label: str | None = Field(None, description="column with the label (a bundled table knows its own)")
    positive: str | None = Field(
        None, description="class that the rules conclude, for two classes; default the more frequent one"
    )
    preset: Literal["fold-se", "fold-rpp", "fold-rm"] = Field(
        "fold-se",
        description="the paper's algorithm, or its predecessors FOLD-R++ (two classes) and FOLD-RM (any number)",
    )
    ratio: float = Field(
        0.5, ge=0, le=1, description="false positives per true positive at which exceptions are learned"
    )
    tail: float = Field(
        0.005, ge=0, lt=1, description="rules that newly cover less than this share of the training rows are dropped"
    )
    test_size: float = Field(0.2, gt=0, lt=1, description="share of the rows that is held out")
    folds: int = Field(
        5,
        ge=0,
        le=100,
        description="folds of cross-validation; 0 for none; the default is fewer where a class is small",
    )
    jobs: int = Field(1, ge=1, le=256, description="folds that are measured at the same time")
    unmatched: Literal["majority", "none"] = Field(
        "majority", description="more than two classes: what a row gets that no rule covers"
    )
    explain: int = Field(5, ge=0, le=1000, description="held-out rows whose proof trees are saved")
    predict: Annotated[str | None, runs.File()] = Field(
        None, description="a further table, with or without labels, whose rows are classified"
    )

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.folds == 1:
            raise InputError("folds", 1, "0 for none, or at least 2")
        if self.preset != "fold-se" and "tail" in self.model_fields_set and self.tail > 0:
            raise InputError("tail", f"{self.tail} with preset {self.preset}", "0, since only FOLD-SE drops rules")
        return self
