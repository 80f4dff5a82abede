"""The survey's contrasts on full MNIST and Fashion-MNIST and on all-MiniLM-L6-v2: three seeds, with intervals.

    python benchmarks/pruning_survey_contrasts.py --state folder/ [--data mnist fashion-mnist minilm] [--seeds 3]

Images: all 60,000 for training and all 10,000 for testing, at 28 x 28. Networks have six convolutions without norms,
18,042 parameters, and strides such that an epoch takes some three seconds of processor time. A dense network has one
epoch, recovery half of one, at batches of 256; what is pruned before training or begins anew has the dense network's.
MiniLM: see ``pruning_survey_minilm.py``.

Each row is printed when it is there and kept in ``--state``: a run that was stopped goes on. After every seed the page
(``--out``, docs/benchmarks/pruning-survey.md) is written anew, with what is there so far.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from torch import nn

from paperworks.metrics import mean_interval
from paperworks.papers.pruning_survey.bench import Bench, Protocol, Row
from paperworks.papers.pruning_survey.contrasts import contrast_of, run_contrast
from paperworks.pruning import ImageOptions, StridedCNN, image_task
from paperworks.runs import Run
from paperworks.runs.files import write_text

sys.path.insert(0, str(Path(__file__).parent))
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "pruning-survey.md"
IMAGES = ("mnist", "fashion-mnist")
SHARE, EIGHTH, HALF = 0.95, 0.875, 0.5
CONTRASTS = {
    "unstructured-vs-structured": EIGHTH,  # 1:8 keeps an eighth
    "one-shot-vs-iterative": SHARE,
    "data-free-vs-data-driven": SHARE,
    "initialised-vs-pretrained": SHARE,
    "scratch-vs-finetune": SHARE,
    "original-vs-transfer": SHARE,
    "static-vs-dynamic": HALF,
    "local-vs-global": SHARE,
}
LEFT_OUT = ("SNIP, 16 examples",)
"""Of these contrasts' variants, so that the whole is affordable."""
Value = dict[str, float | str]
"""What a variant came to: ``contrast``, ``variant``, ``ratio``, ``value``."""


