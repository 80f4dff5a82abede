"""What holds on any machine: the corruption's invariants, causality, storage layouts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch

from paperworks import runs
from paperworks.metrics import wilson_interval
from paperworks.papers.codegen2.conversion import regroup_qkv
from paperworks.papers.codegen2.corruption import SpanCorruption
from paperworks.papers.codegen2.fitting import prefix_logits
from paperworks.papers.codegen2.models import small_model
from paperworks.papers.codegen2.studies.byte_models import TOKENS
from paperworks.runs import Finding, largest, smallest


@runs.study(
    claims=["corruption-is-invertible", "corruption-within-files", "simple-mixture"],
    title="invariants of the corruption on random files",
    minutes=0.5,
)
def invariants(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Random files of 2 to 200 tokens, ratios from 0.05 to 1, spans of 1 to 16 tokens or as long as the file."""
    count = 500 if fast else 10_000
    rng = run.rng("files")
    faults = dict.fromkeys(("restored", "tokens", "ends", "masks", "ratio", "apart", "files"), 0)
    settings = [SpanCorruption(TOKENS, 0.0, (0.05, 1.0), span) for span in ((1, 16), (1, None))]
    for number in run.progress(range(count), "files"):
        corruption = settings[number % 2]
        file = rng.integers(0, 256, size=int(rng.integers(2, 201)))
        made = corruption.corrupt_file(file, corruption.generator(number))
        _count_faults(faults, corruption, file, made, number)
        first = np.append(file, TOKENS.end)
        second = rng.integers(0, 256, size=int(rng.integers(2, 51)))
        both = corruption.corrupt_files(np.concatenate([first, second]), corruption.generator(number))
        stream = corruption.generator(number)
        alone = np.concatenate([corruption.corrupt_file(f, stream) for f in (first, second)])
        faults["files"] += both.tolist() != alone.tolist()
    words = {
        "restored": ("corruption-is-invertible", "files that restore does not give back"),
        "tokens": ("corruption-is-invertible", "files whose ordinary tokens are not those of the original"),
        "ends": ("corruption-is-invertible", "files with an end token elsewhere than behind the body"),
        "masks": ("corruption-is-invertible", "files whose masks are not 1 to k in order, once in body and tail"),
        "ratio": ("corruption-is-invertible", "files with another number of masked tokens than round(r |f|)"),
        "apart": ("corruption-is-invertible", "files with two holes beside each other"),
        "files": ("corruption-within-files", "pairs whose corruption is not that of each file alone"),
    }
    for name, (claim, text) in words.items():
        yield Finding(claim, f"{count:,} random files: {text}.", "exact", faults[name], "==", 0.0)
    mixture = SpanCorruption(TOKENS, seed=run.seed)
    rows = [rng.integers(0, 256, size=20) for _ in range(count)]
    same = sum(mixture.corrupt(row, mixture.generator(i)).tolist() == row.tolist() for i, row in enumerate(rows))
    yield Finding(
        "simple-mixture",
        f"{count:,} sequences: distance of the share that stays as it is from one half, in standard errors.",
        "exact",
        abs(same / count - 0.5) / math.sqrt(0.25 / count),
        "<=",
        4.0,
        detail=f"share {wilson_interval(same, count)}",
    )


def _count_faults(
    faults: dict[str, int], corruption: SpanCorruption, file: np.ndarray, made: np.ndarray, number: int
) -> None:
    ids = made.tolist()
    border = ids.index(TOKENS.end)
    body, tail = ids[:border], ids[border + 2 :]
    holes = [t for t in body if t in TOKENS.masks]
    expected = list(TOKENS.masks[: len(holes)])
    hidden = sum(t < 256 for t in tail)
    ratio = corruption.generator(number).uniform(0.05, 1.0)
    faults["restored"] += corruption.restore(made) != file.tolist()
    faults["tokens"] += sorted(t for t in ids if t < 256) != sorted(file.tolist())
    faults["ends"] += ids.count(TOKENS.end) != 1 or ids[border + 1] != TOKENS.sep
    faults["masks"] += holes != expected or [t for t in tail if t in TOKENS.masks] != expected
    faults["ratio"] += hidden != min(max(1, round(ratio * len(file))), len(file) - 1)
    faults["apart"] += any(a in TOKENS.masks and b in TOKENS.masks for a, b in pairwise(body))


@runs.study(claims=["causality"], title="what a token's output depends on", minutes=0.1)
def causal(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """A random model of 3 layers; one token is changed, at every place in turn."""
    model = small_model(291, context=32, seed=1).eval()
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 256, (1, 24), generator=rng)
    prefix = 12
    past, inside, outside = 0.0, math.inf, 0.0
    with torch.inference_mode():
        plain = model(ids).logits[0]
        seen = prefix_logits(model, ids, torch.tensor([prefix]))[0]
        for place in range(1, 24):
            other = ids.clone()
            other[0, place] = (ids[0, place] + 1) % 256
            past = largest((past, float((model(other).logits[0] - plain)[:place].abs().max())))
            moved = (prefix_logits(model, other, torch.tensor([prefix]))[0] - seen).abs().amax(-1)
            if place < prefix:
                inside = smallest((inside, float(moved[:place].max())))
            else:
                outside = largest((outside, float(moved[:place].max())))
    yield Finding(
        "causality",
        "Decoder: largest change of a logit in front of a token that changes.",
        "exact",
        past,
        "<=",
        1e-5,
    )
    yield Finding(
        "causality",
        "Prefix model: least change in front of a token of the prefix that changes.",
        "exact",
        inside,
        ">",
        1e-5,
        detail="of every place in the prefix the largest change in front of it; the least of these",
    )
    yield Finding(
        "causality",
        "Prefix model: largest change in front of a token behind the prefix that changes.",
        "exact",
        outside,
        "<=",
        1e-5,
    )


@runs.study(claims=["layout-conversion"], title="attention matrices in 8 groups read as 4 and as 8", minutes=0.1)
def layouts(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """A random model in transformers' layout, stored in 8 groups, and read back with 8 and with 4."""
    model = small_model(291, layers=2, width=64, heads=8, context=64, seed=3).eval()
    ids = torch.randint(0, 256, (4, 48), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(ids).logits
        for block in model.transformer.h:
            weight = block.attn.qkv_proj.weight
            weight.copy_(regroup_qkv(weight.clone(), 4, 8))
        wrong = model(ids).logits
        for block in model.transformer.h:
            weight = block.attn.qkv_proj.weight
            weight.copy_(regroup_qkv(weight.clone(), 8, 4))
        right = model(ids).logits
    scale = float(expected.std())
    yield Finding(
        "layout-conversion",
        "8 groups read as 8: largest difference of a logit.",
        "exact",
        float((right - expected).abs().max()),
        "<=",
        1e-5,
    )
    yield Finding(
        "layout-conversion",
        "8 groups read as 4: largest difference of a logit, in units of the logits' spread.",
        "exact",
        float((wrong - expected).abs().max()) / scale,
        ">",
        0.1,
    )
