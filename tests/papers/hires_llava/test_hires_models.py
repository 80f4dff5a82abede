"""The classifier and the vision-language model: training, saving, what is frozen, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from paperworks.errors import InputError
from paperworks.nn import TinyViT
from paperworks.papers.hires_llava import llava
from paperworks.papers.hires_llava.characters import character_model
from paperworks.papers.hires_llava.classifier import HiResClassifier
from paperworks.papers.hires_llava.conversations import read_conversations, token_parts
from paperworks.papers.hires_llava.entitygrid.generation import EntityGrid, llava_records
from paperworks.papers.hires_llava.features import TokenRows
from paperworks.papers.hires_llava.llava import HiResLlava
from paperworks.training import TrainSettings


def tower(layers: int = 1) -> TinyViT:
    torch.manual_seed(0)
    return TinyViT(image_size=16, patch_size=4, channels=1, width=16, layers=layers, heads=2).eval()


def patterns(count: int = 24) -> tuple[list[np.ndarray], list[str]]:
    """Bright or dark images of different sizes."""
    rng = np.random.default_rng(0)
    labels = ["bright" if i % 2 else "dark" for i in range(count)]
    images = [
        np.clip(rng.normal(200 if label == "bright" else 40, 20, (16 + i % 3 * 8, 32, 3)), 0, 255).astype(np.uint8)
        for i, label in enumerate(labels)
    ]
    return images, labels


def test_the_classifier_learns_saves_and_leaves_the_tower_alone(tmp_path: Path) -> None:
    images, labels = patterns()
    model = tower()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    classifier = HiResClassifier(model, steps=30, batch_size=8, learning_rate=1e-2).fit(images[:16], labels[:16])
    assert classifier.score(images[16:], labels[16:]) == 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    probabilities = classifier.predict_proba(images[16:])
    assert np.allclose(probabilities.sum(1), 1)
    classifier.save(tmp_path / "classifier")
    again = HiResClassifier.load(tmp_path / "classifier")
    assert np.array_equal(again.predict_proba(images[16:]), probabilities)
    assert list(again.classes_) == ["bright", "dark"]
    same = HiResClassifier(model, steps=30, batch_size=8, learning_rate=1e-2).fit(images[:16], labels[:16])
    assert np.array_equal(same.losses_, classifier.losses_)
    with pytest.raises(InputError, match="folder"):
        HiResClassifier.load(tmp_path)


def test_the_classifier_reads_a_folder(tmp_path: Path) -> None:
    for i, (image, label) in enumerate(zip(*patterns(6), strict=True)):
        (tmp_path / label).mkdir(exist_ok=True)
        Image.fromarray(image).convert("L" if i else "RGBA").save(tmp_path / label / f"{i}.png")
    classifier = HiResClassifier(tower(), steps=2).fit(tmp_path)
    assert set(classifier.predict(tmp_path)) <= {"bright", "dark"}
    assert len(classifier.predict(tmp_path)) == 6


@pytest.mark.parametrize(
    ("options", "y", "match"),
    [
        ({"vision": None}, None, "vision"),
        ({"steps": 0}, None, "steps"),
        ({"random_state": -1}, None, "random_state"),
        ({"window": 3}, None, "window"),
        ({}, ["a"] * 4, "y: found one class"),
        ({}, ["a", "b"], "y: found 2 labels"),
    ],
)
def test_bad_options_of_the_classifier(options: dict, y: list | None, match: str) -> None:
    images, labels = patterns(4)
    with pytest.raises(InputError, match=match):
        HiResClassifier(**{"vision": tower(), "steps": 1, **options}).fit(images, labels if y is None else y)


def test_images_without_labels_are_refused() -> None:
    with pytest.raises(InputError, match="y: found none"):
        HiResClassifier(tower()).fit(patterns(4)[0])
    with pytest.raises(InputError, match="X: found no images"):
        HiResClassifier(tower()).fit([], [])


@pytest.fixture(scope="module")
def records() -> tuple[list[dict], dict[str, np.ndarray]]:
    dataset = EntityGrid("digits", canvas=32, per_category=2).dataset(6, "train")
    return llava_records(dataset), dataset.images


def small_model(**options: object) -> HiResLlava:
    llm, tokenizer = character_model(width=32, layers=1)
    return HiResLlava(tower(), llm, tokenizer, **options)  # type: ignore[arg-type]


def test_the_sequence_is_global_separator_rows_with_ends() -> None:
    model = small_model()
    values = torch.randn(6, 16)
    rows = TokenRows(
        values,
        torch.tensor([0, 0, 0, 0, 1, 1]),
        torch.tensor([0, 1, 0, 1, 0, 1]),
        torch.tensor([True, True, False, False, False, False]),
    )
    with torch.no_grad():
        found = model.image_embeddings(rows)
        projected = model.projector(values)
    assert model.row_end is not None
    expected = [*projected[:2], model.separator, *projected[2:4], model.row_end, *projected[4:], model.row_end]
    assert torch.equal(found, torch.stack(expected))


def test_only_answers_are_targets(records: tuple[list[dict], dict]) -> None:
    model = small_model()
    from paperworks.papers.hires_llava.llava import _Examples

    examples = _Examples(model, read_conversations(records[0]), records[1], only_global=False)
    batch = examples.collate([{"row": 0}, {"row": 1}])
    with torch.no_grad():
        logits, labels = model(**{name: value for name, value in batch.items() if name != "labels"})
    assert logits.shape[:2] == labels.shape
    for row in range(2):
        told = [int(t) for t in labels[row] if t != -100]
        text = model.tokenizer.decode(told)
        assert text == f" {records[0][row]['conversations'][1]['value']}</s>"


def test_the_loss_of_answers_is_that_of_all_their_tokens(records: tuple[list[dict], dict]) -> None:
    model = small_model()
    dropped = torch.nn.Dropout(0.5)
    model.projector.append(dropped)  # in training mode it would change the loss
    examples = llava._Examples(model, read_conversations(records[0]), records[1], only_global=False)
    batch = examples.collate([{"row": row} for row in range(len(examples))])
    with torch.no_grad():
        logits, labels = model.eval()(**{name: value for name, value in batch.items() if name != "labels"})
    chances = logits[:, :-1].log_softmax(2).gather(2, labels[:, 1:, None].clamp(min=0))[..., 0]
    wanted = -chances[labels[:, 1:] != -100].mean()
    assert model.train().answer_loss(*records) == pytest.approx(float(wanted), rel=1e-5)
    assert model.training


def test_each_stage_trains_its_own_parts(records: tuple[list[dict], dict]) -> None:
    settings = TrainSettings(steps=2, batch_size=4, learning_rate=1e-2, device="cpu")
    moved = {}
    model = small_model()
    for stage in (1, 2, 3):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.fit(*records, stage, settings=settings)  # type: ignore[arg-type]
        moved[stage] = {n.split(".")[0] for n, v in model.state_dict().items() if not torch.equal(before[n], v)}
        if stage == 2:
            changed = {n for n, v in model.state_dict().items() if not torch.equal(before[n], v)}
            assert any(n.startswith("encoder.adapters") for n in changed)
            assert not any(n.startswith("encoder.tower") for n in changed)
    assert moved[1] == {"encoder", "projector"}
    assert moved[2] == {"encoder", "projector", "separator", "row_end"}
    assert moved[3] == {"encoder", "projector", "separator", "row_end", "llm"}


def test_every_part_has_its_own_learning_rate(
    records: tuple[list[dict], dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: dict[str, float] = {}

    def seen(model: HiResLlava, _data: object, settings: TrainSettings, *, optimizer: Any, **_: object) -> None:
        names = {id(p): name for name, p in model.named_parameters()}
        for group in optimizer.param_groups:
            rates.update({names[id(p)]: settings.learning_rate * group["lr_factor"] for p in group["params"]})

    monkeypatch.setattr(llava, "train", seen)
    model = small_model()
    model.fit(*records, 3, settings=TrainSettings(steps=1, learning_rate=1e-3, device="cpu"), unfreeze_layers=1)  # type: ignore[arg-type]
    wanted = {"encoder.adapters": 2e-4, "encoder.tower": 2e-6, "encoder.sampler": 1e-3, "projector": 1e-3, "llm": 2e-5}
    for prefix, rate in wanted.items():
        found = {rates[name] for name in rates if name.startswith(prefix)}
        assert [round(one, 12) for one in found] == [rate], prefix


def test_saving_keeps_answers_with_lora_and_without(records: tuple[list[dict], dict], tmp_path: Path) -> None:
    image = next(iter(records[1].values()))
    for name, lora in (("full", None), ("lora", {"r": 2})):
        model = small_model()
        settings = TrainSettings(steps=2, batch_size=4, learning_rate=3e-2, device="cpu")
        model.fit(*records, 3, settings=settings, peft_config=lora)
        said = model.generate(image, "Where is it?", max_new_tokens=6)
        model.save_pretrained(tmp_path / name)
        again = HiResLlava.from_pretrained(tmp_path / name)
        assert again.generate(image, "Where is it?", max_new_tokens=6) == said
        with torch.no_grad():
            assert torch.equal(again.separator, model.separator)
        assert (tmp_path / name / "lora").exists() == (lora is not None)
    assert json.loads((tmp_path / "lora" / "hires_llava.json").read_text())["stages"] == [3]


def test_base_folders_are_referred_to(records: tuple[list[dict], dict], tmp_path: Path) -> None:
    llm, tokenizer = character_model(width=32, layers=1)
    llm.save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    tower().save_pretrained(tmp_path / "tower")
    model = HiResLlava(tmp_path / "tower", tmp_path / "llm")
    model.save_pretrained(tmp_path / "model")
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"encoder", "projector.safetensors", "hires_llava.json"}
    image = next(iter(records[1].values()))
    again = HiResLlava.from_pretrained(tmp_path / "model")
    assert again.generate(image, "What?", max_new_tokens=3) == model.generate(image, "What?", max_new_tokens=3)


def test_text_alone_and_several_turns() -> None:
    model = small_model()
    _, tokenizer = character_model()
    before, after, answers = token_parts(tokenizer, [("a?", "b"), ("c?", "d")])
    assert tokenizer.decode(before) == "USER: "
    assert tokenizer.decode([t for t, told in zip(after, answers, strict=True) if told]) == " b</s> d</s>"
    chats = [{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]}]
    assert model.fit(chats, stage=3, settings=TrainSettings(steps=1, batch_size=1, device="cpu")) is model
    assert np.isfinite(model.result_.losses[0])
    assert isinstance(model.generate(None, "Hi", max_new_tokens=2), str)


def test_bad_records_and_options_are_named(records: tuple[list[dict], dict], tmp_path: Path) -> None:
    model = small_model()
    for bad in ([], [3], [{"image": "x", "conversations": []}], [{"conversations": [{"from": "gpt", "value": "x"}]}]):
        with pytest.raises(InputError, match="records"):
            model.fit(bad)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match=r"bad\.json"):
        model.fit(tmp_path / "bad.json")
    with pytest.raises(InputError, match=r"number 0: found train-00000\.png"):
        model.fit(records[0], {})
    with pytest.raises(InputError, match="stage"):
        model.fit(records[0], records[1], 4)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="peft_config"):
        model.fit(records[0], records[1], 2, peft_config={"r": 2})
    with pytest.raises(InputError, match="max_slices: found a sequence of"):
        model.generate(None, "long " * 200)
    with pytest.raises(InputError, match="llm"):
        HiResLlava(tower(), torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="folder"):
        HiResLlava.from_pretrained(tmp_path)
