"""What a deletion leaves is what would have been trained without the slice, to the bit and in a training of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel

from paperworks import classification, nn
from paperworks.errors import InputError
from paperworks.papers.s3t import S3T, Lora, table_base
from paperworks.papers.s3t.bases import Standardize
from paperworks.papers.s3t.blocks import block_layers
from paperworks.papers.s3t.layers import Adapted, find_head, find_layers
from paperworks.papers.s3t.serving import aggregate
from paperworks.papers.s3t.stages import Job, ShardTraining, plain_attention

from .conftest import LORA, SETTINGS, fit, make_system, network, records


def in_slice(system: S3T, shard: int, slice_: int) -> list[str]:
    """Ids of the records of a slice."""
    manifest = system.manifest
    return [str(i) for i in range(48) if manifest.records[manifest.key(str(i))] == (shard, slice_)]


def rows_of(system: S3T, shard: int, slices: list[int]) -> np.ndarray:
    return np.array(sorted(int(i) for c in slices for i in in_slice(system, shard, c)))


def test_a_stage_changes_its_layers_and_the_head_and_nothing_else() -> None:
    data, labels = records()
    adapted = Adapted(network(), Lora(2, 4, 0.0))
    training = ShardTraining(
        Job(adapted, "classification", 3, 2, "top-down", SETTINGS, 0), data, labels, np.arange(48) % 3
    )
    states = []
    training.sequence(
        (2, 0, 1), after=lambda stage: states.append({k: v.clone() for k, v in adapted.model.state_dict().items()})
    )
    for stage in (1, 2):
        before, after = states[stage - 1], states[stage]
        changed = {name for name in after if not torch.equal(before[name], after[name])}
        own = block_layers(6, 3, 2, stage + 1)
        assert changed == {*adapted.names(own), *adapted.head_names}
        assert {name.split("layers.")[1][0] for name in changed if "lora" in name} == set(map(str, own))
    assert [block_layers(6, 3, 2, stage) for stage in (1, 2, 3)] == [[5, 4], [3, 2], [1, 0]]
    assert all(bool((states[0][n] == 0).all()) for n in adapted.names(range(4)) if "lora_B" in n)


def test_layers_are_found_by_their_whole_number() -> None:
    deep = nn.build_network("vit", image_size=8, num_hidden_layers=12, hidden_size=8, num_attention_heads=2, outputs=2)
    adapted = Adapted(deep, Lora(1, 1, 0.0))
    assert adapted.depth == 12
    trained = adapted.train_only(block_layers(12, 12, 1, 11))  # layer 1
    assert {name.split("layers.")[1].split(".")[0] for name in trained if "lora" in name} == {"1"}
    named = find_layers(network(), r"layers\.(\d+)\.", ("fc1",))
    assert named == [[f"vit.layers.{t}.mlp.fc1"] for t in range(6)]
    assert find_head(network(), named) == ["classifier"]
    mlp = nn.MLP(inputs=4, hidden=(5, 5, 5), outputs=2)
    assert find_layers(mlp) == [["layers.0"], ["layers.2"], ["layers.4"]]


@pytest.mark.parametrize("shard", [0, 1])
def test_logits_after_a_deletion_are_those_of_a_model_never_shown_the_slice(copied: Path, shard: int) -> None:
    data, labels = records()
    system = S3T.load(copied, network())
    order = system.manifest.sequences[shard][0].order
    before = system.stage_logits(shard, order, 1, data)
    last = system.stage_logits(shard, order, 3, data)
    system.delete(in_slice(system, shard, order[1])[:1])
    left = next(q for q in system.manifest.sequences[shard] if q.order == order)
    assert left.depth == 1
    after = system.stage_logits(shard, order, 1, data)
    assert np.array_equal(before, after)
    assert np.abs(last - after).max() > 1e-3
    # another training, of a fresh network, that gets the records of the surviving slice alone
    rows = rows_of(system, shard, [order[0]])
    adapted = Adapted(network(), LORA)
    job = Job(adapted, "classification", 3, 2, "top-down", SETTINGS, 3)
    own = {"pixel_values": data["pixel_values"][rows]}
    ShardTraining(job, own, labels[rows], np.full(len(rows), order[0]), shard=shard).sequence(order, 1)
    np.testing.assert_allclose(classification.predict_logits(adapted.model, data), after, atol=1e-6)


def test_what_a_deleted_record_said_has_no_influence(copied: Path, tmp_path: Path) -> None:
    data, labels = records()
    system = S3T.load(copied, network())
    record = in_slice(system, 0, 1)[0]
    other = {"pixel_values": data["pixel_values"].clone()}
    other["pixel_values"][int(record)] = 5 - 9 * other["pixel_values"][int(record)]
    changed = labels.copy()
    changed[int(record)] = (labels[int(record)] + 1) % 3
    twin = fit(make_system(tmp_path / "twin"), other, changed)
    assert np.abs(twin.predict_proba(data) - system.predict_proba(data)).max() > 1e-3
    for one in (system, twin):
        one.delete(record)
    np.testing.assert_allclose(twin.predict_proba(data), system.predict_proba(data), atol=1e-6)


def test_the_head_must_go_back_with_the_blocks(copied: Path) -> None:
    """The check above is not vacuous: blocks switched off under the last head are another model."""
    data, _ = records()
    system = S3T.load(copied, network())
    order = system.manifest.sequences[0][0].order
    kept = system.stage_logits(0, order, 1, data)
    system.stage_logits(0, order, 3, data)
    adapted = system.adapted
    first = set(adapted.names(block_layers(6, 3, 2, 1)))
    with torch.no_grad():
        for name in adapted.names(range(6)):
            if "lora_B" in name and name not in first:
                adapted.tensors[name].zero_()
    assert np.abs(classification.predict_logits(adapted.model, data) - kept).max() > 1e-3


def test_shared_beginnings_are_trained_once_and_all_orders_are_a_trie() -> None:
    data, labels = records(24)
    adapted = Adapted(network(), Lora(1, 1, 0.0))
    job = Job(adapted, "classification", 3, 2, "top-down", SETTINGS, 0)
    training = ShardTraining(job, data, labels, np.arange(24) % 3)
    one, two = training.sequence((0, 1, 2)), training.sequence((0, 2, 1))
    assert len(training.done) == 5
    assert one[0] is two[0]
    alone = ShardTraining(job, data, labels, np.arange(24) % 3).sequence((0, 2, 1))
    for a, b in zip(two, alone, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_an_exported_adapter_is_read_by_peft(copied: Path, tmp_path: Path) -> None:
    data, _ = records()
    system = S3T.load(copied, network())
    order = system.manifest.serving(0).order
    system.delete(in_slice(system, 0, order[1])[0])
    serving = system.manifest.serving(0)
    folder = system.export(0, tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(network(), folder)
    expected = system.stage_logits(0, serving.order, serving.depth, data)
    np.testing.assert_allclose(classification.predict_logits(loaded, data), expected, atol=1e-6)
    modules = json.loads((folder / "adapter_config.json").read_text())["target_modules"]
    assert len(modules) == 2 * 2 * serving.depth


def test_statistics_of_a_table_are_those_of_the_first_slice() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 50, size=(30, 4)).astype(np.float32)
    x[3, 1] = np.nan
    system = S3T(table_base(4, 2, layers=2, width=4), n_slices=2, peft_config=Lora(1, 1, 0.0), settings=SETTINGS)
    system.fit({"inputs": x}, rng.integers(0, 2, 30))
    for sequence in system.manifest.sequences[0]:
        rows = [i for i in range(30) if system.manifest.records[system.manifest.key(str(i))][1] == sequence.order[0]]
        for depth in (1, 2):
            stored = system.folder.read_sequence(system.manifest, 0, sequence, depth)
            np.testing.assert_allclose(stored["base_model.model.standardize.mean"], np.nanmean(x[rows], 0), rtol=1e-5)
    layer = Standardize(4)
    layer.fit_statistics({"inputs": torch.from_numpy(x)})
    out = layer(torch.from_numpy(x)).numpy()
    assert out[3, 1] == 0
    np.testing.assert_allclose(out[:, 0].std(), 1, rtol=1e-5)


def test_fused_encoder_layers_do_not_bypass_the_adapters() -> None:
    model = nn.TinyViT(image_size=8, patch_size=4, width=8, layers=2, heads=2, outputs=2)
    adapted = Adapted(model, Lora(1, 1, 0.0))
    assert all(name.rpartition(".")[2] in ("linear1", "linear2") for layer in adapted.layers for name in layer)
    images = {"inputs": torch.rand(3, 1, 8, 8)}
    with plain_attention():
        before = classification.predict_logits(adapted.model, images)
        with torch.no_grad():
            adapted.tensors[next(n for n in adapted.names([0]) if "lora_B" in n)].fill_(1.0)
        assert np.abs(classification.predict_logits(adapted.model, images) - before).max() > 1e-4


def test_answers_of_shards_are_combined_in_three_ways() -> None:
    logits = np.array([[[2.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]])
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(aggregate(logits, "mean_probs"), probs.mean(0))
    mean = np.exp(logits.mean(0))
    np.testing.assert_allclose(aggregate(logits, "mean_logits"), mean / mean.sum())
    np.testing.assert_allclose(aggregate(logits, "vote"), [[1 / 3, 2 / 3, 0]])


def test_a_peft_config_that_stages_would_share_is_refused() -> None:
    found = Lora.from_peft(LoraConfig(r=3, lora_alpha=6, use_rslora=True, target_modules=["value", "query"]))
    assert found == Lora(3, 6, 0.0, True, ("query", "value"))
    with pytest.raises(InputError, match="bias"):
        Lora.from_peft(LoraConfig(bias="all"))
    with pytest.raises(InputError, match="modules_to_save"):
        Lora.from_peft(LoraConfig(modules_to_save=["classifier"]))
    with pytest.raises(InputError, match="running statistics"):
        Adapted(nn.MLP(inputs=4, hidden=(4, 4), outputs=2, batch_norm=True), LORA)
    with pytest.raises(InputError, match="layers_per_slice: found 3; expected 1 to 2"):
        fit(make_system(layers_per_slice=3))
