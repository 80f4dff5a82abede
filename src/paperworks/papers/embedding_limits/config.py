"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError

BUNDLED = ("limit-small", "limit-1000", "python-imports")
ENCODERS = ("minilm", "none")
MADE = ("n_docs", "n_queries", "k", "pattern", "min_items", "items", "first_names", "last_names", "synonyms")
"""Options of LIMIT-style data, which user's own files do not have."""


class Config(runs.Config):
    """Options of ``paperworks run embedding-limits``."""

    error_names: ClassVar = {
        "queries": "query_vectors",
        "documents": "document_vectors",
        "vectors": "query_vectors",
        "tokens": "token_encoder",
    }

    data: Annotated[str, runs.File(BUNDLED)] = Field(
        "limit-small",
        description="which documents answer which query: a BEIR or MTEB folder (with texts), a file of query and "
        "document ids (.csv, .tsv, .jsonl, .parquet, TREC qrels), or limit-small (46 documents), limit-1000 (1000 "
        "documents), python-imports",
    )
    items: Annotated[str | None, runs.File()] = Field(
        None, description="LIMIT-style data: your list of items, one a line; default nouns of WordNet"
    )
    first_names: Annotated[str | None, runs.File()] = Field(
        None, description="LIMIT-style data: first names, one a line"
    )
    last_names: Annotated[str | None, runs.File()] = Field(None, description="LIMIT-style data: last names, one a line")
    pattern: Literal["dense", "random", "cycle", "disjoint"] = Field(
        "dense", description="LIMIT-style data: which documents are relevant together"
    )
    n_docs: int | None = Field(None, ge=1, le=1_000_000, description="LIMIT-style data: documents; default 46 or 1000")
    n_queries: int = Field(1000, ge=1, le=1_000_000, description="LIMIT-style data: queries")
    k: int = Field(2, ge=1, le=10_000, description="LIMIT-style data: relevant documents of each query")
    min_items: int = Field(45, ge=1, le=100_000, description="LIMIT-style data: items of each document at least")
    synonyms: bool = Field(False, description="LIMIT-style data: replace the documents' items by synonyms of WordNet")
    encoder: Annotated[str, runs.File(ENCODERS)] = Field(
        "minilm",
        description="encoder to test, where the data have texts: a sentence-transformers or transformers folder, "
        "minilm (all-MiniLM-L6-v2) or none",
    )
    similarity: Literal["cosine", "dot"] = Field(
        "cosine", description="how vectors are compared, as the model prescribes"
    )
    pooling: Literal["auto", "mean", "cls", "max", "lasttoken"] = Field(
        "auto", description="pooling of a transformers folder"
    )
    query_prompt: str | None = Field(
        None, description="text before each query, or the name of a prompt that the encoder brings"
    )
    document_prompt: str | None = Field(
        None, description="text before each document, or the name of a prompt that the encoder brings"
    )
    token_encoder: Annotated[str | None, runs.File()] = Field(
        None,
        description="multi-vector encoder to test: a ColBERT-style or transformers folder; its tokens score by MaxSim",
    )
    query_vectors: Annotated[str | None, runs.File()] = Field(
        None, description="your own vectors of the queries: .npy [queries, d], in the order of the data"
    )
    document_vectors: Annotated[str | None, runs.File()] = Field(
        None, description="your own vectors of the documents: .npy [documents, d], in the order of the data"
    )
    truncate: tuple[int, ...] = Field((32, 64, 128, 256), description="also test embeddings cut to these dimensions")
    matryoshka: bool = Field(False, description="the encoder was trained to be cut")
    recall_at: tuple[int, ...] = Field((), description="documents looked at; default 2, 10 and 20 (100 of many)")
    dims: tuple[int, ...] = Field(
        (2, 4, 8, 16, 32, 64),
        description="dimensions whose capacity for your result sets is measured by fitting vectors",
    )
    starts: int = Field(1, ge=1, le=100, description="starting points of each fit; one that succeeds counts")
    max_iter: int = Field(100_000, ge=1, le=100_000_000, description="iterations of a fit at most")
    most_queries: int = Field(
        2000, ge=1, le=1_000_000_000, description="of more queries than this, so many are drawn for the fits"
    )
    critical: tuple[int, ...] = Field(
        (4, 5, 6),
        description="dimensions for which the critical number of documents is searched, beside the paper's curve",
    )
    gamma: float = Field(0.1, gt=0, le=1, description="margin of the proved bound")

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.data not in ("limit-small", "limit-1000"):
            for name in MADE:
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise InputError(
                        name, f"an option of LIMIT-style data, beside data {self.data}", "data limit-small"
                    )
        if (self.query_vectors is None) != (self.document_vectors is None):
            raise InputError("query_vectors", "vectors of one side only", "query_vectors and document_vectors")
        for name in ("truncate", "recall_at", "dims", "critical"):
            if any(value < 1 for value in getattr(self, name)):
                raise InputError(name, min(getattr(self, name)), "numbers of 1 or more")
        if not self.dims:
            raise InputError("dims", "none", "one dimension or more")
        if any(d > 45 for d in self.critical):
            raise InputError("critical", max(self.critical), "dimensions of at most 45, which takes hours already")
        return self
