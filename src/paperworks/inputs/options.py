"""The options that papers with a table or labelled images of the user's have, with the same meaning in all of them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from paperworks import runs
from paperworks.inputs.tables import MISSING_MARKERS, Table, read_table

IMAGES = ("digits", "mnist", "fashion-mnist")
"""Sets of labelled images by name."""


class LabelledImageOptions(runs.Config):
    """Base of the Configs of papers that read labelled images: which ones."""

    data: Annotated[str, runs.File(IMAGES)] = Field(
        "digits",
        description="labelled images: a folder with a folder per class, a table of files and labels, .npz, IDX, "
        f"Parquet, or one of {', '.join(IMAGES)}",
    )
    label: str | None = Field(None, description="column or key of the labels, where its name does not tell")
    limit: int | None = Field(
        None, ge=20, le=1_000_000_000, description="use at most so many images, drawn with the seed"
    )


class TableOptions(runs.Config):
    """Base of the Configs of papers that read a table: how its columns and cells are understood.

    The paper names the options of the table and of its label itself; the label's column is ``label`` or ``target``, one
    being the other's synonym.
    """

    numeric: tuple[str, ...] = Field((), description="columns to read as numbers although some cells are text")
    categorical: tuple[str, ...] = Field((), description="columns of numbers that are codes, such as zip codes")
    drop: tuple[str, ...] = Field((), description="columns to leave out")
    missing: tuple[str, ...] = Field(
        tuple(m for m in MISSING_MARKERS if m), description="text that stands for a missing cell, besides an empty one"
    )
    delimiter: str | None = Field(None, description="column separator of a text file; found in its first lines")
    keep_row_numbers: bool = Field(
        False, description="keep columns that number the rows (all different, or rising with the row)"
    )

    def read_table(self, source: Any, label: str | None = None) -> Table:
        """The table as these options say; a label column is never left out."""
        return read_table(
            source,
            label,
            numeric=self.numeric,
            categorical=self.categorical,
            drop=self.drop,
            missing=("", *self.missing),
            delimiter=self.delimiter,
            row_numbers=self.keep_row_numbers,
        )
