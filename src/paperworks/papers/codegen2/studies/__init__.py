"""The paper's claims, measured again: invariants of the corruption, the architecture, lessons on byte models."""
