"""Training, prediction and features of classifiers; the scikit-learn estimator; checkpoints of transformers."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from paperworks.classification import (
    ImageExamples,
    TorchClassifier,
    features,
    fit,
    last_linear_layer,
    load_classifier,
    predict,
    predict_logits,
    predict_proba,
    take_rows,
)
from paperworks.errors import InputError
from paperworks.inputs.images import read_images
from paperworks.inputs.transforms import RandomCrop
from paperworks.training import TrainSettings

QUICK = TrainSettings(steps=30, batch_size=32, learning_rate=1e-2, device="cpu", seed=1)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    return (x[:500] / 16).astype(np.float32), y[:500]


def network(seed: int = 0, width: int = 32) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_without_a_share_of_the_teacher_training_is_plain_training(digits) -> None:
    plain, zero = network(), network()
    fit(plain, *digits, settings=QUICK)
    fit(zero, *digits, settings=QUICK, teacher=network(5), alpha=0)
    assert same(plain, zero)


def test_stored_logits_of_a_teacher_do_what_the_teacher_does(digits) -> None:
    teacher = network(5)
    module, stored = network(), network()
    fit(module, *digits, settings=QUICK, teacher=teacher, alpha=0.7, temperature=3)
    logits = predict_logits(teacher, digits[0], device="cpu")
    fit(stored, *digits, settings=QUICK, teacher=logits, alpha=0.7, temperature=3)
    for a, b in zip(module.parameters(), stored.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_student_that_is_its_teacher_does_not_move(digits) -> None:
    student = network()
    fit(
        student,
        *digits,
        settings=TrainSettings(steps=1, batch_size=50, optimizer="sgd", weight_decay=0, device="cpu"),
        teacher=network(),
        alpha=1,
        temperature=1,
    )
    for a, b in zip(student.parameters(), network().parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-7)


def test_weights_of_zero_leave_rows_out(digits) -> None:
    x, y = digits
    wrong = y.copy()
    wrong[::2] = 9
    weighted, right = network(), network()
    fit(weighted, x, wrong, settings=QUICK, sample_weight=(wrong == y).astype(float))
    fit(right, x, y, settings=QUICK, sample_weight=(wrong == y).astype(float))
    assert same(weighted, right)


def test_predictions_and_features_do_not_depend_on_batches_and_leave_modes(digits) -> None:
    x, _ = digits
    model = nn.Sequential(network(), nn.Dropout(0.5))
    model[0].eval()
    logits = predict_logits(model, x, batch_size=7, device="cpu")
    assert np.allclose(logits, predict_logits(model, x, batch_size=500, device="cpu"), atol=1e-5)
    assert (model[0].training, model[1].training) == (False, True)
    assert np.array_equal(predict(model, x, device="cpu"), logits.argmax(1))
    assert np.allclose(predict_proba(model, x, device="cpu").sum(1), 1)
    hidden = features(model, x, "0.2", device="cpu")
    assert hidden.shape == (500, 32)
    assert hidden.min() == 0
    head = model.get_submodule(last_linear_layer(model))
    assert np.allclose(hidden @ head.weight.detach().numpy().T + head.bias.detach().numpy(), logits, atol=1e-4)
    assert np.array_equal(features(model, x, "0.3", of="input", device="cpu"), hidden)
    assert not model[0][2]._forward_hooks


def test_pooling_of_features() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3 * 36, 2))
    x = torch.rand(4, 1, 8, 8)
    maps = features(model, x, "0", pool=None, device="cpu")
    assert maps.shape == (4, 3, 6, 6)
    assert np.allclose(features(model, x, "0", pool="mean", device="cpu"), maps.mean((2, 3)), atol=1e-6)
    assert features(model, x, "0", device="cpu").shape == (4, 108)


def test_image_sets_and_augmentation(tmp_path: Path) -> None:
    images = read_images("digits").subset(np.arange(200))
    model, again = network(), network()
    fit(model, ImageExamples(images), images.labels, settings=QUICK, augment=RandomCrop(1))
    fit(again, images.array(), images.labels, settings=QUICK, augment=RandomCrop(1))
    assert same(model, again)  # decoded lazily or beforehand
    plain = network()
    fit(plain, images, images.labels, settings=QUICK)
    assert not same(model, plain)
    lazily, beforehand = (predict_logits(model, d, device="cpu") for d in (images, images.array()))
    assert np.allclose(lazily, beforehand)
    for some in (take_rows(images, [7, 3]), take_rows(images.array(), [7, 3])):
        assert np.allclose(predict_logits(model, some, device="cpu"), beforehand[[7, 3]], atol=1e-5)


def test_validation_keeps_the_best_weights(digits) -> None:
    x, y = digits
    settings = TrainSettings(steps=60, batch_size=8, learning_rate=0.3, schedule="constant", eval_every=5, device="cpu")
    result = fit(network(), x[:100], y[:100], settings=settings, validation=(x[100:], y[100:]))
    assert len(result.evals) == 12
    assert result.best_step == min(result.evals, key=lambda e: e[1])[0]


@parametrize_with_checks([TorchClassifier(steps=60)])
def test_scikit_learns_checks(estimator, check) -> None:
    check(estimator)


def test_an_estimator_around_any_module(digits) -> None:
    x, y = digits
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[y]

    def make(shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, classes))

    model = TorchClassifier(make, standardize=False, steps=100)
    images = x.reshape(-1, 8, 8)
    assert model.fit(images[:400], names[:400]) is model
    assert model.score(images[400:], names[400:]) > 0.7
    assert set(model.predict(images[:5])) <= set(names)
    back = pickle.loads(pickle.dumps(TorchClassifier(steps=20).fit(x, y)))
    assert np.array_equal(back.predict(x), TorchClassifier(steps=20).fit(x, y).predict(x))
    with pytest.raises(InputError) as error:
        model.predict(images[:, :, :4])
    assert error.value.field == "X"


def test_an_estimator_learns_from_a_teacher_of_scikit_learn(digits) -> None:
    x, y = digits
    teacher = LogisticRegression(max_iter=200).fit(x, y)
    noisy = np.random.default_rng(0).permutation(y)
    alone = TorchClassifier(steps=150).fit(x[:300], noisy[:300]).score(x[300:], y[300:])
    taught = TorchClassifier(steps=150, teacher=teacher, alpha=1.0).fit(x[:300], noisy[:300])
    assert taught.score(x[300:], y[300:]) > alone + 0.5
    with pytest.raises(InputError) as error:
        TorchClassifier(teacher=teacher).fit(x[y < 5], y[y < 5])
    assert error.value.field == "teacher"


def image_folder(folder: Path) -> Path:
    import transformers as hf

    config = hf.ResNetConfig(
        num_channels=3, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    config.id2label = {0: "a", 1: "b", 2: "c"}
    hf.ResNetForImageClassification(config).save_pretrained(folder)
    hf.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def test_image_classifiers_from_a_folder(tmp_path: Path) -> None:
    found = load_classifier(image_folder(tmp_path / "model"))
    assert (found.kind, found.class_names) == ("image", ("a", "b", "c"))
    images = read_images("digits").subset(np.arange(12))
    examples = found.examples(images)
    assert examples[0]["pixel_values"].shape == (3, 16, 16)
    before = found.predict_proba(images, device="cpu")
    assert before.shape == (12, 3)
    fit(found.model, examples, images.labels % 3, settings=TrainSettings(steps=2, batch_size=4, device="cpu"))
    found.save(tmp_path / "out")
    again = load_classifier(tmp_path / "out")
    assert np.allclose(again.predict_proba(images, device="cpu"), found.predict_proba(images, device="cpu"), atol=1e-6)
    assert not np.allclose(before, again.predict_proba(images, device="cpu"))


def text_folder(folder: Path) -> Path:
    import transformers as hf

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "very"]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    hf.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = hf.BertConfig(
        vocab_size=8,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        num_labels=2,
        max_position_embeddings=16,
    )
    hf.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_text_classifiers_from_a_folder(tmp_path: Path) -> None:
    found = load_classifier(text_folder(tmp_path / "model"))
    assert found.kind == "text"
    texts = ["good", "very good", "bad", "very very bad", "good " * 40] * 4
    labels = np.array([1, 1, 0, 0, 1] * 4)
    examples = found.examples(texts)
    assert examples["input_ids"].shape == (20, 16)
    fit(
        found.model, examples, labels, settings=TrainSettings(steps=60, batch_size=10, learning_rate=1e-2, device="cpu")
    )
    assert (found.predict_proba(texts, device="cpu").argmax(1) == labels).all()


def test_checkpoints_without_a_head_are_refused(tmp_path: Path) -> None:
    import transformers as hf
    from safetensors.torch import load_file, save_file

    folder = image_folder(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    head = next(name for name in weights if name.startswith("classifier"))
    save_file({n: w for n, w in weights.items() if n != head}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError) as error:
        load_classifier(folder)
    assert error.value.field == head
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"preprocessor_config\.json"):
        load_classifier(folder)
    with pytest.raises(InputError, match="nothing there"):
        load_classifier(tmp_path / "none")
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    hf.CLIPTextModel(hf.CLIPTextConfig(intermediate_size=8, **sizes)).save_pretrained(tmp_path / "clip")
    with pytest.raises(InputError, match="a classifier of images or of texts"):
        load_classifier(tmp_path / "clip")


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda x, y: fit(network(), x, y[:-1], settings=QUICK), "labels"),
        (lambda x, y: fit(network(), x, y / 1.0, settings=QUICK), "labels"),
        (lambda x, y: fit(network(), x, np.where(y == 3, -1, y), settings=QUICK), "labels[3]"),
        (lambda x, y: fit(network(), x, y + 1, settings=QUICK), "labels"),
        (lambda x, y: fit(network(), x[:0], y[:0], settings=QUICK), "data"),
        (lambda x, y: fit(network(), "words", y, settings=QUICK), "data"),
        (lambda x, y: fit(network(), {"a": x, "b": x[:3]}, y, settings=QUICK), "data"),
        (lambda x, y: fit(network(), x, y, settings=QUICK, teacher=network(), alpha=2), "alpha"),
        (lambda x, y: fit(network(), x, y, settings=QUICK, teacher=network(), temperature=0), "temperature"),
        (lambda x, y: fit(network(), x, y, settings=QUICK, teacher=np.zeros((3, 10))), "teacher"),
        (lambda x, y: fit(network(), x, y, settings=QUICK, teacher=np.zeros((500, 9))), "teacher"),
        (lambda x, y: fit(network(), x, y, settings=QUICK, teacher=network(), label_smoothing=0.1), "label_smoothing"),
        (lambda x, y: fit(network(), x, y, settings=QUICK, teacher=y, augment=RandomCrop(1)), "teacher"),
        (lambda x, y: fit(network(), x, y, settings=QUICK, sample_weight=-np.ones(500)), "sample_weight"),
        (lambda x, y: fit(network(), {"ids": x}, y, settings=QUICK, augment=RandomCrop(1)), "augment"),
        (lambda x, y: predict_logits(network(), x, batch_size=0), "batch_size"),
        (lambda x, y: features(network(), x, "9"), "layer"),
        (lambda x, y: features(network(), x, "1", pool="max"), "pool"),
        (lambda x, y: features(network(), x, "1", of="both"), "of"),
        (lambda x, y: last_linear_layer(nn.ReLU()), "model"),
        (lambda x, y: TorchClassifier(hidden=(0,)).fit(x, y), "hidden"),
        (lambda x, y: TorchClassifier().fit(x, np.zeros(500)), "y"),
        (lambda x, y: TorchClassifier(teacher=3).fit(x, y), "teacher"),
    ],
)
def test_bad_input_names_the_field(digits, call, field: str) -> None:
    with pytest.raises(InputError) as error:
        call(*digits)
    assert error.value.field == field
