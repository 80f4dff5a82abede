"""The estimators as scikit-learn, pandas and polars use them."""

from __future__ import annotations

import json
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from paperworks.errors import InputError
from paperworks.papers.fold_se import FoldRMClassifier, FoldRPPClassifier, FoldSEClassifier, RuleSet
from paperworks.papers.fold_se.published import read_published


@parametrize_with_checks([FoldSEClassifier(), FoldRPPClassifier(), FoldRMClassifier()])
def test_scikit_learn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


@pytest.fixture(scope="module")
def heart():
    table = read_published("heart")
    return table.features, table.label.to_numpy(dtype=object), list(table.numeric)


@pytest.fixture(scope="module")
def model(heart):
    X, y, numeric = heart
    return FoldSEClassifier(numeric=numeric).fit(X, y)


def test_pipeline_grid_search_clone_and_pickle(heart, model):
    X, y, numeric = heart
    assert clone(model).fit(X, y).rules_ == model.rules_
    assert (pickle.loads(pickle.dumps(model)).predict(X) == model.predict(X)).all()
    pipe = make_pipeline(FunctionTransformer(), FoldSEClassifier(numeric=numeric))
    search = GridSearchCV(pipe, {"foldseclassifier__tail": [0.0, 0.02], "foldseclassifier__ratio": [0.3, 0.5]}, cv=3)
    search.fit(X, y)
    assert search.best_score_ > 0.7
    assert cross_val_score(FoldSEClassifier(), *load_wine(return_X_y=True), cv=3).mean() > 0.85


def test_frames_of_all_kinds_and_arrays_give_the_same_rules(heart, model):
    X, y, numeric = heart
    assert FoldSEClassifier(numeric=numeric).fit(pl.from_pandas(X), pl.Series(list(y))).rules_ == model.rules_
    assert FoldSEClassifier(numeric=numeric).fit(X.astype("category"), y).rules_ == model.rules_
    array = X.to_numpy(dtype=object)
    from_array = FoldSEClassifier(numeric=numeric, feature_names=list(X.columns)).fit(array, y)
    assert from_array.rules_ == model.rules_
    assert (from_array.predict(array) == model.predict(X)).all()
    positions = [X.columns.get_loc(c) for c in numeric]
    assert str(FoldSEClassifier(numeric=positions).fit(array.tolist(), y).rules_[0]).startswith("x12 = '3'")
    assert list(model.feature_names_in_) == list(X.columns)


def test_missing_values_are_read_and_predicted(heart):
    X, y, numeric = heart
    holes = X.astype(object).mask(np.random.default_rng(0).random(X.shape) < 0.2, None)
    model = FoldSEClassifier(numeric=numeric).fit(holes, y)
    assert model.score(holes, y) > 0.75
    assert (model.predict(holes.fillna("")) == model.predict(holes)).all()


def test_predictions_are_those_of_the_first_covering_rule():
    X, y = load_wine(return_X_y=True, as_frame=True)
    y = y.map({0: "a", 1: "b", 2: "c"})
    model = FoldSEClassifier().fit(X, y)
    path, first = model.decision_path(X), model.covering_rule(X)
    assert path.shape == (len(X), len(model.rules_))
    for row in range(len(X)):
        covering = np.flatnonzero(path[row])
        assert first[row] == (covering[0] if len(covering) else -1)
        expected = model.rules_[covering[0]].label if len(covering) else model.program_.default
        assert model.predict(X.iloc[[row]])[0] == expected


def test_counts_and_probabilities_are_training_shares(heart, model):
    X, y, _ = heart
    first = model.covering_rule(X)
    shares = model.predict_proba(X)
    for number in range(-1, len(model.rules_)):
        rows = first == number
        expected = [np.mean(y[rows] == c) for c in model.classes_]
        np.testing.assert_allclose(shares[rows], np.tile(expected, (rows.sum(), 1)))
    report = model.report(X, y)
    assert report["decided"].sum() == len(X)
    assert report["correct"].sum() / len(X) == pytest.approx(model.score(X, y))


def test_unmatched_rows_have_no_prediction_if_asked():
    X, y = load_wine(return_X_y=True, as_frame=True)
    model = FoldSEClassifier(tail=0.3, unmatched="none").fit(X, y)
    predicted, first = model.predict(X), model.covering_rule(X)
    assert (first < 0).any()
    assert all((p is None) == (f < 0) for p, f in zip(predicted, first, strict=True))
    assert model.score(X, y) == np.mean([p == t for p, t in zip(predicted, y, strict=True)])
    majority = FoldSEClassifier(tail=0.3).fit(X, y)
    left = y[first < 0]
    assert majority.program_.default == left.value_counts().idxmax()


