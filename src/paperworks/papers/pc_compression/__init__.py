"""Lossless compression with probabilistic circuits: hidden Chow-Liu trees and a codec (arXiv 2111.11632)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.pc_compression.circuit import Circuit, CircuitBuilder
    from paperworks.papers.pc_compression.codec import CorruptFile, Header, PCCodec, read_header
    from paperworks.papers.pc_compression.em import OFFICIAL, Phase
    from paperworks.papers.pc_compression.files import compress_file, decompress_file
    from paperworks.papers.pc_compression.hclt import HCLT, QUICK
    from paperworks.papers.pc_compression.structure import Tree, chow_liu
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "HCLT",
    "OFFICIAL",
    "QUICK",
    "Circuit",
    "CircuitBuilder",
    "CorruptFile",
    "Header",
    "PCCodec",
    "Phase",
    "Tree",
    "chow_liu",
    "compress_file",
    "decompress_file",
    "read_header",
]
