"""The recipe from a file to a folder of results, and the peers and studies beside it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.fold_se import FoldSEClassifier, evaluation, peers, study, tasks
from paperworks.papers.fold_se.published import TABLES
from paperworks.papers.fold_se.recipe import Config, run

HEART = {
    "data": str(TABLES / "heart.csv"),
    "label": "label",
    "drop": ("id",),
    "categorical": ("sex", "chest_pain", "slope", "major_vessels", "thal"),
    "folds": 3,
}


def go(tmp_path, **options):
    execution = runs.Run(tmp_path / "run", seed=options.get("seed", 0))
    return run(Config(**options), execution), execution


def test_defaults_run_on_bundled_input(tmp_path):
    report, execution = go(tmp_path)
    assert "of 114 held-out rows of breast-cancer rightly" in report.headline
    assert report.metrics["accuracy"] > report.metrics["majority_accuracy"]
    assert {f.path for f in report.files} == {p.name for p in execution.files.iterdir()}
    (tmp_path / "saved").mkdir()
    report.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "report.html").read_text().count("image/svg") == len(report.figures) == 2


def test_the_files_agree_with_one_another_and_the_report(tmp_path):
    report, execution = go(tmp_path, **HEART, explain=3)
    model = FoldSEClassifier.from_json((execution.files / "rules.json").read_text())
    table = pd.read_csv(TABLES / "heart.csv", dtype=dict.fromkeys(HEART["categorical"], str))
    predictions = pd.read_csv(execution.files / "predictions.csv")
    held = table.iloc[predictions["row"]].drop(columns=["id", "label"])
    assert (model.predict(held) == predictions["predicted"]).all()
    assert (predictions["label"].to_numpy() == table["label"].to_numpy()[predictions["row"]]).all()
    accuracy = (predictions["predicted"] == predictions["label"]).mean()
    assert report.metrics["accuracy"] == pytest.approx(accuracy)
    assert report.metrics["rules"] == model.n_rules_
    assert (execution.files / "program.lp").read_text().endswith(model.to_asp())
    assert (execution.files / "explanations.txt").read_text().count("the row:") == 3
    space: dict = {}
    exec((execution.files / "rules.py").read_text(), space)
    assert [space["predict"](r) for r in held.to_dict("records")] == predictions["predicted"].tolist()
    rules = report.tables[0].rows
    assert sum(row[3] for row in rules) == len(predictions)
    assert sum(row[4] for row in rules) == round(accuracy * len(predictions))


def test_the_same_seed_gives_the_same_result(tmp_path):
    first, a = go(tmp_path / "1", **HEART, seed=3)
    second, b = go(tmp_path / "2", **HEART, seed=3)
    same = [k for k in first.metrics if k != "fit_seconds"]
    assert [first.metrics[k] for k in same] == [second.metrics[k] for k in same]
    assert (a.files / "rules.json").read_text() == (b.files / "rules.json").read_text()


def test_folds_of_an_interrupted_run_are_kept(tmp_path):
    report, execution = go(tmp_path, **HEART)
    kept = execution.state / "fold-1.json"
    found = json.loads(kept.read_text())
    found[0]["accuracy"] = 0.0
    kept.write_text(json.dumps(found))
    (execution.state / "fold-2.json").unlink()
    execution = runs.Run(tmp_path / "again", state=execution.state)
    again = run(Config(**HEART), execution)
    rest = report.metrics["cv_accuracy"] * 3
    assert again.metrics["cv_accuracy"] < rest / 3 - 0.1
    assert (execution.state / "fold-2.json").exists()


def test_several_classes_other_presets_and_new_rows(tmp_path):
    new = pd.read_csv(TABLES / "ecoli.csv").drop(columns="label").iloc[:7]
    new.to_csv(tmp_path / "new.csv", index=False)
    report, execution = go(
        tmp_path,
        data=str(TABLES / "ecoli.csv"),
        label="label",
        preset="fold-rm",
        folds=3,
        unmatched="none",
        jobs=2,
        predict=str(tmp_path / "new.csv"),
    )
    assert len(report.tables[2].rows) == 8
    assert "not stratified" in " ".join(report.notes)
    assert any(line.startswith("Left out: 'sn'") for line in report.lead)
    model = FoldSEClassifier.from_json((execution.files / "rules.json").read_text(), unmatched="none")
    found = pd.read_csv(execution.files / "new_predictions.csv", keep_default_na=False)["predicted"]
    assert found.tolist() == ["" if p is None else p for p in model.predict(new.drop(columns="sn"))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": None}, "label: found nothing; expected the name of the label's column in"),
        ({"label": "labell"}, "did you mean 'label'?"),
        (
            {"positive": "absnt"},
            "positive: found 'absnt'; expected one of 'absent', 'present' (did you mean 'absent'?)",
        ),
        ({"label": "chest_pain", "positive": "1"}, "every class gets rules of its own here"),
        ({"folds": 300}, "folds: found 300"),
        (
            {"predict": str(TABLES / "ecoli.csv")},
            f"predict: found {TABLES}/ecoli.csv without the column 'age'",
        ),
        ({"drop": ("agee",)}, "drop: found column 'agee'"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    with pytest.raises((InputError, ValueError)) as error:
        settings = {**HEART, **options}
        config = (
            Config.model_construct(**{**Config().model_dump(), **settings})
            if "folds" in options
            else Config(**settings)
        )
        run(config, runs.Run(tmp_path / "run"))
    assert message in str(error.value)


def test_rows_to_predict_are_read_before_the_learning(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "compare", lambda *_, **__: pytest.fail("the learning began"))
    with pytest.raises(InputError, match="without the column 'age'"):
        go(tmp_path, **HEART, predict=str(TABLES / "ecoli.csv"))


def test_shares_of_nothing_are_left_out(tmp_path):
    """A class that is never predicted has no precision: a dash, where a figure would be "nan"."""
    rows = [[i % 5, "b" if i == 3 else "a"] for i in range(60)]
    report, _ = go(tmp_path, **written(tmp_path, pd.DataFrame(rows, columns=["x", "y"])))
    cells = [cell for table in report.tables for row in table.rows for cell in row]
    assert not [cell for cell in cells if isinstance(cell, float) and np.isnan(cell)]
    assert [row[3] for row in report.tables[2].rows if row[2] == 0] == [None]


def test_options_are_checked():
    for options, message in [
        ({"ratio": 1.5}, "ratio: found 1.5; expected a number, at least 0, at most 1"),
        ({"tail": 1}, "tail"),
        ({"folds": 1}, "folds: found 1; expected 0 for none, or at least 2"),
        ({"preset": "fold-rpp", "tail": 0.1}, "since only FOLD-SE drops rules"),
    ]:
        with pytest.raises(InputError, match=message):
            runs.build_config(Config, options)


def written(tmp_path, frame):
    frame.to_csv(tmp_path / "t.csv", index=False)
    return {"data": str(tmp_path / "t.csv"), "label": "y", "folds": 0}


def test_rules_that_add_nothing_say_so_first(tmp_path):
    """Twelve classes that no column bears on, a minority of 1 %: the headline says it, the lead why and what to try."""
    rng = np.random.default_rng(0)
    many = pd.DataFrame({"a": rng.normal(size=600), "b": rng.integers(0, 5, 600), "y": rng.integers(0, 12, 600)})
    many["y"] = "c" + many["y"].astype(str)
    rare = pd.DataFrame({"a": rng.normal(size=1000), "y": np.where(np.arange(1000) % 100 == 0, "rare", "common")})
    for name, frame in (("many", many), ("rare", rare)):
        (tmp_path / name).mkdir()
        report, _ = go(tmp_path / name, **written(tmp_path / name, frame))
        assert report.metrics["accuracy"] <= report.metrics["majority_accuracy"]
        assert report.headline.startswith(("The rules are not right", "No rule was learned"))
        words = " ".join(report.lead)
        assert "Learning stopped" in words
        assert "To try: " in words
    assert "predicted 'common'" in words
    assert "--positive 'rare'" in words
    good, _ = go(tmp_path, folds=0)
    assert not good.headline.startswith(("The rules are not", "No rule"))
    assert good.lead == []


def test_row_numbers_are_no_rules(tmp_path):
    """``id <= 250`` is not a rule of a table that is sorted by its label; it is kept on demand."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"id": np.arange(1, 501), "a": rng.normal(size=500), "y": np.where(np.arange(500) < 250, "u", "v")}
    )
    report, _ = go(tmp_path / "1", **written(tmp_path, frame))
    assert report.metrics["accuracy"] < 0.75
    assert any("Left out: 'id'" in line and "--keep-row-numbers" in line for line in report.lead)
    assert "id" not in str(report.tables[0].rows)
    kept, _ = go(tmp_path / "2", **written(tmp_path, frame), keep_row_numbers=True)
    assert kept.metrics["accuracy"] == 1.0
    assert "id <= 250" in str(kept.tables[0].rows)


