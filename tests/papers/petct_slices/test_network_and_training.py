"""The network, its losses, training, saving, and what predictions must not depend on."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit

from papers.petct_slices.petct_helpers import SIZE, cases, fitted, quick, table
from paperworks.errors import InputError
from paperworks.inputs.transforms import RowRandom
from paperworks.papers.petct_slices import SliceClassifier, SliceNetwork, make_network, slice_loss
from paperworks.papers.petct_slices.examples import SliceBatches, augmented, inputs_of
from paperworks.papers.petct_slices.losses import bce_terms, focal_terms
from paperworks.papers.petct_slices.network import torchvision_name
from paperworks.papers.petct_slices.slice_classifier import balancing_weights

pytestmark = pytest.mark.filterwarnings("ignore:The body starts from random weights")


def test_the_network_has_as_many_parameters_as_the_follow_up_code() -> None:
    network = SliceNetwork()
    assert sum(p.numel() for p in network.body.parameters()) == 11_176_512
    assert sum(p.numel() for p in network.head.parameters()) == 65_793
    assert all(p.requires_grad for p in network.parameters())
    assert [type(m).__name__ for m in network.head] == ["Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    assert network.head[3].p == 0.2
    with torch.no_grad():
        found = network.eval()(torch.zeros(3, 3, 64, 64))
        torch.testing.assert_close(found, found[:1].expand_as(found))  # an empty slice is an empty slice


def test_the_focal_loss_is_its_formula_and_finite() -> None:
    logits = torch.tensor([-3.0, -0.5, 0.0, 0.7, 4.0], dtype=torch.float64)
    labels = torch.tensor([1.0, 0, 1, 0, 1], dtype=torch.float64)
    p = torch.sigmoid(logits)
    pt = torch.where(labels == 1, p, 1 - p)
    weight = torch.where(labels == 1, 0.25, 0.75)
    torch.testing.assert_close(focal_terms(logits, labels), -weight * (1 - pt) ** 2 * pt.log())
    torch.testing.assert_close(focal_terms(logits, labels, 0.0, 0.5), 0.5 * bce_terms(logits, labels))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels, pos_weight=torch.tensor(3.0), reduction="none"
    )
    torch.testing.assert_close(bce_terms(logits, labels, 3.0), expected)
    extreme = torch.tensor([-200.0, 200.0], requires_grad=True)
    focal_terms(extreme, torch.tensor([1.0, 0.0])).sum().backward()
    assert torch.isfinite(extreme.grad).all()  # type: ignore[arg-type]
    for options in ({"kind": "mse"}, {"gamma": -1}, {"alpha": 1.0}, {"pos_weight": 0}):
        with pytest.raises(InputError):
            slice_loss(**options)  # type: ignore[arg-type]


def test_predictions_depend_on_the_slice_alone() -> None:
    found = fitted().predict_proba(table())
    assert found.shape == (len(table()),)
    for size in (1, 7, 64):
        np.testing.assert_allclose(fitted().predict_proba(table(), batch_size=size), found, atol=1e-5)
    scan = cases(1)[0]
    np.testing.assert_allclose(fitted().predict_proba(scan), found[:20], atol=1e-5)
    renamed = replace(scan, patient_id="other", case_id="another", center="Z", mask=None)
    np.testing.assert_array_equal(fitted().predict_proba(renamed), fitted().predict_proba(scan))
    np.testing.assert_array_equal(fitted().predict(scan), (fitted().predict_proba(scan) >= 0.5).astype(int))


def test_saved_and_loaded_it_gives_the_same_probabilities(tmp_path: Path) -> None:
    folder = fitted().save_pretrained(tmp_path / "a")
    loaded = SliceClassifier.from_pretrained(folder, device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(table()), fitted().predict_proba(table()))
    assert loaded.options == fitted().options
    assert loaded.centers_ == ["A", "B"]
    with pytest.raises(InputError, match="folder"):
        fitted().save_pretrained(folder)
    (folder / "classifier.json").write_text("{}")
    with pytest.raises(InputError, match="model"):
        SliceClassifier.from_pretrained(folder)


@pytest.mark.parametrize("caw", ["balanced", "one-hot", "batchnorm"])
def test_center_aware_training(caw: str, tmp_path: Path) -> None:
    model = quick(regime="caw", caw=caw).fit(table())
    network = model.network_
    assert network is not None
    inputs = inputs_of(table(), np.arange(6), model.options.inputs())
    with torch.no_grad():
        first, second, unknown = (network(inputs, torch.full((6,), n)) for n in (0, 1, -1))
        torch.testing.assert_close(network(inputs), unknown)
    assert torch.equal(first, second) == (caw == "balanced")
    model.save_pretrained(tmp_path / "m")
    again = SliceClassifier.from_pretrained(tmp_path / "m", device="cpu")
    np.testing.assert_array_equal(again.predict_proba(table()), model.predict_proba(table()))
    one = table().subset(table().rows["center"].to_numpy() == "A")
    with pytest.raises(InputError, match="at least two centers"):
        quick(regime="caw", caw=caw).fit(one)


def test_balanced_batches_draw_center_and_label_equally_often() -> None:
    centers, labels = np.array([0, 0, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 0, 0, 1])
    weights = balancing_weights(centers, labels)
    sums = {(c, y): weights[(centers == c) & (labels == y)].sum() for c in (0, 1) for y in (0, 1)}
    assert len(set(sums.values())) == 1


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    from paperworks.runs import Cancelled

    whole = quick(epochs=2).fit(table())

    def stopping(iterable: Any, description: str, total: int | None = None) -> Any:
        for number, item in enumerate(iterable):
            if description == "training" and number == 6:
                raise Cancelled
            yield item

    resumed = quick(epochs=2)
    with pytest.raises(Cancelled):
        resumed.fit(table(), checkpoint_dir=tmp_path, progress=stopping)
    resumed.fit(table(), checkpoint_dir=tmp_path)
    np.testing.assert_array_equal(resumed.predict_proba(table()), whole.predict_proba(table()))


def test_it_can_learn_sixty_four_slices_by_heart() -> None:
    rows = np.concatenate([np.flatnonzero(table().labels == 1)[:32], np.flatnonzero(table().labels == 0)[:32]])
    model = quick(epochs=45, learning_rate=1e-2, batch_size=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(table(), rows, validation_rows=rows)
    logits = model.decision_function(table(), rows)
    assert logits[:32].min() > logits[32:].max()


def test_weights_of_transformers_and_of_torchvision(tmp_path: Path) -> None:
    source = SliceNetwork().body
    source.save_pretrained(tmp_path / "hf")
    names = {name: torchvision_name(name) for name in torchvision_names()}
    state = source.state_dict()
    assert {v for v in names.values() if v} == set(state)
    torch.save(
        {old: state[new] for old, new in names.items() if new} | {"fc.bias": torch.zeros(1)}, tmp_path / "tv.pth"
    )
    for backbone in (tmp_path / "hf", tmp_path / "tv.pth"):
        made = make_network(("pet",) * 3, backbone=backbone)
        assert all(torch.equal(value, state[name]) for name, value in made.body.state_dict().items())
    two = make_network(("pet", "ct"), backbone=tmp_path / "tv.pth")
    first = "embedder.embedder.convolution.weight"
    torch.testing.assert_close(two.body.state_dict()[first], state[first].sum(1, keepdim=True).repeat(1, 2, 1, 1) / 2)
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    for bad in (tmp_path / "bad.pth", tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match="backbone"):
            make_network(("pet",) * 3, backbone=bad)


def torchvision_names() -> list[str]:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["conv1.weight", *(f"bn1.{n}" for n in norm), "fc.weight"]
    for stage in range(1, 5):
        for block in range(2):
            for part in (1, 2):
                place = f"layer{stage}.{block}"
                names += [f"{place}.conv{part}.weight", *(f"{place}.bn{part}.{n}" for n in norm)]
        if stage > 1:
            place = f"layer{stage}.0.downsample"
            names += [f"{place}.0.weight", *(f"{place}.1.{n}" for n in norm)]
    return names


def test_augmentation_is_the_rows_own() -> None:
    images = inputs_of(table(), np.arange(5, 11), fitted().options.inputs())
    ids = np.arange(6)
    whole = augmented(images, RowRandom(1, 0, ids))
    torch.testing.assert_close(augmented(images[2:4], RowRandom(1, 0, ids[2:4])), whole[2:4])
    assert not torch.equal(whole, augmented(images, RowRandom(1, 1, ids)))
    batches = SliceBatches(table(), np.arange(20), fitted().options.inputs(), augment=True)
    batch = batches.batch(0, range(8), per_step=8, seed=0)
    assert batch["inputs"].shape == (8, 3, SIZE, SIZE)


def test_what_a_classifier_refuses() -> None:
    with pytest.raises(InputError, match="not trained yet"):
        quick().predict_proba(table())
    with pytest.raises(InputError, match="image_size"):
        quick(image_size=32).fit(table())
    with pytest.raises(InputError, match="pet_window"):
        quick(pet_window=(5, 5))
    with pytest.raises(InputError, match="no such option"):
        quick(windw=(0, 5))
    with pytest.raises(InputError, match="regime"):
        quick(regime="aware")
    negative = table().subset(np.flatnonzero(table().labels == 0))
    with pytest.raises(InputError, match="one class"):
        quick().fit(negative)
    assert expit(0) == 0.5
