"""Word2vec for music: vectors of beats from the order of their pitch classes (arXiv 1811.12408)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.music_word2vec.chorales import load_chorales
    from paperworks.papers.music_word2vec.chords import chord_word, estimate_key, word_name
    from paperworks.papers.music_word2vec.model import MusicWord2Vec
    from paperworks.papers.music_word2vec.notes import Piece, piece_from_array
    from paperworks.papers.music_word2vec.reading import piece_from_stream, read_score, read_scores
    from paperworks.papers.music_word2vec.slices import SliceEncoder, encode_pitches, pitch_classes, transpose_word
    from paperworks.papers.music_word2vec.substitution import Substitutes, key_consistency, substitute_words
    from paperworks.papers.music_word2vec.tonal import (
        analogies,
        chord_distances,
        fifths_correlation,
        key_matrix,
        pair_angles,
        tonal_report,
    )
    from paperworks.papers.music_word2vec.variation import Variation, substitute, write_score
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "MusicWord2Vec",
    "Piece",
    "SliceEncoder",
    "Substitutes",
    "Variation",
    "analogies",
    "chord_distances",
    "chord_word",
    "encode_pitches",
    "estimate_key",
    "fifths_correlation",
    "key_consistency",
    "key_matrix",
    "load_chorales",
    "pair_angles",
    "piece_from_array",
    "piece_from_stream",
    "pitch_classes",
    "read_score",
    "read_scores",
    "substitute",
    "substitute_words",
    "tonal_report",
    "transpose_word",
    "word_name",
    "write_score",
]
