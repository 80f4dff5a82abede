"""The grounding loss: an image's regions and the words of its caption find each other among those of the batch."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError

MOST_WORDS = 5
MOST_REGIONS = 25
DROPPED = 0.25
"""Most words of a caption and regions of an image that take part, and the chance that a noun is dropped."""


class GroundingLoss(nn.Module):
    """Contrastive loss of images and captions through their regions and words.

    A = scale * cosines of regions r and words w; distance = scale - A
    w2r = mean over words of sum_r softmax_r(A) distance;   r2w = mean over regions of sum_w softmax_w(A) distance
    loss = mean of four cross-entropies of -w2r and -r2w: choose the caption, choose the image.
    """

    def forward(
        self,
        regions: torch.Tensor,
        region_mask: torch.Tensor,
        words: torch.Tensor,
        word_mask: torch.Tensor,
        scale: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        """The loss of a batch; 0 with a gradient of 0 where fewer than two images have regions and words.

        Parameters
        ----------
        regions : ``[B, R, E]``; region_mask : bool ``[B, R]``, False for padding.
        words : ``[B, W, E]``; word_mask : bool ``[B, W]``.
        scale : factor of the cosines.
        """
        if regions.shape[-1] != words.shape[-1] or len(regions) != len(words):
            raise InputError("words", tuple(words.shape), f"[{len(regions)}, W, {regions.shape[-1]}], as regions have")
        kept = region_mask.any(1) & word_mask.any(1)
        if int(kept.sum()) < 2:
            return regions.sum() * 0
        regions, region_mask, words, word_mask = regions[kept], region_mask[kept], words[kept], word_mask[kept]
        unit = functional.normalize(regions.float(), dim=-1), functional.normalize(words.float(), dim=-1)
        # [image, caption, region, word]
        cosines = torch.einsum("ire,jwe->ijrw", *unit)
        attention, distance = scale * cosines, scale * (1 - cosines)
        real_r, real_w = region_mask[:, None, :, None], word_mask[None, :, None, :]
        lowest = attention.detach().min() - 100
        over_regions = attention.masked_fill(~real_r, lowest).softmax(2)
        over_words = attention.masked_fill(~real_w, lowest).softmax(3)
        by_word = (over_regions * distance).sum(2)  # [i, j, w]
        by_region = (over_words * distance).sum(3)  # [i, j, r]
        w2r = (by_word * word_mask[None]).sum(2) / word_mask.sum(1)[None]
        r2w = (by_region * region_mask[:, None]).sum(2) / region_mask.sum(1)[:, None]
        right = torch.arange(len(regions), device=regions.device)
        each = [functional.cross_entropy(-cost, right) for one in (w2r, r2w) for cost in (one, one.T)]
        return torch.stack(each).mean()


class Lexicon(Protocol):
    """What tells nouns: ``paperworks.inputs.wordnet.WordNet``, for one."""

    def synsets(self, lemma: str, pos: str | None = None) -> list:  # type: ignore[type-arg]
        """The senses of a word."""
        ...


def caption_nouns(caption: str, nouns: Collection[str] | Lexicon) -> list[str]:
    """The nouns of a caption, in order, each once, in lower case.

    ``nouns`` is a collection of nouns, or a WordNet: a word is taken for a noun if WordNet has it as one and not more
    often as a verb, an adjective or an adverb.
    """
    words = re.findall(r"[^\W\d_]+(?:[-'][^\W\d_]+)*", caption.lower())
    is_noun = nouns.__contains__ if isinstance(nouns, Collection) else lambda word: _mostly_noun(word, nouns)
    return [word for word in dict.fromkeys(words) if is_noun(word)]


def _mostly_noun(word: str, lexicon: Lexicon) -> bool:
    counts = {pos: len(lexicon.synsets(word, pos)) for pos in "nvar"}
    return counts["n"] > 0 and counts["n"] >= max(counts.values())


def drop_words(words: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Word ids of a caption as training sees them: each dropped with 0.25, all kept if none would remain, 5 at most."""
    kept = [word for word in words if rng.random() >= DROPPED] or list(words)
    return kept[:MOST_WORDS]
