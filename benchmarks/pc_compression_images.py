"""MNIST and Fashion-MNIST at the paper's size: training, rates, and time of coding the 10,000 test images.

    python benchmarks/pc_compression_images.py train mnist --latents 32 --out models
    python benchmarks/pc_compression_images.py measure models/mnist-32

``train`` prints bits per pixel as it goes, and goes on from its last epoch when it was stopped. The default schedule
is shorter than the authors' (220 epochs: ``--epochs 100 100 20``). ``--quick`` is the small default: 16 states, 15
epochs. Processor time is counted, so that other load does not matter. ``measure`` prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from paperworks import inputs
from paperworks.inputs import images
from paperworks.papers.pc_compression import HCLT, PCCodec, Phase, read_header
from paperworks.papers.pc_compression.inputs import ArrayLayout

PAPER = {"mnist": 1.20, "fashion-mnist": 3.34}


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Training rows, shuffled, and test rows."""
    folder = inputs.path(name)
    found = images.mnist(folder) if name == "mnist" else images.fashion_mnist(folder)
    order = np.random.default_rng(0).permutation(len(found.train))
    return found.train.reshape(len(found.train), -1)[order], found.test.reshape(len(found.test), -1)


def train(name: str, latents: int, epochs: list[int], out: Path, jobs: int) -> None:
    target = out / f"{name}-{latents}"
    if target.exists():
        raise SystemExit(f"{target} exists")
    out.mkdir(parents=True, exist_ok=True)
    rows, test = load(name)
    first, second, full = epochs
    phases = [Phase(first, 0.2, 0.9), Phase(second, 0.9, 0.95), Phase(full, full=True)]
    model = HCLT(latents, 256, schedule=[p for p in phases if p.epochs], n_jobs=jobs, random_state=1)
    clock = out / f"{name}-{latents}.seconds"
    checkpoint = out / f"{name}-{latents}.npz"
    before = float(clock.read_text()) if clock.exists() and checkpoint.exists() else 0.0
    start = time.process_time()

    def shown(items: Iterable, description: str, total: int | None = None) -> Iterator:
        for item in items:
            yield item
            epoch = len(model.history_)
            clock.write_text(str(before + time.process_time() - start))
            line = f"epoch {epoch + 1}"
            if model.history_:
                line = f"epoch {epoch}: training rows as met {model.history_[-1]:.4f}"
            if epoch % 5 == 0:
                tested = model._passes.log_likelihood(model.parameters_, test).mean() / -784 / np.log(2)
                line += f", test {tested:.4f}"
            print(f"{name} {latents}: {line}, processor {before + time.process_time() - start:.0f} s", flush=True)

    model.fit(rows, progress=shown, checkpoint=checkpoint)
    seconds = before + time.process_time() - start
    layout = ArrayLayout((28, 28), 0, 256, 0)
    model.save(target, layout.to_dict() | {"training_processor_seconds": seconds, "data": name})
    measure(target, jobs)


def measure(folder: Path, jobs: int) -> None:
    """Rates on the test set, and times of coding it (the second time of two, since the first compiles)."""
    model = HCLT.load(folder)
    name = model.about_["data"]
    test = load(name)[1]
    codec = PCCodec(model, n_jobs=jobs)
    codec.decompress(codec.compress(test[:16]))
    times = [(time.perf_counter(), time.process_time())]
    data = codec.compress(test)
    times.append((time.perf_counter(), time.process_time()))
    back = codec.decompress(data)
    times.append((time.perf_counter(), time.process_time()))
    assert (back == test).all()
    each = PCCodec(model, rows_per_stream=1, n_jobs=jobs)
    separate = read_header(each.compress(test)).code_bits
    (w0, p0), (w1, p1), (w2, p2) = times
    print(
        json.dumps(
            {
                "data": name,
                "latents": model.n_latents,
                "weights": model.parameters_.size,
                "epochs": model.n_iter_,
                "training core-minutes": round(model.about_["training_processor_seconds"] / 60, 1),
                "theoretical bpd": round(model.bpd(test), 4),
                "paper": PAPER[name],
                "file bpd": round(len(data) * 8 / test.size, 4),
                "codeword per image bpd": round(separate / test.size, 4),
                "compress s": round(w1 - w0, 2),
                "decompress s": round(w2 - w1, 2),
                "compress core-s": round(p1 - p0, 2),
                "decompress core-s": round(p2 - p1, 2),
                "threads": jobs,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("data", choices=list(PAPER))
    training.add_argument("--latents", type=int, default=32)
    training.add_argument("--epochs", type=int, nargs=3, default=[20, 8, 0], metavar=("FIRST", "SECOND", "FULL"))
    training.add_argument("--quick", action="store_true")
    training.add_argument("--out", type=Path, default=Path("pc-compression-models"))
    training.add_argument("--jobs", type=int, default=1)
    measuring = commands.add_parser("measure")
    measuring.add_argument("model", type=Path)
    measuring.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.command == "measure":
        measure(options.model, options.jobs)
        return
    latents, epochs = (16, [12, 3, 0]) if options.quick else (options.latents, options.epochs)
    train(options.data, latents, epochs, options.out, options.jobs)


if __name__ == "__main__":
    main()
