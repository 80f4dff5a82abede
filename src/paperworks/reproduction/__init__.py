"""Measure the claims of papers again, and write down what came out."""

from __future__ import annotations

from paperworks.reproduction.measuring import (
    Measured,
    chosen_studies,
    load_studies,
    measure,
    measure_on_cluster,
    measure_study,
)
from paperworks.reproduction.writing import (
    TABLE_END,
    TABLE_START,
    reproductions_markdown,
    with_papers_table,
    write_results,
)

__all__ = [
    "TABLE_END",
    "TABLE_START",
    "Measured",
    "chosen_studies",
    "load_studies",
    "measure",
    "measure_on_cluster",
    "measure_study",
    "reproductions_markdown",
    "with_papers_table",
    "write_results",
]
