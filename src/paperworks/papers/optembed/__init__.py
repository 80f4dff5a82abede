"""OptEmbed: a smaller embedding table for click models, by learned row thresholds and a search of dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.optembed.bags import Bags
    from paperworks.papers.optembed.baselines import PEPEmbedding, QREmbedding
    from paperworks.papers.optembed.classifier import OptEmbedClassifier, with_compact_table
    from paperworks.papers.optembed.compact import CompactEmbedding
    from paperworks.papers.optembed.encoding import FieldEncoder
    from paperworks.papers.optembed.evolution import Candidates, Evolution, Found, evolve, random_search
    from paperworks.papers.optembed.fitting import Clicks, ClickTraining, fit_clicks
    from paperworks.papers.optembed.models import DCN, FM, FNN, IPNN, ClickModel, DeepFM, make_model
    from paperworks.papers.optembed.search import OptEmbedSearch
    from paperworks.papers.optembed.sources import read_clicks, split_clicks, word_pairs
    from paperworks.papers.optembed.table import OptEmbedding
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "DCN",
    "FM",
    "FNN",
    "IPNN",
    "Bags",
    "Candidates",
    "ClickModel",
    "ClickTraining",
    "Clicks",
    "CompactEmbedding",
    "DeepFM",
    "Evolution",
    "FieldEncoder",
    "Found",
    "OptEmbedClassifier",
    "OptEmbedSearch",
    "OptEmbedding",
    "PEPEmbedding",
    "QREmbedding",
    "evolve",
    "fit_clicks",
    "make_model",
    "random_search",
    "read_clicks",
    "split_clicks",
    "with_compact_table",
    "word_pairs",
]