def test_positive_label_turns_the_rules_around(heart):
    X, y, numeric = heart
    assert {r.label for r in FoldSEClassifier(numeric=numeric).fit(X, y).rules_} == {"absent"}
    turned = FoldSEClassifier(numeric=numeric, positive_label="present").fit(X, y)
    assert {r.label for r in turned.rules_} == {"present"}
    assert turned.program_.default == "absent"


def test_presets_are_settings_of_the_one_classifier(heart):
    X, y, numeric = heart
    preset = FoldRPPClassifier(numeric=numeric).fit(X, y)
    spelled = FoldSEClassifier(tail=0.0, numeric=numeric, heuristic="ig", literals="foldrpp").fit(X, y)
    assert preset.rules_ == spelled.rules_
    ordered = FoldRMClassifier(numeric=numeric).fit(X, y)
    assert {r.label for r in ordered.rules_} == {"absent", "present"}


def test_json_keeps_the_model_and_may_be_edited(heart, model):
    X, _y, _ = heart
    again = FoldSEClassifier.from_json(model.to_json())
    assert again.program_ == model.program_
    assert (again.predict(X) == model.predict(X)).all()
    assert again.n_literals_ == model.n_literals_
    data = json.loads(model.to_json())
    data["rules"] = [{"then": "present", "if": [["age", ">", 60]], "unless": [{"if": [["sex", "=", "0"]]}]}]
    edited = FoldSEClassifier.from_json(json.dumps(data))
    expected = np.where((X["age"] > 60) & (X["sex"] != "0"), "present", model.program_.default)
    assert (edited.predict(X) == expected).all()
    with pytest.raises(InputError, match="counts: found none for rule 1"):
        edited.predict_proba(X)
    ints = FoldSEClassifier().fit(*load_breast_cancer(return_X_y=True))
    assert FoldSEClassifier.from_json(ints.to_json()).predict(load_breast_cancer().data).dtype == np.int64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="x"), "rules.format: found 'x'"),
        (lambda d: d.pop("classes"), "rules.classes: found nothing"),
        (lambda d: d["rules"][0].update({"when": 1}), "rules[0].when: found a field that rules do not have"),
        (lambda d: d["rules"][0].update({"if": [["age", "<", 3]]}), "rules[0].if[0], operator on 'age': found '<'"),
        (lambda d: d["rules"][0].update({"if": [["agee", "<=", 3]]}), "did you mean 'age'?"),
        (lambda d: d["rules"][0].update({"if": ["age"]}), "rules[0].if[0]: found 'age'"),
        (lambda d: d["rules"][0].update({"then": "maybe"}), "found the label 'maybe'"),
    ],
)
def test_json_errors_name_the_field(model, change, message):
    data = json.loads(model.to_json())
    change(data)
    with pytest.raises(InputError) as error:
        RuleSet.from_json(json.dumps(data))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 1.5}, r"ratio: found 1.5; expected a number in \[0, 1\]"),
        ({"tail": 1.0}, r"tail: found 1.0; expected a number in \[0, 1\)"),
        ({"heuristic": "gini"}, "heuristic: found 'gini'; expected one of 'mgi', 'ig'"),
        ({"positive_label": "absnt"}, "positive_label: found 'absnt'; expected one of the labels in y: 'absent'"),
        ({"numeric": ["agee"]}, "did you mean 'age'"),
        ({"categorical": ["age"], "numeric": ["age"]}, "in categorical too"),
        ({"numeric": "age"}, "expected 'auto' or a list of columns"),
    ],
)
def test_wrong_parameters_are_named(heart, options, message):
    with pytest.raises(InputError, match=message):
        FoldSEClassifier(**options).fit(heart[0], heart[1])


