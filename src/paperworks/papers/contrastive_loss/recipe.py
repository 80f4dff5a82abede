"""Diagnose saved embeddings or an encoder, or sweep the temperature on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError

if TYPE_CHECKING:
    from paperworks.papers.contrastive_loss.diagnosis import Diagnosis
    from paperworks.papers.contrastive_loss.sweep import SweepRow
    from paperworks.papers.contrastive_loss.trainer import ContrastiveTrainer

LossName = Literal["contrastive", "simple", "hard", "hard-simple"]


class Config(runs.Config):
    """What to look at, and how."""

    error_names: ClassVar = {"x": "embeddings"}

    embeddings: Path | None = Field(None, description="saved embeddings to diagnose: .npy, .npz, .parquet or .csv")
    labels: Path | None = Field(None, description="their labels, row by row: .npy, .txt or .csv; a column does as well")
    encoder: Path | None = Field(
        None, description="folder of a sentence-transformers or Hugging Face text encoder to diagnose"
    )
    texts: Path | None = Field(
        None, description="texts for the encoder: .txt (a line each), .csv, .jsonl or .parquet; else glosses of WordNet"
    )
    text_column: str = Field("text", description="name of the column of texts")
    label_column: str = Field("label", description="name of the column of labels, where there is one")
    max_texts: int = Field(3000, ge=10, le=1_000_000, description="encode at most this many texts")
    temperature: float | None = Field(
        None, gt=0, le=100, description="temperature that the embeddings were trained with"
    )
    data: Annotated[str, runs.File(("digits", "patches"))] = Field(
        "digits", description="labelled images to sweep on: digits, patches, or a .npz file with images and labels"
    )
    taus: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        (0.1, 0.3, 1.0), min_length=1, max_length=20, description="temperatures to train with"
    )
    losses: tuple[LossName, ...] = Field(
        ("contrastive", "hard", "simple", "hard-simple"), min_length=1, max_length=4, description="losses to train with"
    )
    hard_k: int = Field(32, ge=1, le=100_000, description="nearest negatives that the hard losses keep")
    epochs: int = Field(25, ge=1, le=10_000, description="passes over the training images")
    batch_size: int = Field(256, ge=2, le=65_536, description="images in a step; the others of a step are negatives")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="step size of Adam")
    seeds: int = Field(1, ge=1, le=100, description="trainings of each loss and temperature")
    dimensions: int = Field(128, ge=2, le=4096, description="columns of the projection that the loss sees")

    @model_validator(mode="after")
    def _one_subject(self) -> Config:
        if self.embeddings is not None and self.encoder is not None:
            raise InputError("encoder", "embeddings too", "embeddings or encoder, not both")
        if self.texts is not None and self.encoder is None:
            raise InputError("texts", "no encoder", "encoder, the folder that turns them into embeddings")
        if self.labels is not None and self.embeddings is None:
            raise InputError("labels", "no embeddings", "embeddings, whose rows they label")
        if len(set(self.taus)) != len(self.taus):
            raise InputError("taus", self.taus, "different numbers")
        return self


def run(config: Config, run: runs.Run) -> runs.Report:
    """Say whether the temperature of embeddings is too small or too large; or train with several and compare."""
    if config.embeddings is not None:
        return _diagnose_file(config, run)
    if config.encoder is not None:
        return _diagnose_encoder(config, run)
    return _sweep(config, run)


def _diagnose_file(config: Config, run: runs.Run) -> runs.Report:
    from paperworks.papers.contrastive_loss.diagnosis import diagnose
    from paperworks.papers.contrastive_loss.inputs import read_embeddings, read_labels

    assert config.embeddings is not None
    run.step("reading the embeddings")
    embeddings, labels = read_embeddings(config.embeddings, config.label_column)
    if config.labels is not None:
        labels = read_labels(config.labels, len(embeddings), config.label_column)
    run.step("measuring")
    return _report(run, diagnose(embeddings, labels, temperature=config.temperature, seed=config.seed % 2**32))


def _diagnose_encoder(config: Config, run: runs.Run) -> runs.Report:
    import numpy as np

    from paperworks.embedding import TextEncoder, encode_to_file
    from paperworks.papers.contrastive_loss.diagnosis import diagnose
    from paperworks.papers.contrastive_loss.inputs import bundled_texts, read_labelled_texts

    assert config.encoder is not None
    encoder = TextEncoder(config.encoder, device=config.device)
    labels: np.ndarray | None
    if config.texts is None:
        texts, labels, name = bundled_texts(config.max_texts)
    else:
        texts, found = read_labelled_texts(config.texts, config.text_column, config.label_column)
        kept = np.sort(run.rng("texts").choice(len(texts), min(config.max_texts, len(texts)), replace=False))
        texts, labels, name = [texts[i] for i in kept], found, config.texts.name
        labels = None if found is None else found[kept]
    target = run.files / "embeddings.npy"
    vectors = encode_to_file(encoder, texts, target, shard_items=256, progress=run.progress)
    run.step("measuring")
    report = _report(run, diagnose(vectors, labels, temperature=config.temperature, seed=config.seed % 2**32))
    report.files.append(runs.ReportFile("embeddings.npy", f"embeddings of {len(texts):,} texts ({name})"))
    return report


def _report(run: runs.Run, found: Diagnosis) -> runs.Report:
    from paperworks.papers.contrastive_loss.reporting import diagnosis_figure, diagnosis_tables

    found.temperatures.to_csv(run.files / "push-by-temperature.csv", index=False)
    metrics = {"uniformity": found.uniformity.value, "uniformity_share": found.share}
    if found.tolerance is not None and found.between is not None:
        metrics |= {"tolerance": found.tolerance, "uniformity_between_classes": found.between.value}
    return runs.Report(
        found.sentence.removesuffix("."),
        metrics,
        diagnosis_tables(found),
        [diagnosis_figure(found)],
        [runs.ReportFile("push-by-temperature.csv", "effective negatives and shares of the push by temperature")],
        list(found.notes),
    )


def _sweep(config: Config, run: runs.Run) -> runs.Report:
    import numpy as np

    from paperworks.papers.contrastive_loss.diagnosis import diagnose
    from paperworks.papers.contrastive_loss.examples import ConvEncoder, load_examples
    from paperworks.papers.contrastive_loss.reporting import (
        diagnosis_tables,
        settings_of,
        sweep_figure,
        sweep_table,
    )
    from paperworks.papers.contrastive_loss.sweep import TemperatureSweep
    from paperworks.training import TrainSettings

    run.step("reading the images")
    seed = config.seed % 2**32
    data = load_examples(config.data, seed)
    channels = data.train.shape[1]
    settings = TrainSettings(
        epochs=config.epochs,
        batch_size=min(config.batch_size, len(data.train)),
        learning_rate=config.learning_rate,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        clip_norm=0.0,
        schedule="constant",
        device=config.device,
    )
    sweep = TemperatureSweep(
        lambda s: ConvEncoder(channels, s),
        data,
        config.taus,
        config.losses,
        settings=settings,
        hard_k=config.hard_k,
        seeds=[seed + i for i in range(config.seeds)],
        dimensions=config.dimensions,
    )

    def keep(row: SweepRow, trainer: ContrastiveTrainer) -> None:
        place = run.state / f"encoder-{row.loss}-{row.temperature}-{row.seed}"
        if not place.exists():
            trainer.save_pretrained(place)
        vectors = trainer.encode(data.test, projected=True)
        with (run.state / f"{place.name}.npz").open("wb") as out:
            np.savez(out, embeddings=vectors, labels=data.test_labels)

    result = sweep.run(run.state, progress=run.progress, on_trained=keep)
    best = max(settings_of(result), key=lambda s: result.mean(s[0], s[1], "probe_accuracy"))
    name = f"encoder-{best[0]}-{best[1]}-{seed}"
    _copy(run, name)
    result.frame().to_csv(run.files / "sweep.csv", index=False)
    with np.load(run.files / "embeddings.npz") as arrays:
        found = diagnose(arrays["embeddings"], arrays["labels"], temperature=best[1], seed=seed)
    accuracy = result.mean(best[0], best[1], "probe_accuracy")
    of = best[0] if best[1] is None else f"{best[0]} at temperature {best[1]:g}"
    tables = [sweep_table(result), *diagnosis_tables(found)]
    return runs.Report(
        f"The best linear probe ({accuracy:.1%} of {len(data.test)} test images) is after the loss {of}",
        {
            "best_probe_accuracy": accuracy,
            **{
                f"{measure}[{loss}{'' if tau is None else f'@{tau:g}'}]": result.mean(loss, tau, measure)
                for loss, tau in settings_of(result)
                for measure in ("uniformity", "tolerance")
            },
        },
        tables,
        [sweep_figure(result)],
        [
            runs.ReportFile("sweep.csv", "figures of every training"),
            runs.ReportFile("encoder", "the encoder of the best loss: config.json and model.safetensors"),
            runs.ReportFile("embeddings.npz", "its embeddings of the test images, with labels"),
        ],
        [f"The best encoder's embeddings: {found.sentence}", *found.notes],
    )


def _copy(run: runs.Run, name: str) -> None:
    import shutil

    shutil.copytree(run.state / name, run.files / "encoder", dirs_exist_ok=True)
    shutil.copy(run.state / f"{name}.npz", run.files / "embeddings.npz")
