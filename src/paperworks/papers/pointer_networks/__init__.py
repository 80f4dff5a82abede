"""Pointer Networks: attention over the input as the output, for hulls, triangulations and tours (arXiv 1506.03134)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.pointer_networks.decoding import Decoded, beam_search, sample
    from paperworks.papers.pointer_networks.estimators import (
        ConvexHullPointer,
        DelaunayPointer,
        SetToSequence,
        TSPPointer,
    )
    from paperworks.papers.pointer_networks.files import (
        read_elements,
        read_official,
        read_tsplib,
        verify_labels,
        write_official,
    )
    from paperworks.papers.pointer_networks.generators import make_delaunay, make_hull, make_tsp
    from paperworks.papers.pointer_networks.instances import Instances
    from paperworks.papers.pointer_networks.network import PointerNetwork
    from paperworks.papers.pointer_networks.pretrained import NetworkConfig
    from paperworks.papers.pointer_networks.seq2seq import Seq2Seq, Seq2SeqConfig
    from paperworks.papers.pointer_networks.solving import solve
    from paperworks.papers.pointer_networks.tours import two_opt
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "ConvexHullPointer",
    "Decoded",
    "DelaunayPointer",
    "Instances",
    "NetworkConfig",
    "PointerNetwork",
    "Seq2Seq",
    "Seq2SeqConfig",
    "SetToSequence",
    "TSPPointer",
    "beam_search",
    "make_delaunay",
    "make_hull",
    "make_tsp",
    "read_elements",
    "read_official",
    "read_tsplib",
    "sample",
    "solve",
    "two_opt",
    "verify_labels",
    "write_official",
]
