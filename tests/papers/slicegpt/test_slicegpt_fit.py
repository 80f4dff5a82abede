"""Fitting: exactness at full width, padding, disk and memory, folders, interruption, and what is refused."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tiny_plans import random_plan
from tiny_transformers import KINDS, D, exact_norms, outputs, same_weights, tiny, token_ids

import forked
from paperworks.errors import InputError
from paperworks.papers.slicegpt import SliceGPT, predicted_parameters, slice_model
from paperworks.runs import Cancelled
from paperworks.structure import prune, units_of
from paperworks.structure.modeling_sliced import MODEL_CLASSES

IDS = token_ids(24, 16)


def folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_cut_nothing_changed(kind):
    model = exact_norms(tiny(kind, torch.float64))
    for slice_head in (False, True):
        full = exact_norms(slice_model(tiny(kind, torch.float64), IDS, slicing=0.0, slice_head=slice_head))
        assert (outputs(full, IDS[:4]) - outputs(model, IDS[:4])).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("kind", "slice_head"), [*((kind, False) for kind in KINDS), ("llama", True), ("phi", True), ("bert", True)]
)
def test_the_orientation_inside_the_kept_space_changes_nothing(kind, slice_head):
    made, dense = {}, tiny(kind)
    for orientation, seed in (("pca", 0), ("random", 1)):
        method = SliceGPT(0.25, orientation=orientation, seed=seed, slice_head=slice_head)
        model = tiny(kind)
        report = method.fit(model, IDS).report_
        assert method.model_ is model
        assert type(model) is MODEL_CLASSES[kind]
        assert report.parameters_after == sum(p.numel() for p in model.parameters())
        assert report.parameters_after == predicted_parameters(dense, 0.25, slice_head=slice_head)
        assert all(cut.width == 24 for cut in report.cuts)
        for before, after in pairwise(report.stream_widths):
            assert before[-1] == after[0]
        made[orientation, seed] = outputs(model, IDS[:4])
    torch.testing.assert_close(made["random", 1], made["pca", 0], rtol=0, atol=1e-3)
    assert (made["pca", 0] - outputs(dense, IDS[:4])).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_what_stands_in_padding_does_not_matter(kind):
    mask = torch.ones_like(IDS)
    mask[2, 10:] = 0
    mask[5, :3] = 0
    garbage = IDS.masked_fill(mask == 0, 50)
    made = [slice_model(tiny(kind), ids, mask, batch_size=7) for ids in (IDS, garbage)]
    assert same_weights(*made)
    assert not same_weights(made[0], slice_model(tiny(kind), IDS, batch_size=7))


@pytest.mark.parametrize("kind", ["llama", "gemma", "phi", "opt", "gpt2"])
def test_left_and_right_padding_are_alike(kind):
    right, left = IDS.clone(), IDS.clone()
    mask_right, mask_left = torch.ones_like(IDS), torch.ones_like(IDS)
    for row in range(0, len(IDS), 2):
        mask_right[row, 11:] = 0
        mask_left[row, :5] = 0
        left[row, 5:] = right[row, :11]
    made = [slice_model(tiny(kind), i, m, orientation="pca") for i, m in ((right, mask_right), (left, mask_left))]
    torch.testing.assert_close(outputs(made[0], IDS[:4]), outputs(made[1], IDS[:4]), rtol=0, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_the_weights_of_a_live_model_and_stays_as_it_was(kind, tmp_path):
    model = tiny(kind)
    model.save_pretrained(tmp_path / "dense")
    (tmp_path / "dense" / "tokenizer_config.json").write_text("{}")
    before = folder_hash(tmp_path / "dense")
    method = SliceGPT(0.25, activation_budget=0)
    report = method.fit(tmp_path / "dense", {"input_ids": IDS}, output_dir=tmp_path / "sliced", batch_size=5).report_
    live = slice_model(model, IDS, batch_size=5)
    assert same_weights(method.model_, live)
    assert torch.equal(outputs(method.model_, IDS[:3]), outputs(live, IDS[:3]))
    assert folder_hash(tmp_path / "dense") == before
    assert sorted(f.name for f in tmp_path.iterdir()) == ["dense", "sliced"]
    assert (tmp_path / "sliced" / "tokenizer_config.json").read_text() == "{}"
    assert json.loads((tmp_path / "sliced" / "pruning_report.json").read_text()) == json.loads(
        json.dumps(report.to_dict())
    )
    assert report.spilled_bytes == IDS.numel() * D * 4


def test_a_stream_on_disk_gives_the_same_bits(tmp_path):
    made = []
    for budget in (10**9, 0):
        model = tiny("phi3")
        report = SliceGPT(activation_budget=budget, spill_dir=tmp_path).fit(model, IDS).report_
        made.append(model)
        assert (report.spilled_bytes > 0) is (budget == 0)
    assert same_weights(*made)
    assert not list(tmp_path.iterdir())


def test_half_precision_is_computed_in_float32_and_saved_as_it_was(tmp_path):
    model = tiny("llama").to(torch.bfloat16)
    single = copy.deepcopy(model).float()
    SliceGPT(0.25).fit(model, IDS)
    SliceGPT(0.25).fit(single, IDS)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    name = "model.layers.0.self_attn.q_proj.weight"
    torch.testing.assert_close(
        model.get_parameter(name), single.get_parameter(name).to(torch.bfloat16), rtol=0.05, atol=0.05
    )
    tiny("llama").save_pretrained(tmp_path / "dense")
    method = SliceGPT(0.25, dtype="bfloat16")
    assert method.fit(tmp_path / "dense", IDS, output_dir=tmp_path / "out").report_.dtype == "bfloat16"
    assert {p.dtype for p in method.model_.parameters()} == {torch.bfloat16}


def _stop_after(steps: int, how):
    """A progress that stops the fit at its n-th batch."""

    def progress(iterable, description, total=None):
        for number, item in enumerate(iterable):
            if number == steps:
                how()
            yield item

    return progress


def _cancel():
    raise Cancelled


@functools.cache
def _sliced_at_once(kind):
    return slice_model(tiny(kind), IDS, batch_size=8)


@pytest.mark.parametrize(
    ("kind", "steps"),
    [("llama", 2), ("llama", 7), ("llama", 13), ("llama", 20), ("phi", 7), ("phi", 11), ("gpt2", 13), ("bert", 20)],
)
def test_a_fit_that_was_stopped_goes_on_to_the_same_weights(kind, steps, tmp_path):
    state = tmp_path / "state"
    settings = {"checkpoint_dir": state}
    blocks = 1 if kind == "phi" else 2
    with pytest.raises(Cancelled):
        SliceGPT(**settings).fit(tiny(kind), IDS, batch_size=8, progress=_stop_after(steps, _cancel))
    model = tiny(kind)
    seen = []

    def progress(iterable, description, total=None):
        seen.append(total)
        return iterable

    report = SliceGPT(**settings).fit(model, IDS, batch_size=8, progress=progress).report_
    assert report.resumed_at_layer == max(0, steps // 3 - 1) // blocks
    assert same_weights(model, _sliced_at_once(kind))
    assert seen == [3 * (1 + 3 * blocks)]
    assert len(report.cuts) == 3 * blocks + (kind != "bert" and 0)
    assert not state.exists()


def _fit_until_killed(dense, out, settings, steps):
    kill = _stop_after(steps, lambda: os._exit(9))
    SliceGPT(**settings).fit(dense, IDS, batch_size=8, output_dir=out, progress=kill)


def test_a_folder_fit_that_was_killed_goes_on_to_the_same_weights(tmp_path):
    tiny("opt").save_pretrained(tmp_path / "dense")
    settings = {"checkpoint_dir": tmp_path / "state"}
    out = tmp_path / "sliced"
    for steps in (8, 15):  # killed twice, without a chance to tidy up
        assert forked.run(_fit_until_killed, tmp_path / "dense", out, settings, steps).code == 9
        assert not out.exists()
    with pytest.raises(InputError, match="state of another fit"):
        SliceGPT(0.5, **settings).fit(tmp_path / "dense", IDS, batch_size=8, output_dir=out)
    method = SliceGPT(**settings)
    assert method.fit(tmp_path / "dense", IDS, batch_size=8, output_dir=out).report_.resumed_at_layer == 2
    assert same_weights(method.model_, _sliced_at_once("opt"))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["dense", "sliced"]


@pytest.mark.parametrize("basis", ["axis", "random"])
def test_baselines_keep_less(basis):
    model = tiny("llama")
    reports = [SliceGPT(0.25, basis=kind).fit(copy.deepcopy(model), IDS).report_ for kind in ("pca", basis)]
    assert reports[0].cuts[0].kept > reports[1].cuts[0].kept
    assert reports[0].parameters_after == reports[1].parameters_after


def test_widths_by_variance_keep_what_they_promise():
    model = tiny("llama")
    report = SliceGPT(schedule="variance", variance_discarded=0.2, round_to=4).fit(model, IDS).report_
    assert all(cut.kept >= 0.8 - 1e-9 for cut in report.cuts)
    assert all(sum(cut.spectrum[: cut.width - 4]) < 0.8 * sum(cut.spectrum) for cut in report.cuts if cut.width > 8)
    assert len({cut.width for cut in report.cuts}) > 1
    assert report.parameters_after == sum(p.numel() for p in model.parameters())
    assert torch.isfinite(outputs(model, IDS[:2])).all()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_variance_with_the_head_and_schedules_by_depth(kind):
    model = tiny(kind)
    SliceGPT(schedule="variance", variance_discarded=0.3, round_to=4, slice_head=True).fit(model, IDS)
    assert torch.isfinite(outputs(model, IDS[:2])).all()
    model = tiny(kind)
    report = SliceGPT(schedule=lambda depth: 0.25 + 0.25 * (depth > 0.5)).fit(model, IDS).report_
    assert [cut.width for cut in report.cuts] == [24, 24, 24, 24, 16, 16]
    assert report.parameters_after == sum(p.numel() for p in model.parameters())


def test_a_target_and_a_list():
    model = tiny("phi")
    report = SliceGPT(target=23_000).fit(model, IDS).report_
    assert report.parameters_after == sum(p.numel() for p in model.parameters()) <= 23_000
    model = tiny("llama")
    report = SliceGPT(dims=[16, 24, 32]).fit(model, IDS).report_
    assert report.stream_widths == [[16, 16, 24], [24, 24, 32], [32, 32, 32]]
    assert report.settings["dims"] == [16, 24, 32]


def test_a_dry_run_changes_nothing_and_predicts_what_happens(tmp_path):
    model = tiny("opt")
    before = {name: p.clone() for name, p in model.named_parameters()}
    found = SliceGPT(orientation="pca").dry_run(model, IDS, slicings=(0.25, 0.5))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert type(model).__name__ == "OPTForCausalLM"
    model.save_pretrained(tmp_path / "dense")
    assert SliceGPT().dry_run(tmp_path / "dense", IDS, slicings=(0.25, 0.5)) == found
    assert len(found.names) == len(found.spectra) == 7
    assert [p.width for p in found.predictions] == [24, 16]
    report = SliceGPT(0.25, orientation="pca").fit(model, IDS).report_
    assert found.predictions[0].parameters == report.parameters_after
    assert found.predictions[0].macs == report.macs_after
    torch.testing.assert_close(torch.tensor(found.spectra[0]), torch.tensor(report.cuts[0].spectrum))
    assert found.predictions[1].least_kept < found.predictions[0].least_kept < 1


def test_the_report_says_what_it_cost():
    report = SliceGPT(0.25).fit(tiny("gpt2"), IDS).report_
    assert report.parameters_untied - report.parameters_before == 96 * D
    assert report.cache_bytes_per_token == 2 * 3 * D * 4
    assert 0 < report.start_bytes <= report.peak_bytes
    assert report.seconds > 0
    assert report.calibration_tokens == IDS.numel()
    assert any("cache does not shrink" in note for note in report.notes)
    assert any("tied" in note for note in report.notes)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"slicing": 1.0}, "slicing"),
        ({"slicing": 0.9}, "slicing"),
        ({"slicing": -0.5}, "slicing"),
        ({"round_to": 0}, "round_to"),
        ({"round_to": 64}, "round_to"),
        ({"dims": [16, 20, 24]}, "dims[1]"),
        ({"dims": [16]}, "dims"),
        ({"target": 5}, "target"),
        ({"target": 10**9}, "target"),
        ({"target": 20_000, "dims": [16, 16, 16]}, "target"),
        ({"schedule": "linear"}, "schedule"),
        ({"orientation": "up"}, "orientation"),
        ({"basis": "fourier"}, "basis"),
        ({"variance_discarded": 1.0}, "variance_discarded"),
        ({"seed": -1}, "seed"),
        ({"dtype": "int8"}, "dtype"),
        ({"device": "abacus"}, "device"),
        ({"activation_budget": -1}, "activation_budget"),
        ({"spill_dir": "/nowhere/at/all"}, "spill_dir"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_changes(settings, field):
    model = tiny("llama")
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(InputError) as caught:
        SliceGPT(**settings).fit(model, IDS)
    assert caught.value.field == field
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert type(model).__name__ == "LlamaForCausalLM"


def test_too_few_tokens_and_too_few_for_comfort():
    with pytest.raises(InputError, match="calibration: found 31 tokens"):
        SliceGPT().fit(tiny("llama"), token_ids(1, 31))
    with pytest.warns(UserWarning, match="320 or more"):
        SliceGPT().fit(tiny("llama"), token_ids(4, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SliceGPT().fit(tiny("llama"), token_ids(32, 10))


def test_activations_that_are_not_finite_are_named():
    model = tiny("llama")
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(InputError, match="activations at layer 1 feed-forward: found NaN"):
        SliceGPT().fit(model, IDS)


def test_an_output_that_exists_is_refused_first(tmp_path):
    tiny("llama").save_pretrained(tmp_path / "dense")
    with pytest.raises(InputError, match="new or an empty folder"):
        SliceGPT().fit(tmp_path / "dense", IDS, output_dir=tmp_path / "dense")
    with pytest.raises(InputError) as caught:
        SliceGPT().fit(tmp_path / "dense", IDS)
    assert caught.value.field == "output_dir"
    with pytest.raises(AttributeError, match="call fit first"):
        _ = SliceGPT().model_


@pytest.mark.parametrize("kinds", [("ffn", "kv_group"), ("ffn", "hidden"), ("qk_pair", "v_channel")])
def test_a_pruned_model_can_be_sliced(kinds):
    """Pruning first: layers are filled up to equal widths, which changes nothing; then the stream is cut."""
    pruned = prune(tiny("llama"), random_plan(tiny("llama"), kinds))
    whole = slice_model(pruned, IDS, slicing=0.0)
    torch.testing.assert_close(outputs(whole, IDS[:4]), outputs(pruned, IDS[:4]), rtol=1e-3, atol=1e-4)
    method = SliceGPT(0.25).fit(pruned, IDS)
    assert sum(p.numel() for p in method.model_.parameters()) == method.report_.parameters_after


def test_a_sliced_model_is_not_pruned_and_says_the_order():
    sliced = slice_model(tiny("llama"), IDS, slicing=0.25)
    for attempt in (lambda: units_of(sliced), lambda: SliceGPT(0.25).fit(sliced, IDS)):
        with pytest.raises(InputError, match="prune first, then slice"):
            attempt()


def test_a_dry_run_looks_at_the_target():
    dense = sum(p.numel() for p in tiny("llama").parameters())
    found = SliceGPT(target=int(0.8 * dense)).dry_run(tiny("llama"), IDS).predictions[0]
    assert found.parameters <= 0.8 * dense
    fitted = SliceGPT(target=int(0.8 * dense)).fit(tiny("llama"), IDS).report_
    assert found.parameters == fitted.parameters_after
    by_layer = SliceGPT(dims=[24, 16, 16]).dry_run(tiny("llama"), IDS).predictions[0]
    assert by_layer.parameters == SliceGPT(dims=[24, 16, 16]).fit(tiny("llama"), IDS).report_.parameters_after
    with pytest.raises(InputError, match="target"):
        SliceGPT(target=100).dry_run(tiny("llama"), IDS)
