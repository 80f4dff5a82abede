"""The networks that papers train by default, beside plain ones of the same size, in one run.

    python benchmarks/default_networks.py --out FOLDER                  # all entries
    python benchmarks/default_networks.py --out FOLDER --only deepfm    # one of them; the page has all that are there
    python benchmarks/default_networks.py --out FOLDER --fast           # a few steps each, to see that it works

Both networks of an entry get the same data, order, steps and optimiser, in turns, and one thread. A difference is that
of the two by seed, signed so that more is better for ours, with Student's t interval. Every training is kept in FOLDER:
stopped, the command goes on when it is started again. Writes docs/benchmarks/default-networks.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from default_networks_entries import ENTRIES, Entry

from paperworks.metrics import mean_interval
from paperworks.runs.files import write_text

OUTPUT = Path(__file__).parent.parent / "docs" / "benchmarks" / "default-networks.md"
WAYS = ("ours", "plain")
SAME_SIZE = 0.02
WHY = """\
Where the two differ in their first weights alone:

- tas draws convolutions from Kaiming's normal distribution by fan out, as the ResNets of transformers and torchvision
  do. Between layers of one width that is the root of 6, 2.45 times as wide as torch's own. A BatchNorm follows, which
  makes the scale of weights a divisor of their gradient: a step of SGD turns them 6 times less. With the rate and the
  steps of its line the two are level. SmallCNN was drawn so, too, and began more slowly: 0.849 where torch's weights
  reached 0.948, and 0.246 beside 0.652 without shortcuts. It takes torch's now, and its lines are equal.
- PlainCNN draws from Kaiming's normal distribution by fan in. It has no norms: with torch's own first weights the
  variance of a signal falls to a sixth in every layer with ReLU, and the network does not begin to learn.
- DeepFM: Xavier's embeddings have a deviation of 0.013 here, those of nn.Embedding 1."""
NOT_COMPARED = """\
Not compared, because the network is not of our making or its first weights are what the paper is about:

- Models of transformers with its own initial values: petct-slices (ResNet), quilt1m (ViT), gkc (Mask2Former), spar
  (Llama).
- permutations-ntk: the parametrisation is the subject, and its kernel at initialisation is checked against theory.
- sret: its study `slices` trains transformers' ViT of the same size on the same digits with the same optimiser, with 5
  seeds.
- music-word2vec: beside gensim on [its own page](music-word2vec.md).
- meta-pruning's network of graphs and atp's generator of masks: torch's layers as torch draws them; there is no plain
  counterpart for what they learn.
- sieve-swap's detector: its trainings need the recipes that `paperworks data get wikibooks-recipes` brings.
- icl-discrete's RetNet, Hyena and DSS, which no library here has. Its LSTM is torch's, its GPT-2 and Mamba are those of
  transformers."""


def trained(folder: Path, name: str, entry: Entry, seed: int, which: str, fast: bool) -> dict[str, float]:
    """A training's result, read back where it is kept."""
    kept = folder / f"{name}-{which}-{seed}{'-fast' if fast else ''}.json"
    if not kept.is_file():
        started = time.process_time()
        result = entry.measure(which, seed, fast)  # type: ignore[arg-type]
        seconds = time.process_time() - started
        write_text(kept, json.dumps({"parameters": result.parameters, "value": result.value, "seconds": seconds}))
        print(f"{name}, {which}, seed {seed}: {result.value:.4f}, {seconds:.1f} s", file=sys.stderr, flush=True)
    found: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def row(entry: Entry, found: dict[str, list[dict[str, float]]]) -> list[str]:
    """A line of the table."""
    sizes = [int(found[which][0]["parameters"]) for which in WAYS]
    values = {which: np.array([one["value"] for one in found[which]]) for which in WAYS}
    gain = values["ours"] - values["plain"] if entry.higher else values["plain"] - values["ours"]
    interval = mean_interval(gain)
    verdict = "ours better" if interval.low > 0 else "**ours worse**" if interval.high < 0 else "level"
    if abs(sizes[0] / sizes[1] - 1) > SAME_SIZE:
        verdict += f" (sizes differ by {abs(sizes[0] / sizes[1] - 1):.1%})"
    return [
        entry.network,
        entry.plain,
        entry.papers,
        " / ".join(f"{size:,}" for size in sizes),
        f"{entry.quantity} ({'more' if entry.higher else 'less'} is better)",
        " / ".join(f"{values[which].mean():.4f}" for which in WAYS),
        f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] ({interval.n} seeds)",
        verdict,
    ]


def document(rows: list[list[str]], missing: list[str]) -> str:
    """The page, with the names of networks whose trainings are not there."""
    heads = ["network", "plain one", "papers", "parameters", "quantity", "ours / plain", "difference", "verdict"]
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers", "numpy"))
    return "\n".join(
        [
            "# Default networks beside plain ones",
            "",
            "Written by `python benchmarks/default_networks.py --out FOLDER`; do not edit.",
            "",
            "Both networks of a line get the same data, order, steps and optimiser, in turns, with one thread.",
            "A difference is the mean over seeds of that of the two, more being better for ours, with Student's 95 %",
            "interval. The trainings are short: a line says how fast a network begins to learn, and nothing of where a",
            "long training ends.",
            "",
            *lines,
            "",
            *([f"Not measured yet: {'; '.join(missing)}.", ""] if missing else []),
            WHY,
            "",
            NOT_COMPARED,
            "",
            f"{platform.machine()}, Python {platform.python_version()}, {versions}.",
            "",
        ]
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(ENTRIES), choices=list(ENTRIES))
    parser.add_argument("--out", type=Path, required=True, help="folder for the results of trainings")
    parser.add_argument("--page", type=Path, default=OUTPUT, help="the page to write")
    parser.add_argument("--fast", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    rows, missing = [], []
    for name, entry in ENTRIES.items():
        seeds = range(2 if given.fast else entry.seeds)
        kept = [given.out / f"{name}-{w}-{s}{'-fast' if given.fast else ''}.json" for w in WAYS for s in seeds]
        if name not in given.only and not all(path.is_file() for path in kept):
            missing.append(entry.network)
            continue
        found: dict[str, list[dict[str, float]]] = {which: [] for which in WAYS}
        for seed in seeds:
            for which in WAYS:
                found[which].append(trained(given.out, name, entry, seed, which, given.fast))
        rows.append(row(entry, found))
        print("  ".join(rows[-1]), flush=True)
    if not given.fast:
        write_text(given.page, document(rows, missing))


if __name__ == "__main__":
    main()
