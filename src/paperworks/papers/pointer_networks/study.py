"""The paper's claims, measured again at sizes that one core can bear; the bundled networks stand for the paper's."""

from __future__ import annotations

from paperworks.papers.pointer_networks.studies.hulls import any_input_size, delaunay, hull_sizes, three_models
from paperworks.papers.pointer_networks.studies.tours import reference_lengths, student, tours

__all__ = ["any_input_size", "delaunay", "hull_sizes", "reference_lengths", "student", "three_models", "tours"]
