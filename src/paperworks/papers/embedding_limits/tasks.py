"""The data of a run: the user's files, LIMIT-style sets, or who imports whom in Python's standard library."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from paperworks.errors import InputError, nearest
from paperworks.papers.embedding_limits.config import BUNDLED
from paperworks.papers.embedding_limits.datasets import RetrievalData, make_limit, with_synonyms
from paperworks.papers.embedding_limits.files import load_data, read_words
from paperworks.papers.embedding_limits.qrels import make_qrels
from paperworks.papers.embedding_limits.wordlists import bundled_words, synonyms_from_wordnet

if TYPE_CHECKING:
    from paperworks.papers.embedding_limits.config import Config

SIZES = {"limit-small": 46, "limit-1000": 1000}


def load_task(config: Config) -> RetrievalData:
    """The data set that the options name."""
    if Path(config.data).expanduser().exists():
        return load_data(config.data)
    if config.data in SIZES:
        return limit_data(config)
    if config.data == "python-imports":
        return python_imports()
    raise InputError(
        "data", config.data, f"a file or folder, or one of {', '.join(BUNDLED)}{nearest(config.data, BUNDLED)}"
    )


def limit_data(config: Config) -> RetrievalData:
    """LIMIT-style data by the options."""
    words = bundled_words()
    items = words.items if config.items is None else tuple(read_words(config.items))
    first = words.first_names if config.first_names is None else tuple(read_words(config.first_names))
    last = words.last_names if config.last_names is None else tuple(read_words(config.last_names))
    n_docs = config.n_docs or SIZES[config.data]
    qrels = make_qrels(config.pattern, n_docs, config.n_queries, config.k, config.seed)
    data = make_limit(items, first, last, qrels, min_items=config.min_items, seed=config.seed)
    if config.synonyms:
        from paperworks import inputs
        from paperworks.inputs.wordnet import WordNet

        assert data.items is not None
        used = tuple(sorted({item for some in data.items for item in some}))
        data = with_synonyms(data, synonyms_from_wordnet(used, WordNet(inputs.path("wordnet"))))
    return data


def python_imports(most: int = 20) -> RetrievalData:
    """Real result sets: for each module of the standard library, the other top-level modules that import it.

    A document is a module: its name, the first paragraph of its docstring, and what it imports. Modules that more than
    ``most`` others import (sys, os) ask for no query.
    """
    from paperworks import inputs

    folder = inputs.path("python-stdlib")
    documents: dict[str, str] = {}
    importers: dict[str, set[str]] = {}
    for file in sorted(folder.glob("*.py")):
        name = file.stem
        if name.startswith("_"):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
        found = sorted(_imported(tree) - {name, "__future__"})
        first = (ast.get_docstring(tree) or "").split("\n\n")[0]
        documents[name] = f"{name}: {' '.join(first.split())} Imports {', '.join(found) or 'nothing'}."
        for other in found:
            importers.setdefault(other, set()).add(name)
    asked = {other: who for other, who in sorted(importers.items()) if len(who) <= most and not other.startswith("_")}
    names = tuple(documents)
    column = {name: j for j, name in enumerate(names)}
    from scipy import sparse

    matrix = sparse.lil_array((len(asked), len(names)), dtype=bool)
    for i, who in enumerate(asked.values()):
        for name in who:
            matrix[i, column[name]] = True
    queries = tuple(f"What imports {other}?" for other in asked)
    return RetrievalData(sparse.csr_array(matrix), tuple(asked), names, queries, tuple(documents.values()))


def _imported(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found
