"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

import numpy as np


def options(folder: Path) -> list[dict[str, Any]]:
    """Query and document ids with the user's vectors, and a LIMIT-style set without an encoder."""
    (folder / "qrels.csv").write_text("query_id,doc_id\nq1,a\nq1,b\nq2,b\nq2,c\nq3,a\nq3,c\nq4,d\n")
    rng = np.random.default_rng(0)
    np.save(folder / "queries.npy", rng.normal(size=(4, 5)))
    np.save(folder / "documents.npy", rng.normal(size=(4, 5)))
    mine = {"query_vectors": str(folder / "queries.npy"), "document_vectors": str(folder / "documents.npy")}
    made = {"n_docs": 6, "n_queries": 12, "min_items": 5, "encoder": "none", "truncate": ()}
    short = {"max_iter": 200, "dims": (2, 4)}
    return [
        {"data": str(folder / "qrels.csv"), **mine, "truncate": (2,), "critical": (2,), **short},
        {**made, "critical": (), **short},
    ]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    made = options(folder)[1]
    return dict.fromkeys(("token_encoder", "items", "first_names", "last_names"), made)
