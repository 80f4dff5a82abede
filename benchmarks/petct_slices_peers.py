"""Scans and areas beside the packages that people use: highdicom, scikit-learn, PyTorch; and the network as ONNX.

    python benchmarks/petct_slices_peers.py

Prints, from one run: seconds to read a DICOM SEG beside highdicom, and whether the masks are the same; seconds of
DeLong's covariance beside the comparison of all pairs; seconds of a training step of our loop beside a bare loop over
the same network and slices; the difference of the ONNX file's probabilities. Needs highdicom, onnx and onnxruntime.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks.inputs.scans import PhantomSettings, phantom_cases, read_segmentation, write_phantom
from paperworks.metrics import delong_covariance
from paperworks.papers.petct_slices import SliceClassifier, SliceTable, export_onnx, make_network, slice_loss
from paperworks.papers.petct_slices.examples import inputs_of

ROUNDS = 3


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """The least time of some rounds, and the result."""
    times, found = [], None
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - began)
    return min(times), found


def segmentations(folder: Path) -> None:
    """A SEG object read by us and by highdicom."""
    import highdicom

    scan = next(iter(phantom_cases(1, 0, PhantomSettings(size=128, slices=60))))
    write_phantom(folder, [scan], ("seg",))
    file, images = folder / "case-001/mask.dcm", folder / "case-001/PT"

    def theirs() -> np.ndarray:
        segmentation = highdicom.seg.segread(file)
        volume = segmentation.get_volume(combine_segments=True, skip_overlap_checks=True)
        return np.asarray(volume.array)

    ours, mask = seconds(lambda: read_segmentation(file, [scan.pet.geometry]))
    their, array = seconds(theirs)
    same = int(mask.array.sum()) == int((array > 0).sum())
    print(f"SEG, {len(list(images.iterdir()))} slices of 128 pixels: {ours:.3f} s, highdicom {their:.3f} s", end="; ")
    print(f"equally many voxels: {same}")


def areas() -> None:
    """DeLong's covariance from ranks, and from all pairs."""
    rng = np.random.default_rng(0)
    y = (rng.random(6000) < 0.18).astype(int)
    scores = np.stack([y + rng.normal(size=6000), y + rng.normal(size=6000)])

    def pairs() -> np.ndarray:
        parts = [s[y == 1][:, None] - s[y == 0][None] for s in scores]
        wins = [(p > 0) + (p == 0) / 2 for p in parts]
        above, below = (np.cov([w.mean(axis) for w in wins]) for axis in (1, 0))
        return above / (y == 1).sum() + below / (y == 0).sum()

    fast, (_, covariance) = seconds(lambda: delong_covariance(y, scores))
    slow, expected = seconds(pairs)
    far = np.abs(covariance - expected).max()
    print(f"DeLong, 6,000 slices: {fast:.4f} s, all pairs {slow:.4f} s; difference {far:.1e}")


def training() -> None:
    """Steps of our loop and of a bare one, with the same network, slices and loss."""
    scans = phantom_cases(6, 0, PhantomSettings(size=64, slices=60))
    from paperworks.inputs.scans import Case

    table = SliceTable.from_cases(
        [Case(s.pet, s.ct, s.mask, s.patient_id, s.case_id, s.center) for s in scans], size=64
    )
    options: dict[str, Any] = {
        "image_size": 64,
        "network": "small",
        "pet_window": (0, 15),
        "batch_size": 32,
        "epochs": 3,
    }
    classifier = SliceClassifier(device="cpu", **options)
    rows = np.arange(len(table))
    ours, _ = seconds(lambda: classifier.fit(table, rows, validation_rows=rows[:32]))
    steps = 3 * -(-len(table) // 32)
    network = make_network(("pet",) * 3, architecture="small").train()
    inputs, labels = inputs_of(table, rows, classifier.options.inputs()), torch.from_numpy(table.labels)
    loss = slice_loss()

    def bare() -> None:
        optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
        for step in range(steps):
            chosen = torch.arange(step * 32, step * 32 + 32) % len(rows)
            total, count = loss(network, {"inputs": inputs[chosen], "labels": labels[chosen]})
            (total / count).backward()
            optimizer.step()
            optimizer.zero_grad()

    plain, _ = seconds(bare)
    print(f"training, {steps} steps of 32 slices: {ours:.2f} s with validation, a bare loop {plain:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        print(f"ONNX: probabilities differ by {export_onnx(classifier, Path(folder) / 'network.onnx'):.1e} at most")


def main() -> None:
    """All comparisons."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        segmentations(Path(folder))
    areas()
    training()


if __name__ == "__main__":
    main()
