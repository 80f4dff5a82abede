"""The survey's own methods in its taxonomy: every score of this folder, and what learns or works at run time."""

from __future__ import annotations

from pathlib import Path

from paperworks.papers.pruning_survey.weight_criteria import WEIGHT_CRITERIA
from paperworks.pruning.taxonomy import COLUMNS, Taxonomy, declared_beside
from paperworks.pruning.unit_criteria import UNIT_CRITERIA
from paperworks.runs import Table

BEFORE_TRAINING = ("synflow", "snip", "grasp")
"""Scores that were made for untrained networks."""
OTHERS: dict[str, Taxonomy] = {
    "movement": Taxonomy(
        "unstructured", "during", "criterion", "sensitivity", ("weight",), data="labelled", recovery="finetune"
    ),
    "SET": Taxonomy("unstructured", "during", "criterion", "magnitude", ("weight",), data="labelled"),
    "RigL": Taxonomy("unstructured", "during", "criterion", "magnitude", ("weight",), data="labelled"),
    "SFP, ASFP": Taxonomy("structured", "during", "criterion", "norm", ("filter",), data="labelled"),
    "group lasso": Taxonomy(
        "structured", "during", "learned", "sparsity regularisation", ("channel", "head"), data="labelled"
    ),
    "L1 on gains": Taxonomy(
        "structured", "during", "learned", "sparsity regularisation", ("channel",), data="labelled"
    ),
    "GReg": Taxonomy(
        "structured", "during", "learned", "sparsity regularisation", ("channel", "head"), data="labelled"
    ),
    "sparse learning (DepGraph)": Taxonomy(
        "structured", "during", "learned", "sparsity regularisation", ("channel", "head"), data="labelled"
    ),
    "block influence": Taxonomy("structured", "after", "criterion", "sensitivity", ("block",), data="unlabelled"),
    "FBS gates": Taxonomy("structured", "run-time", "learned", "sensitivity", ("channel",), data="labelled"),
}
"""By name: what this folder has beside scores."""


def own_methods() -> dict[str, Taxonomy]:
    """Scores of single weights, scores of units, and the others, by name."""
    found: dict[str, Taxonomy] = {}
    for name, weights in WEIGHT_CRITERIA.items():
        found[f"{name}, of weights"] = Taxonomy(
            "unstructured",
            "before" if name in BEFORE_TRAINING else "after",
            "criterion",
            weights.by,
            ("weight",),
            data=weights.data,
            recovery="update" if name in ("obs", "sparsegpt") else "finetune",
        )
    for name, units in UNIT_CRITERIA.items():
        found[f"{name}, of units"] = Taxonomy(
            "structured", "after", "criterion", units.by, ("channel", "head"), data=units.data, recovery="finetune"
        )
    return found | OTHERS


def taxonomy_table() -> Table:
    """Where every method of this package stands that declares itself."""
    declared = declared_beside(Path(__file__).parent.parent)
    return Table(
        "Methods of this package in the taxonomy",
        ["method", *COLUMNS],
        [[name, *one.taxonomy.row()] for name, one in declared.items() if one.taxonomy is not None],
    )


def own_methods_table() -> Table:
    """The same of the survey's own methods."""
    return Table(
        "Scores and learned pruning of this folder in the taxonomy",
        ["method", *COLUMNS],
        [[name, *one.row()] for name, one in own_methods().items()],
        "Patterns (N:M, blocks, kernels) can be had with every score of weights; recovery is what is usual.",
    )