def strided(seed: int) -> nn.Module:
    """The network of a seed, with new weights."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StridedCNN()


def image_values(data: str, seed: int, state: Path, limit: int | None = None) -> Iterator[Value]:
    """The rows of all contrasts on a set of images, for a seed."""
    work = Run(state / f"run-{data}")
    task = image_task(ImageOptions(data=data, limit=limit), work)
    bench = Bench(task, strided, Protocol(1, 0.5, 0.05, 256), state=work.state)
    for row in [Row("dense", seed, 0.0, "", 1, 1, 0, bench.dense_accuracy([seed])[0], 0, 1, 0)]:
        yield {"contrast": "dense", "variant": row.variant, "ratio": row.ratio, "value": row.accuracy}
    for name, ratio in CONTRASTS.items():
        contrast = contrast_of(name)
        variants = [] if contrast.variants is None else [v.name for v in contrast.variants(ratio)]
        rows = run_contrast(contrast, bench, [ratio], [seed], [v for v in variants if v not in LEFT_OUT])
        for row in rows:
            yield {"contrast": name, "value": row.accuracy} | {
                key: value for key, value in asdict(row).items() if key in ("variant", "ratio", "macs", "kept", "least")
            }


def values(data: str, seed: int, state: Path, limit: int | None = None) -> list[Value]:
    """Of a seed, from ``state`` where it is finished."""
    kept = state / f"{data}-{seed}.json"
    if not kept.is_file():
        if data in IMAGES:
            source = image_values(data, seed, state, limit)
        else:
            from pruning_survey_minilm import minilm_values

            source = minilm_values(seed, state)
        found, start = [], time.process_time()
        for value in source:
            print(f"{data} seed {seed}: {value['contrast']}: {value['variant']} {value['value']:.4f}", flush=True)
            found.append(value)
        print(f"{data} seed {seed}: {time.process_time() - start:.0f} s of processor time", flush=True)
        write_text(kept, json.dumps(found, indent=1))
    return list(json.loads(kept.read_text(encoding="utf-8")))


def pairs_of(data: str, contrast: str) -> tuple[tuple[str, str], ...]:
    """(left, right) of the contrast on these data."""
    if data in IMAGES:
        return tuple(p for p in contrast_of(contrast).pairs if not set(p) & set(LEFT_OUT))
    from pruning_survey_minilm import PAIRS

    return PAIRS[contrast]


def table(data: str, found: list[list[Value]]) -> str:
    """Markdown: a line for every pair of every contrast."""
    what = "cosine to the dense vectors" if data == "minilm" else "accuracy"
    lines = [f"| contrast, share removed | left | right | left less right, {what}, 95 % interval | |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for name, ratio in dict.fromkeys((str(v["contrast"]), float(v["ratio"])) for v in found[0]):
        if name == "dense":
            continue
        for left, right in pairs_of(data, name):
            by_seed = [
                {str(v["variant"]): float(v["value"]) for v in rows if v["contrast"] == name and v["ratio"] == ratio}
                for rows in found
            ]
            a, b = (np.array([one[side] for one in by_seed]) for side in (left, right))
            cells = [
                f"{name.replace('-', ' ')}, {100 * ratio:g} %",
                f"{left} {a.mean():.3f}",
                f"{right} {b.mean():.3f}",
            ]
            if len(a) > 1:
                interval = mean_interval(a - b)
                sure = interval.low > 0 or interval.high < 0
                better = f"better: {left if interval.low > 0 else right}" if sure else "no difference is shown"
                cells += [f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]", better]
            else:
                cells += [f"{float((a - b)[0]):+.3f}", "one seed: no interval"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


TITLES = {
    "mnist": "MNIST, 60,000 images to train on and 10,000 to test on",
    "fashion-mnist": "Fashion-MNIST, 60,000 and 10,000",
    "minilm": "all-MiniLM-L6-v2, sentences",
}


def page(state: Path, names: list[str], seeds: int, notes: str) -> str:
    """The whole page, of what is there."""
    command = "    python benchmarks/pruning_survey_contrasts.py --state folder/\n"
    parts = ["# The survey's contrasts\n", command, notes]
    for data in names:
        there = [f for f in (state / f"{data}-{seed}.json" for seed in range(seeds)) if f.is_file()]
        if not there:
            continue
        found = [json.loads(f.read_text(encoding="utf-8")) for f in there]
        dense = [v["value"] for rows in found for v in rows if v["contrast"] == "dense"]
        said = f"; dense {np.mean(dense):.3f}" if dense else ""
        count = f"{len(there)} seed{'s' if len(there) > 1 else ''}"
        parts += [f"\n## {TITLES[data]}\n", f"{count}{said}.\n", table(data, found)]
    return "\n".join(parts) + "\n"


NOTES = """How to read it:

- Both sides of a pair have the same network for a seed, and the same share leaves. The interval is Student's over
  seeds; where it includes 0, no difference is shown. The trainings are short: the figures say what is better at this
  budget, not what each method can reach.
- Images: six convolutions without norms at 28 x 28 (18,042 parameters), one epoch at batches of 256, half an epoch
  after pruning. What is pruned before training, or begins anew, has the one epoch; beside networks that were trained
  first, both. Units are channels. N:8 is 1:8 here: one weight of eight in a row stays.
- MiniLM: 36 linear layers, 128 calibration sentences and 100 held-out ones drawn with the seed; where something is
  trained it is 25 steps of 8 sentences towards the dense model's vectors. Units are heads and feed-forward units.
  Dynamic units are the ones with the largest activations of each sentence: no gates are trained.
- Gradual is five rounds with training between them, as many steps as after a cut at once. Static against dynamic is at
  half of the operations.
- Every method at equal operations: [one table](compare-methods-images.md), of 3,000 images of Fashion-MNIST so far.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--data", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="use so many images only, to try it")
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for data in options.data:
            values(data, seed, options.state, options.limit)
            write_text(options.out, page(options.state, options.data, options.seeds, NOTES))


if __name__ == "__main__":
    main()