def test_defaults_fit_a_small_table(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{i % 3},{'uv'[i % 3 == 0]}\n" for i in range(9)))
    report, _ = go(tmp_path, data=str(tmp_path / "t.csv"), target="y")
    assert any(note.startswith("3 folds of cross-validation") for note in report.notes)
    assert any(line.startswith("Only 2 rows are held out") for line in report.lead)
    with pytest.raises(InputError, match="folds: found 100"):
        go(tmp_path / "n", data=str(tmp_path / "t.csv"), label="y", folds=100)


def test_cross_validation_prints_no_warnings(tmp_path, recwarn):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.integers(0, 9, 60).astype(str), "y": rng.integers(0, 2, 60)})
    go(tmp_path, **(written(tmp_path, frame) | {"folds": 30}))
    assert not recwarn.list


def test_one_class_only_is_said(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n" + "1,u\n" * 20)
    with pytest.raises(InputError, match="one class only"):
        go(tmp_path, data=str(tmp_path / "t.csv"), label="y")


def test_measures_count_rows_without_prediction_as_wrong():
    found = evaluation.measure(
        "x", np.array(["a", None, "b", "a"], dtype=object), np.array(["a", "a", "b", "b"]), 1, 2, 0.0
    )
    assert found.accuracy == 0.5
    assert found.f1 == pytest.approx((2 / 4 + 2 / 3) / 2)
    assert found.balanced_accuracy == 0.5


def heart_task() -> tasks.Task:
    task = tasks.load_task("heart")
    assert task is not None
    return task


def test_the_preset_learns_what_foldrpp_learns():
    pytest.importorskip("foldrpp")
    for name in ("heart", "breast-cancer"):
        task = tasks.load_task(name)
        ours, theirs = peers.fit_ours(task, "fold-rpp", repeats=1), peers.fit_foldrpp(task)
        assert (ours.train_predictions == theirs.train_predictions).all()
        assert ours.rules == theirs.rules


def test_a_peer_and_ours_are_timed_in_turns_and_compared_round_by_round(monkeypatch):
    order, times = [], {"ours": iter([0.1, 0.2, 0.4]), "peer": iter([1.0, 4.0, 2.0])}

    def fit(name):
        order.append(name)
        return peers.Fitted(name, next(times[name]), 0.0, np.zeros(1), np.zeros(1))

    monkeypatch.setattr(peers, "fit_ours", lambda task, kind, repeats: fit("ours"))
    timed = peers.in_turns(heart_task(), lambda task: fit("peer"), 3)
    assert order == ["ours", "peer"] * 3
    assert timed.ratios == pytest.approx([10, 20, 5])
    assert (timed.our_seconds, timed.peer_seconds) == (0.2, 2.0)


def test_printed_programs_are_counted_as_ours_are():
    for name in ("heart", "breast-cancer"):
        task = tasks.load_task(name)
        model = FoldSEClassifier(numeric=list(task.numeric), positive_label=task.positive).fit(
            task.train, task.train_labels
        )
        assert peers.count_program(model.to_asp()) == (model.n_rules_, model.n_literals_)


def test_other_peers_fit_and_predict_labels():
    pytest.importorskip("wittgenstein")
    pytest.importorskip("xgboost")
    task = heart_task()
    for fitted in (peers.fit_ripper(task), peers.fit_xgboost(task), peers.fit_mlp(task)):
        assert fitted.accuracy(task) > 0.5
        assert set(fitted.predictions) <= {"absent", "present"}
        assert fitted.seconds > fitted.encoding_seconds


@pytest.mark.parametrize("name", ["worked-example", "prefix-sums", "published", "tail", "semantics", "multiclass"])
def test_studies_hold_without_further_data(tmp_path, monkeypatch, name):
    monkeypatch.delenv("PAPERWORKS_DATA", raising=False)
    monkeypatch.setattr(tasks, "find_table", lambda name: None)
    (chosen,) = [s for s in runs.studies_of(study) if s.name == name]
    findings = chosen(runs.Run(tmp_path), True)
    assert {f.claim for f in findings} == set(chosen.claims)
    assert all(f.holds for f in findings if f.kind == "exact")


def test_larger_tables_fall_back_to_bundled_ones(monkeypatch):
    monkeypatch.setattr(tasks, "find_table", lambda name: None)
    found, note = tasks.tasks(("adult",), ("breast-cancer",), True)
    assert [t.name for t in found] == ["breast-cancer"]
    assert "PAPERWORKS_DATA" in note


def test_a_class_that_only_held_out_rows_have_is_in_the_confusion_matrix() -> None:
    labels, predicted = np.array(["a", "b", "rare"]), np.array(["a", None, "a"], dtype=object)
    axes = evaluation.confusion_figure(labels, predicted, ["a", "b"]).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "rare"]
    assert [text.get_text() for text in axes.texts] == ["1", "0", "0", "0", "0", "0", "0", "1", "1", "0", "0", "0"]


def test_a_quantity_is_no_label(tmp_path) -> None:
    rows = "".join(f"{i % 7},{i * 1.5}\n" for i in range(60))
    (tmp_path / "sales.csv").write_text(f"a,sales\n{rows}")
    with pytest.raises(InputError, match="label: found 60 different numbers in 60 rows"):
        go(tmp_path, data=str(tmp_path / "sales.csv"), label="sales")
