"""Small networks on real digits: slices, a teacher, another transformer, another resolution, and many passes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.classification import fit, predict
from paperworks.inputs.images import ImageDataset, read_images
from paperworks.metrics import mean_interval
from paperworks.nn import build_network
from paperworks.papers.sret.classifier import SReTClassifier
from paperworks.papers.sret.configuration import SReTConfig
from paperworks.papers.sret.costs import profile
from paperworks.runs import Finding, Run
from paperworks.runs.files import write_text
from paperworks.training import TrainSettings

TRAIN, TEST = 300, 1_000


def parts(seed: int, train: int = TRAIN) -> tuple[ImageDataset, ImageDataset, ImageDataset]:
    """Digits to train on, 1,000 to test on, and the others."""
    images = read_images("digits")
    order = np.random.default_rng([seed, 21]).permutation(len(images))
    return images.subset(order[:train]), images.subset(order[-TEST:]), images.subset(order[train:-TEST])


def by_seed(run: Run, name: str, seeds: int, measure: Callable[[int], dict[str, float]]) -> dict[str, np.ndarray]:
    """A figure of every name by seed; seeds that an earlier attempt measured are read back."""
    found = []
    for seed in run.progress(range(seeds), f"{name}, one seed after the other"):
        kept = run.state / f"{name}-{seed}.json"
        if not kept.is_file():
            write_text(kept, json.dumps(measure(seed)))
        found.append(json.loads(kept.read_text(encoding="utf-8")))
    return {key: np.array([one[key] for one in found]) for key in found[0]}


@runs.study(
    claims=["slicing-accuracy", "against-other-transformers"],
    title="300 digits: with slices, without, and a ViT of the same size",
    minutes=8,
)
def slices(run: Run, fast: bool) -> Iterator[Finding]:
    """Widths 32 and 64, one and two blocks applied twice, 60 epochs of AdamW; 1,000 test digits."""
    epochs = 2 if fast else 60

    def measure(seed: int) -> dict[str, float]:
        train, test, _ = parts(seed)
        found: dict[str, float] = {}
        for name, sliced in (("sliced", True), ("unsliced", False)):
            made = SReTClassifier("micro", sliced=sliced, epochs=epochs, device="cpu", random_state=seed).fit(train)
            found[name] = made.score(test)
        found["parameters"] = profile(made.model_).parameters
        vit = build_network(
            "vit",
            image_size=8,
            seed=seed,
            patch_size=2,
            hidden_size=60,
            intermediate_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
        )
        found["vit_parameters"] = sum(p.numel() for p in vit.parameters())
        settings = TrainSettings(
            epochs=epochs,
            batch_size=64,
            learning_rate=2e-3,
            betas=(0.9, 0.999),
            weight_decay=0.05,
            schedule="cosine",
            device="cpu",
            seed=seed,
        )
        settings = replace(settings, warmup_steps=settings.total_steps(len(train)) // 10)
        rows = [{"pixel_values": (one.array() - made.mean_[0]) / made.deviation_[0]} for one in (train, test)]
        fit(vit, rows[0], train.require_labels(), settings=settings)
        found["vit"] = float((predict(vit, rows[1], device="cpu") == test.require_labels()).mean())
        return found

    found = by_seed(run, "slices", 2 if fast else 5, measure)
    sliced, unsliced, vit = found["sliced"], found["unsliced"], found["vit"]
    words = ", ".join(f"{name} {found[name].mean():.4f}" for name in ("sliced", "unsliced", "vit"))
    yield Finding(
        "slicing-accuracy",
        "accuracy of the sliced network on 1,000 test digits, trained on 300",
        "empirical",
        mean_interval(sliced),
        ">=",
        0.95,
        detail=words,
    )
    yield Finding(
        "slicing-accuracy",
        "accuracy without slices, less that with slices, is at most 2 points",
        "empirical",
        mean_interval(unsliced - sliced),
        "<=",
        0.02,
        baseline=float(unsliced.mean()),
        baseline_name="without slices",
        detail=words,
    )
    yield Finding(
        "against-other-transformers",
        "accuracy is higher than that of a ViT of transformers with as many parameters",
        "empirical",
        mean_interval(sliced - vit),
        ">",
        0.0,
        baseline=float(vit.mean()),
        baseline_name="ViT",
        detail=f"{words}; {found['parameters'][0]:,.0f} and {found['vit_parameters'][0]:,.0f} parameters",
    )


@runs.study(claims=["distillation"], title="100 labelled digits, and a teacher for 600 more", minutes=3)
def teacher(run: Run, fast: bool) -> Iterator[Finding]:
    """The teacher is a support vector machine on all 797 digits that are not tested on."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    def measure(seed: int) -> dict[str, float]:
        labelled, test, others = parts(seed, 100)
        pixels = np.concatenate([one.array().reshape(len(one), -1) for one in (labelled, others)])
        names = np.array(labelled.class_names)
        labels = names[np.concatenate([one.require_labels() for one in (labelled, others)])]
        knows = CalibratedClassifierCV(SVC(C=10), ensemble=False).fit(pixels, labels)
        # as many steps for both
        steps = 10 if fast else 180
        options: dict[str, Any] = {"device": "cpu", "random_state": seed}
        alone = SReTClassifier("micro", epochs=steps / 2, **options).fit(labelled)
        taught = SReTClassifier("micro", epochs=steps / 13, teacher=knows, **options)
        taught.fit(labelled, unlabelled=others)
        tested = knows.score(test.array().reshape(len(test), -1), names[test.require_labels()])
        return {
            "alone": alone.score(test),
            "taught": taught.score(test),
            "teacher": float(tested),
            "steps": float(len(taught.losses_)),
        }

    found = by_seed(run, "teacher", 2 if fast else 3, measure)
    yield Finding(
        "distillation",
        "taught on 100 labelled and 697 unlabelled digits, less trained on the 100 labels alone: at least 2 points",
        "empirical",
        mean_interval(found["taught"] - found["alone"]),
        ">=",
        0.02,
        baseline=float(found["alone"].mean()),
        baseline_name="without a teacher",
        detail=f"taught {found['taught'].mean():.4f}, alone {found['alone'].mean():.4f}, the teacher itself "
        f"{found['teacher'].mean():.4f}; {found['steps'][0]:.0f} steps",
    )


