"""High-resolution vision-language input: slices joined inside the encoder, fewer tokens, and a benchmark of the cuts.

Huang et al. 2024, arXiv 2407.08706.
"""
