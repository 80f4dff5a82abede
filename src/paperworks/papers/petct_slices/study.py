"""The paper's claims, measured again. Each file of ``studies`` says its setting.

The patients' images cannot be had. In their place: simulated scans of two scanners; nothing here is clinical evidence.
"""

from __future__ import annotations

from paperworks.papers.petct_slices.studies.exact import area_tests, network_size, reading, splits_and_figures
from paperworks.papers.petct_slices.studies.simulated import simulated

__all__ = ["area_tests", "network_size", "reading", "simulated", "splits_and_figures"]
