"""The claims, by enumeration of small cases and by replays of the bundled traces.

The paper has no experiments. The figures of BrightKite and CitiBike in paper.toml were measured on public traces that
are not bundled. The same quantities are measured here on the bundled ones: the words of the New Testament cut into
users of 2,100 requests (k = 10, the form of the BrightKite set), and the database trace.
"""

from __future__ import annotations

from paperworks.papers.paging.bound_studies import deterministic_bounds, expected_bounds, lower_bounds
from paperworks.papers.paging.noise_studies import combination, one_bit, wrong_bits
from paperworks.papers.paging.truth_studies import learned_bits, true_bits

__all__ = [
    "combination",
    "deterministic_bounds",
    "expected_bounds",
    "learned_bits",
    "lower_bounds",
    "one_bit",
    "true_bits",
    "wrong_bits",
]
