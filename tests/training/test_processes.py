"""Two processes train as one does: DDP and FSDP on gloo, by ``accelerate launch``; and autocast in bfloat16."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import forked
from paperworks.errors import InputError
from paperworks.language import bundled_model_path, bundled_text
from paperworks.runs import Cancelled
from paperworks.training import TrainSettings, cross_entropy_loss, train
from training.test_buffers import classifier, examples
from training.test_loop import StopAfter, same, tiny, tokens

TOLERANCE = 1e-5
"""Gradients are summed in another order; AdamW's first steps turn rounding into differences of this size."""
SETTINGS = TrainSettings(
    steps=6,
    batch_size=2,
    accumulation=2,
    learning_rate=1e-3,
    schedule="cosine",
    checkpoint_every=2,
    eval_every=2,
    eps=1e-4,
    seed=3,
    device="cpu",
)
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from training.test_processes import in_one_process_of_two
in_one_process_of_two(Path(sys.argv[1]))
"""


def padded() -> dict[str, torch.Tensor]:
    """Examples whose targets are unevenly spread, so that a mean of the processes' means would be another loss."""
    ids = tokens(n=24)
    mask = torch.ones_like(ids)
    for row in range(0, len(ids), 3):
        mask[row, 3:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def held_out(model: torch.nn.Module) -> float:
    return float(model(input_ids=tokens(4, seed=9), labels=tokens(4, seed=9)).loss)


def statistics(folder: Path, rank: int) -> dict[str, dict[str, list[float]]]:
    """Parameters and buffers of a model with BatchNorm after a training that was stopped, and one that was not."""
    settings = replace(SETTINGS, steps=8, eval_every=0, checkpoint_every=0)
    whole, stopped, resumed = classifier(), classifier(), classifier(seed=4)
    train(whole, examples(), settings, loss=cross_entropy_loss())
    with pytest.raises(Cancelled):
        train(
            stopped,
            examples(),
            settings,
            loss=cross_entropy_loss(),
            checkpoint_dir=folder,
            progress=StopAfter(3) if rank == 0 else StopAfter(99),
        )
    train(resumed, examples(), settings, loss=cross_entropy_loss(), checkpoint_dir=folder)
    plain = {"whole": whole, "resumed": resumed}
    return {name: {k: v.flatten().tolist() for k, v in m.state_dict().items()} for name, m in plain.items()}


def of_papers(name: str) -> dict[str, Callable[..., Any]]:
    """The functions of that name in the files of papers that are to run in two processes, by file."""
    found = sorted((Path(__file__).parents[1] / "papers").glob("*/*_in_two_processes.py"))
    made = {path.stem: runpy.run_path(str(path)).get(name) for path in found}
    return {stem: function for stem, function in made.items() if function is not None}


def pruned(batch_size: int) -> dict[str, dict[str, object]]:
    """The pruning methods of papers that learn masks beside the model: their course, and what they keep, by file."""
    return {stem: prune(batch_size) for stem, prune in of_papers("prune").items()}


def trained(batch_size: int, folder: Path) -> dict[str, dict[str, list[float]]]:
    """The trainings of papers: losses by step, by file and by name; what they write is in ``folder``."""
    folder.mkdir(exist_ok=True)
    for stem, prepare in of_papers("prepare").items():
        if not (folder / stem).exists():
            (folder / stem).mkdir()
            prepare(folder / stem)
    return {stem: losses(batch_size, folder / stem) for stem, losses in of_papers("train_losses").items()}


def in_one_process_of_two(out: Path) -> None:
    """What each process does; each leaves ``found-RANK.json``, the main one the weights."""
    from torch.distributed.tensor import DTensor

    rank = int(os.environ["RANK"])
    os.environ["ACCELERATE_USE_FSDP"] = "false"
    (out / f"pruned-{rank}.json").write_text(json.dumps(pruned(2)), encoding="utf-8")
    found: dict[str, object] = {}
    for kind in ("ddp", "fsdp"):
        os.environ["ACCELERATE_USE_FSDP"] = str(kind == "fsdp").lower()
        model, seen = tiny(), []
        parameters = list(model.parameters())

        def note(done: int, loss: float, rate: float, model: LlamaForCausalLM = model, seen: list[bool] = seen) -> None:
            seen.append(isinstance(model.lm_head.weight, DTensor))

        result = train(model, padded(), SETTINGS, evaluate=held_out, checkpoint_dir=out / kind, on_step=note)
        assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
        stopped = tiny(0.2)
        whole = train(tiny(0.2), padded(), SETTINGS)
        with pytest.raises(Cancelled):  # only the main process is told to stop
            train(
                stopped,
                padded(),
                SETTINGS,
                checkpoint_dir=out / f"{kind}-stopped",
                progress=StopAfter(3) if rank == 0 else StopAfter(99),
            )
        resumed = train(tiny(0.2, seed=5), padded(), SETTINGS, checkpoint_dir=out / f"{kind}-stopped")
        if rank == 0:
            model.save_pretrained(out / f"{kind}-model")
        if kind == "fsdp":
            with pytest.raises(InputError, match="FSDP"):
                pruned(2)
        found[f"{kind} of papers"] = trained(2, out / f"{kind}-of-papers")
        again = train(model, padded(), replace(SETTINGS, steps=1))  # a model that was sharded can be sharded again
        found[f"{kind} statistics"] = statistics(out / f"{kind}-statistics", rank)
        found[kind] = {
            "sharded": seen,
            "losses": result.losses,
            "evals": result.evals,
            "whole": whole.losses,
            "resumed": resumed.losses,
            "again": again.losses,
        }
    sys.argv = ["tune.py", str(bundled_model_path()), str(out / "text.txt"), str(out / "tuned"), "2", "cpu"]
    runpy.run_path(str(out / "tune.py"), run_name="__main__")  # the guide's script, sharded
    (out / f"found-{rank}.json").write_text(json.dumps(found), encoding="utf-8")


def launch(*words: str) -> None:
    """``accelerate launch`` as a function to run.

    Its processes are forked before it starts threads: two new interpreters would import torch and transformers again.
    """
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    waiting = [forked.Waiting() for _ in range(2)]
    subprocess_handler.Popen = lambda args, env, **options: waiting.pop().begin(args, env, **options)
    sys.argv = ["accelerate launch", *words]
    runpy.run_module("accelerate.commands.launch", run_name="__main__")


@pytest.mark.over_budget("accelerate starts two interpreters, which import torch and transformers")
def test_two_processes_train_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text(encoding="utf-8")
    script = re.search(r"```python\n# tune.py\n(.*?)```", guide, re.DOTALL)
    assert script is not None
    (tmp_path / "tune.py").write_text(script[1], encoding="utf-8")
    (tmp_path / "text.txt").write_text(bundled_text("train")[:3000], encoding="utf-8")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    papers_alone = trained(4, tmp_path / "ddp-of-papers")  # and the inputs of both kinds
    shutil.copytree(tmp_path / "ddp-of-papers", tmp_path / "fsdp-of-papers")
    words = [
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
        str(tmp_path / "script.py"),
        str(tmp_path),
        str(Path(__file__).parents[1]),
    ]
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    done = forked.run(launch, *words, timeout=240)
    assert done.code == 0, done.errors[-4000:]
    found, second = (json.loads((tmp_path / f"found-{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1))

    alone_pruned = pruned(4)
    for rank in (0, 1):
        of = json.loads((tmp_path / f"pruned-{rank}.json").read_text(encoding="utf-8"))
        for name, alone_there in alone_pruned.items():
            assert of[name]["plan"] == alone_there["plan"]
            if rank == 0:
                assert of[name]["course"] == pytest.approx(alone_there["course"], abs=1e-4)

    # one process, the same examples in a step: the sampler orders them by their number in the step
    alone = tiny()
    result = train(alone, padded(), replace(SETTINGS, batch_size=4), evaluate=held_out)
    for kind in ("ddp", "fsdp"):
        of = found[f"{kind} statistics"]
        assert of["whole"] == of["resumed"] == second[f"{kind} statistics"]["resumed"]
        assert max(of["whole"]["1.running_mean"]) > 0.1  # they did change
        for stem, losses_by_name in papers_alone.items():
            for name, losses in losses_by_name.items():
                assert found[f"{kind} of papers"][stem][name] == pytest.approx(losses, abs=1e-4), (stem, name)
        of = found[kind]
        assert of["sharded"] == [kind == "fsdp"] * SETTINGS.steps
        assert of["losses"] == pytest.approx(result.losses, abs=TOLERANCE)
        assert [v for _, v in of["evals"]] == pytest.approx([v for _, v in result.evals], abs=TOLERANCE)
        model = AutoModelForCausalLM.from_pretrained(tmp_path / f"{kind}-model")
        for a, b in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=0)
        assert of["resumed"] == of["whole"]  # with dropout, whose masks differ between the processes
        assert {f.name for f in (tmp_path / kind).iterdir()} == {"training.pt"}
    tuned = AutoModelForCausalLM.from_pretrained(tmp_path / "tuned")
    dense = AutoModelForCausalLM.from_pretrained(bundled_model_path()).to(torch.float32)
    assert not torch.equal(tuned.model.layers[0].mlp.up_proj.weight, dense.model.layers[0].mlp.up_proj.weight)
    assert found["fsdp"]["again"] == pytest.approx(found["ddp"]["again"], abs=TOLERANCE)


def test_autocast_in_bfloat16_trains_float32_weights_and_resumes(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=30, precision="bf16", learning_rate=1e-2)
    model, plain = tiny(), tiny()
    data = tokens(n=4)
    losses = train(model, data, settings).losses
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())
    other = train(plain, data, replace(settings, precision="no")).losses
    assert losses != other  # it did compute in fewer bits
    assert losses == pytest.approx(other, rel=0.05)
    stopped = tiny()
    with pytest.raises(Cancelled):
        train(stopped, data, settings, checkpoint_dir=tmp_path, progress=StopAfter(13))
    again = tiny(seed=4)
    assert train(again, data, settings, checkpoint_dir=tmp_path).losses == losses
    assert same(again, model)
