"""Figures of the paper (arXiv 2508.21038), set beside what is measured here."""

from __future__ import annotations

CRITICAL_N: dict[int, int] = {
    4: 10,
    5: 14,
    6: 19,
    7: 24,
    8: 28,
    9: 32,
    10: 36,
    11: 42,
    12: 47,
    13: 54,
    14: 62,
    15: 70,
    16: 79,
    17: 89,
    18: 99,
    19: 109,
    20: 120,
    21: 132,
    22: 144,
    23: 157,
    24: 170,
    25: 184,
    26: 198,
    27: 213,
    28: 229,
    29: 245,
    30: 261,
    31: 278,
    32: 296,
    33: 314,
    34: 333,
    35: 352,
    36: 372,
    37: 392,
    38: 413,
    39: 434,
    40: 460,
    41: 484,
    42: 505,
    43: 545,
    44: 605,
    45: 626,
}
"""Table 6: dimensions -> critical n of pairs (k = 2)."""

MARGIN_BOUNDS: dict[tuple[int, int], int] = {
    (100, 2): 4,
    (100, 10): 13,
    (10**4, 2): 8,
    (10**4, 10): 33,
    (10**4, 100): 233,
    (10**4, 1000): 1354,
    (10**6, 2): 12,
    (10**6, 10): 52,
    (10**6, 100): 425,
    (10**6, 1000): 3296,
    (10**9, 2): 17,
    (10**9, 10): 81,
    (10**9, 100): 713,
    (10**9, 1000): 6177,
}
"""Bound table: (n, k) -> dimensions at margin 0.1."""

SMALL_RECALL: dict[str, tuple[int | None, float, float, float]] = {
    "Snowflake Arctic L v2": (1024, 19.4, 54.9, 76.0),
    "Qwen3 Embed": (4096, 19.0, 52.3, 73.8),
    "E5-Mistral 7B": (4096, 29.5, 68.1, 85.2),
    "Gemini Embed": (3072, 33.7, 72.4, 87.9),
    "GritLM 7B": (4096, 38.4, 75.4, 90.5),
    "Promptriever Llama3 8B": (4096, 54.3, 90.0, 97.7),
    "GTE-ModernColBERT": (None, 83.5, 97.6, 99.1),
    "BM25": (None, 97.8, 100.0, 100.0),
}
"""Results table, 46 documents: system -> dimensions, recall at 2, 10 and 20 in percent."""

RECALL_AT_100: dict[str, float] = {
    "Snowflake Arctic L v2": 3.3,
    "Qwen3 Embed": 4.8,
    "E5-Mistral 7B": 8.3,
    "Gemini Embed": 10.0,
    "GritLM 7B": 12.9,
    "Promptriever Llama3 8B": 18.9,
}
"""Results table, LIMIT of 50,000 documents: embedding model -> recall at 100 in percent."""

BEIR: dict[str, float] = {
    "Snowflake Arctic L v2": 55.22,
    "Promptriever Llama3 8B": 56.40,
    "E5-Mistral 7B": 57.07,
    "GritLM 7B": 57.40,
    "Gemini Embed": 62.65,
    "Qwen3 Embed": 62.76,
}
"""Text on BEIR: embedding model -> score."""

DENSITY: dict[str, tuple[float, float]] = {
    "NQ": (0.0, 0.0),
    "HotpotQA": (0.000037, 0.1104),
    "SciFact": (0.001449, 0.4222),
    "FollowIR Core17": (0.025641, 0.5912),
    "LIMIT": (0.085481, 28.4653),
}
"""Density table: collection -> density of the query graph, mean query strength."""