@runs.study(claims=["higher-resolution"], title="MNIST at 16 pixels, then tuned at 32", minutes=3)
def resolution(run: Run, fast: bool) -> Iterator[Finding]:
    """2,000 images, of which the network sees a quarter of the pixels at first; tuned as long at 16 for comparison."""
    images = read_images("mnist", verify=False)
    train_rows, test_rows = (np.flatnonzero(images.splits == name) for name in ("train", "test"))  # type: ignore[call-overload]
    config = SReTConfig(
        image_size=16,
        num_channels=1,
        base_dims=(16, 16),
        heads=(2, 4),
        depth=(2, 4),
        recursive_num=(1, 2),
        groups1=(4, 2),
        groups2=(2, 2),
        mlp_ratio=2.0,
        stem_strides=(2, 1),
        drop_path_rate=0.0,
        num_labels=10,
    )

    def measure(seed: int) -> dict[str, float]:
        rng = np.random.default_rng([seed, 31])
        train = images.subset(rng.permutation(train_rows)[: 200 if fast else 2_000])
        test = images.subset(rng.permutation(test_rows)[: 100 if fast else 1_000])
        epochs, more = (1, 1) if fast else (4, 1)
        made = SReTClassifier(config, epochs=epochs, device="cpu", random_state=seed).fit(train)
        tune = {"epochs": more, "learning_rate": made.learning_rate / 4}
        return {
            "first": made.score(test),
            "same": made.finetune_at(16, train, **tune).score(test),
            "higher": made.finetune_at(32, train, **tune).score(test),
        }

    found = by_seed(run, "resolution", 2 if fast else 3, measure)
    yield Finding(
        "higher-resolution",
        "accuracy after an epoch at 32 pixels is higher than after an epoch more at 16",
        "empirical",
        mean_interval(found["higher"] - found["same"]),
        ">",
        0.0,
        baseline=float(found["same"].mean()),
        baseline_name="tuned at 16 pixels",
        detail=", ".join(f"{name} {values.mean():.4f}" for name, values in found.items()),
    )


@runs.study(claims=["very-deep"], title="A network of 108 passes on digits", minutes=3)
def deep(run: Run, fast: bool) -> Iterator[Finding]:
    """One block of width 16 applied 108 times on 16 tokens, with projections; 797 digits, six epochs of 32."""
    loops = 4 if fast else 108
    deep, once = (
        SReTConfig(
            image_size=8,
            num_channels=1,
            base_dims=(8,),
            heads=(2,),
            depth=(passes,),
            recursive_num=(1,),
            groups1=(4,),
            groups2=(2,),
            mlp_ratio=2.0,
            stem_strides=(2, 1),
            drop_path_rate=0.0,
            num_labels=10,
        )
        for passes in (loops, 1)
    )

    def measure(seed: int) -> dict[str, float]:
        train, test, _ = parts(seed, 797)
        options: dict[str, Any] = {
            "epochs": 0.1 if fast else 6,
            "batch_size": 32,
            "device": "cpu",
            "random_state": seed,
        }
        return {
            name: SReTClassifier(config, **options).fit(train).score(test)
            for name, config in (("deep", deep), ("once", once))
        }

    found = by_seed(run, "deep", 2 if fast else 3, measure)
    cost = profile(deep)
    yield Finding(
        "very-deep",
        f"accuracy of {loops} passes of one block, less that of one pass: not more than 2 points below",
        "empirical",
        mean_interval(found["deep"] - found["once"]),
        ">=",
        -0.02,
        baseline=float(found["once"].mean()),
        baseline_name="one pass",
        detail=f"{loops} passes {found['deep'].mean():.4f}, one pass {found['once'].mean():.4f}; "
        f"{cost.parameters:,} parameters, {cost.parameters_unshared:,} without sharing",
    )