def test_wrong_data_is_named(heart, model):
    X, y, _ = heart
    with pytest.raises(InputError, match="one class only"):
        FoldSEClassifier().fit(X, np.full(len(X), "a"))
    with pytest.raises(InputError, match="no label in row 3"):
        FoldSEClassifier().fit(X, np.where(np.arange(len(X)) == 3, None, y))
    with pytest.raises(InputError, match="two columns named 'sex'"):
        FoldSEClassifier().fit(X.rename(columns={"age": "sex"}), y)
    with pytest.raises(InputError, match="0 rows"):
        FoldSEClassifier().fit(X.iloc[:0], y[:0])
    with pytest.raises(ValueError, match="Feature names seen at fit time, yet now missing"):
        model.predict(X.drop(columns="thal"))
    with pytest.raises(NotFittedError):
        FoldSEClassifier().predict(X)
    wine = load_wine()
    with pytest.raises(InputError, match="positive_label: found 0 for an ordered list over 3 classes"):
        FoldSEClassifier(positive_label=0).fit(wine.data, wine.target)


def test_absent_columns_are_missing_values_only_if_allowed(heart, model):
    X, _, _numeric = heart
    lenient = FoldSEClassifier.from_json(model.to_json(), allow_missing_columns=True)
    assert (lenient.predict(X.drop(columns="thal")) == lenient.predict(X.assign(thal=""))).all()
    assert (lenient.predict(X[X.columns[::-1]]) == model.predict(X)).all()


def test_an_empty_rule_set_warns_and_predicts_the_other_class():
    X, y = pd.DataFrame({"a": [1.0] * 10}), np.array(["p"] * 3 + ["n"] * 7)
    with pytest.warns(UserWarning, match="no rule was learned"):
        model = FoldSEClassifier(positive_label="p").fit(X, y)
    assert model.rules_ == ()
    assert set(model.predict(X)) == {"n"}
    assert model.to_asp().strip() == ""


def test_weights_are_repeated_rows(heart):
    X, y, numeric = heart
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    weighted = FoldSEClassifier(numeric=numeric).fit(X, y, sample_weight=weights)
    rows = np.repeat(np.arange(len(X)), weights)
    repeated = FoldSEClassifier(numeric=numeric).fit(X.iloc[rows], y[rows])
    assert weighted.rules_ == repeated.rules_
    halves = FoldSEClassifier(numeric=numeric, tail=0).fit(X, y, sample_weight=weights / 2)
    assert halves.rules_[0].body == FoldSEClassifier(numeric=numeric, tail=0).fit(X.iloc[rows], y[rows]).rules_[0].body


def test_explanations_prove_the_prediction(heart, model):
    X, _y, _ = heart
    for number in range(0, 60, 7):
        row = X.iloc[number]
        explanation = model.explain(row.to_dict())
        first = model.covering_rule(X.iloc[[number]])[0]
        assert explanation.label == model.predict(X.iloc[[number]])[0]
        assert (explanation.deciding is None) == (first < 0)
        assert len(explanation.tried) == (first if first >= 0 else len(model.rules_))
        for proof in [*explanation.tried, *([explanation.deciding] if explanation.deciding else [])]:
            for part in proof.walk():
                assert part.covers == (
                    all(x.holds for x in part.literals) and not any(e.covers for e in part.exceptions)
                )
                assert part.covers == bool(part.rule.covers(model.program_.cells(X.iloc[[number]]))[0])
        assert all(row[name] == value for name, value in explanation.reduced_row.items())
    same = [model.explain(r) for r in (row, X.iloc[[number]], row.to_numpy(dtype=object), row.tolist())]
    assert all(e == same[0] for e in same)
    with pytest.raises(InputError, match="2 rows"):
        model.explain(X.iloc[:2])


def test_the_text_of_a_proof():
    data = {
        "format": "paperworks.fold-se/1",
        "classes": ["no", "yes"],
        "positive": "yes",
        "default": {"label": "no"},
        "attributes": ["a", "n"],
        "numeric": ["n"],
        "rules": [{"then": "yes", "if": [["a", "=", "x"]], "unless": [{"if": [["n", "not<=", 2], ["a", "!=", "y"]]}]}],
    }
    model = FoldSEClassifier.from_json(json.dumps(data))
    assert str(model.explain({"a": "x", "n": None})).splitlines() == [
        "no: no rule applies",
        "  rule1 does not apply",
        "      ab1 applies",
        "          [T] the value of n is missing, which should not be less than or equal to 2: holds",
        "          [T] the value of a is 'x', which should not equal 'y': holds",
        "  the row: a = 'x', n = missing",
    ]
    assert str(model.explain({"a": "x", "n": 1.5})).splitlines()[0] == "yes: rule1 applies"
