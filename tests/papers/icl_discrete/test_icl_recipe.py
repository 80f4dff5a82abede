"""The recipe from options to files, and the studies in their short form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.icl_discrete import BooleanTask, load_in_context_model, study
from paperworks.papers.icl_discrete.binary_tables import read_binary_table, table_prompts
from paperworks.papers.icl_discrete.config import Config, TaskName
from paperworks.papers.icl_discrete.learners import Logistic
from paperworks.papers.icl_discrete.recipe import run
from paperworks.papers.icl_discrete.tasks import TASKS


def go(tmp_path, **options):
    execution = runs.Run(tmp_path / "run", seed=options.get("seed", 0))
    return run(runs.build_config(Config, options), execution), execution


def table(tmp_path, rows=120, name="t.csv", **more):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(2, size=(rows, 4)), columns=list("abcd"))
    frame["colour"] = rng.choice(["red", "green", "blue"], rows)
    frame["size"] = rng.normal(size=rows).round(3)
    frame["yes"] = np.where((frame["a"] == 1) & (frame["b"] == 0), "yes", "no")
    frame = frame.assign(**more)
    frame.to_csv(tmp_path / name, index=False)
    return str(tmp_path / name)


def test_defaults(tmp_path):
    report, execution = go(tmp_path, prompts=40)
    assert report.headline.startswith("Conjunctions, 8 bits: after 25 to 29 examples the bundled model is right in ")
    assert "right after a teaching sequence" in report.headline
    assert report.metrics["accuracy_after_teaching"] > 0.97
    assert len(report.figures) == 3
    curves = pd.read_csv(execution.files / "curves.csv")
    one = curves[(curves["prompts"] == "conjunctions") & (curves["predictor"] == "bundled model")]
    assert one["accuracy"].mean() == pytest.approx(report.metrics["accuracy"])
    assert one["accuracy"].tail(5).mean() == pytest.approx(report.metrics["accuracy_last_5"])
    assert {f.path for f in report.files} == {p.name for p in execution.files.iterdir()}
    (tmp_path / "saved").mkdir()
    report.save(tmp_path / "saved")


def test_every_class_is_offered():
    assert set(TaskName.__args__) == set(TASKS)


def test_training_a_model_of_another_class(tmp_path):
    _, execution = go(
        tmp_path,
        task="nearest_neighbours",
        dims=5,
        points=14,
        steps=3,
        prompts=30,
        architecture="lstm",
        width=16,
        layers=1,
        batch=4,
    )
    model = load_in_context_model(execution.files / "model")
    assert model.config.n_dims == 5
    assert model.config.task["classes"][0]["name"] == "nearest_neighbours"
    curves = pd.read_csv(execution.files / "curves.csv")
    assert curves[curves["predictor"] == "1-NN"]["accuracy"].tolist() == [1.0] * 4
    again, _ = go(tmp_path / "2", task="majority", dims=5, points=14, checkpoint=execution.files / "model", prompts=30)
    assert "given model" in again.headline


def test_a_table_becomes_contexts(tmp_path):
    path = table(tmp_path)
    report, _ = go(tmp_path, input=path, target="yes", points=20, prompts=40)
    bits = dict(report.tables[0].rows)
    assert list(bits.values())[:7] == [
        "a > 0",
        "b > 0",
        "c > 0",
        "d > 0",
        "colour = blue",
        "colour = green",
        "colour = red",
    ]
    assert report.tables[0].rows[7][1].startswith("size > ")
    assert any("'yes'" in note for note in report.lead)
    read = read_binary_table(path, "yes")
    assert (read.labels == np.where((read.bits[:, 0] == 1) & (read.bits[:, 1] == -1), 1, -1)).all()
    assert 40 < (read.bits[:, 7] == 1).sum() < 80
    prompts, names = table_prompts(read, 4, 10, 20, np.random.default_rng(0))
    assert {"a > 0", "b > 0"} <= set(names)
    assert prompts.xs.shape == (10, 20, 4)
    wide, names = table_prompts(read, 10, 10, 20, np.random.default_rng(0))
    assert names[-2:] == ["random bit 0", "random bit 1"]
    assert wide.xs.shape == (10, 20, 10)
    pairs = {(tuple(x), y) for x, y in zip(read.bits.tolist(), read.labels.tolist(), strict=True)}
    assert {(tuple(x), y) for x, y in zip(wide.xs[0][:, :8].tolist(), wide.ys[0].tolist(), strict=True)} <= pairs


def test_logistic_regression_agrees_with_scikit_learn():
    prompts = BooleanTask("majority", 6).sample(5, 25, 0)
    scores = Logistic().scores(prompts.xs, prompts.ys)
    checked = 0
    for b in range(5):
        for j in (8, 15, 24):
            if len(set(prompts.ys[b, :j])) == 2:
                peer = LogisticRegression(tol=1e-8, max_iter=1000).fit(prompts.xs[b, :j], prompts.ys[b, :j])
                expected = float(peer.decision_function(prompts.xs[b, j : j + 1])[0])
                assert scores[b, j] == pytest.approx(expected, abs=2e-3)
                checked += 1
    assert checked > 8


@pytest.mark.parametrize("method", ["logits", "text"])
def test_the_bundled_language_model_is_asked(tmp_path, method):
    report, execution = go(
        tmp_path, model="bundled", prompts=4, every=2, method=method, dims=3, input=table(tmp_path), target="yes"
    )
    answers = pd.read_csv(execution.files / "answers.csv")
    own = report.metrics["accuracy"]
    assert own == pytest.approx((answers["answer"] == answers["label"]).mean())
    assert report.metrics["tenable"] == pytest.approx(answers["answer"].notna().mean())
    assert any("context of 256 tokens" in note for note in report.lead)
    assert (execution.files / "prompt.txt").read_text().endswith("\nLabel:")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "conjuction"}, "task: found 'conjuction'"),
        ({"dims": 9}, "dims: found 9; expected 8, as the checkpoint reads"),
        ({"points": 101}, "points: found 101; expected at most 100"),
        ({"target": "y"}, r"target: found 'y'; expected a table \(input\)"),
        ({"steps": 5, "checkpoint": "x"}, "steps: found 5; expected 0 with a checkpoint"),
        ({"endpoint": "http://x"}, "endpoint_model: found nothing"),
        ({"model": "bundled", "endpoint": "http://x", "endpoint_model": "y"}, "endpoint: .*one of the two"),
        ({"instruction": "steps"}, "instruction: found steps"),
        ({"heads": 5}, "heads: found 5; expected a divisor"),
        ({"every": 0}, "every: found 0"),
        ({"model": "bundled", "points": 40}, "n_points: found a prompt of .* tokens"),
        ({"model": "/nowhere"}, "model: found /nowhere"),
        ({"checkpoint": "/nowhere"}, "checkpoint: found /nowhere"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        go(tmp_path, prompts=3, **options)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {}, "target: found nothing; expected the label's column, one of a, b, c, d, colour, size, yes"),
        ({}, {"target": "no"}, "found 'no'"),
        ({}, {"target": "colour"}, "target 'colour': found 3 values, such as .* in row 0"),
        ({"yes": "no"}, {"target": "yes"}, "target 'yes': found 1 values"),
        ({"size": [None] + [1.5, 2.5] * 59 + [1.0]}, {"target": "yes"}, "column 'size', row 0: found a missing number"),
        ({}, {"target": "yes", "points": 90}, "points: found 90; expected at most 60"),
    ],
)
def test_bad_tables_are_named(tmp_path, change, options, message):
    more = {"more": np.arange(120) % 2} if "points" in options else {}
    path = table(tmp_path, **change, **more)
    with pytest.raises(InputError, match=message):
        go(tmp_path, input=path, prompts=3, **options)


@pytest.mark.parametrize("name", ["teaching-sequences", "optimal-learners", "robustness", "teaching"])
def test_studies(tmp_path, name):
    (chosen,) = [s for s in runs.studies_of(study) if s.name == name]
    findings = chosen(runs.Run(tmp_path), True)
    assert {f.claim for f in findings} == set(chosen.claims)
    assert all(f.holds for f in findings if f.kind == "exact")
