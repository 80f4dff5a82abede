"""The paper's claims, measured again: combinatorics, exactness, encoders, a language model."""
