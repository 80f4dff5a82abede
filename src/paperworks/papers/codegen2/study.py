"""The paper's claims, measured again. Each file of ``studies`` says its setting.

The paper's models have 1 to 16 billion parameters and are judged by running programs. In their place: byte models of
0.4 million parameters on the standard library, judged by the likelihood of held-out code; and what is exact, exactly.
"""

from __future__ import annotations

from paperworks.papers.codegen2.studies.bytes import domains, epochs, infill_pairs, objectives
from paperworks.papers.codegen2.studies.exact import causal, invariants, layouts

__all__ = ["causal", "domains", "epochs", "infill_pairs", "invariants", "layouts", "objectives"]
