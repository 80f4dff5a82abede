"""Exports: what clingo, SQLite and Python make of them must be what the model predicts."""

from __future__ import annotations

import sqlite3

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_wine

from paperworks.errors import InputError
from paperworks.papers.fold_se import (
    FoldRPPClassifier,
    FoldSEClassifier,
    Literal,
    Rule,
    RuleSet,
    clingo_labels,
    templates,
)
from paperworks.papers.fold_se.programs import predicate_names, prolog_atom, prolog_number, to_asp, to_python, to_sql
from paperworks.papers.fold_se.published import read_published


def heart():
    table = read_published("heart")
    return table.features, table.label.to_numpy(dtype=object), {"numeric": list(table.numeric)}


def ecoli():
    table = read_published("ecoli")
    return table.features, table.label.to_numpy(dtype=object), {"numeric": list(table.numeric)}


def wine():
    X, y = load_wine(return_X_y=True, as_frame=True)
    return X, y.to_numpy(), {}


def digits():
    X, y = load_digits(return_X_y=True, as_frame=True)
    return X[:500], y.to_numpy()[:500], {}


def holes():
    X, y, options = heart()
    return X.astype(object).mask(np.random.default_rng(1).random(X.shape) < 0.3, None), y, options


CASES = [heart, ecoli, wine, digits, holes]


@pytest.mark.parametrize("kind", [FoldSEClassifier, FoldRPPClassifier])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_clingo_derives_what_the_model_predicts(case, kind):
    X, y, options = case()
    model = kind(**options).fit(X, y)
    rows = X.iloc[np.random.default_rng(0).integers(0, len(X), 200)]
    cells = model.program_.cells(rows)
    first, path = model.covering_rule(rows), model.decision_path(rows)
    exclusive = [set() if f < 0 else {str(model.rules_[f].label)} for f in first]
    assert clingo_labels(model.program_, cells) == exclusive
    # Under stable models the textual order means nothing: every covering rule derives its label.
    simple = [{str(model.rules_[k].label) for k in np.flatnonzero(row)} for row in path]
    assert clingo_labels(model.program_, cells, order="simple") == simple


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_sqlite_selects_the_rows_of_each_label(case):
    X, y, options = case()
    model = FoldSEClassifier(**options).fit(X, y)
    predicted = model.predict(X)
    table = X.replace("", None).reset_index(drop=True).rename_axis("row number").reset_index()
    with sqlite3.connect(":memory:") as connection:
        table.to_sql("t", connection, index=False)
        for label in model.classes_.tolist():
            found = connection.execute(f'SELECT "row number" FROM t WHERE {model.to_sql(label)}')
            assert {row for (row,) in found} == set(np.flatnonzero(predicted == label)), label


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_the_python_function_predicts_the_same(case):
    X, y, options = case()
    model = FoldSEClassifier(**options).fit(X, y)
    space: dict = {}
    exec(model.to_python("classify"), space)
    assert [space["classify"](row) for row in X.to_dict("records")] == model.predict(X).tolist()


CELL = st.sampled_from([-1.0, 0.0, 2.5, 1e-5, "", "a", "b c", "it's", 'say "x"', "back\\slash"])
TEXTS = st.sampled_from(["", "a", "b c", "it's", 'say "x"', "back\\slash"])
NUMBERS = st.sampled_from([-1.0, 0.0, 1e-5, 2.5])
NAMES = ["A b", "A_b", "Ünit (%)"]
LITERAL = st.one_of(
    st.builds(Literal, st.sampled_from(NAMES), st.sampled_from(["=", "!="]), TEXTS),
    st.builds(Literal, st.sampled_from(NAMES), st.sampled_from(["<=", "not<=", ">", "not>"]), NUMBERS),
)
BODY = st.lists(LITERAL, min_size=1, max_size=3).map(tuple)
EXCEPTION = st.builds(Rule, BODY, st.lists(st.builds(Rule, BODY), max_size=2).map(tuple))


@settings(max_examples=60, deadline=None)
@given(
    bodies=st.lists(st.tuples(BODY, st.lists(EXCEPTION, max_size=2), st.sampled_from(["p", "q's", "R"])), max_size=4),
    rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8),
)
def test_all_literals_quotes_and_mixed_columns_survive_clingo_and_python(bodies, rows):
    rules = tuple(Rule(body, tuple(exceptions), label) for body, exceptions, label in bodies)
    model = RuleSet(rules, ("R", "p", "q's"), None, "p", None, tuple(NAMES), tuple(NAMES))
    frame = pd.DataFrame({n: pd.Series([row[k] for row in rows], dtype=object) for k, n in enumerate(NAMES)})
    cells = model.cells(frame)
    first = model.first_cover(cells)
    assert clingo_labels(model, cells) == [set() if f < 0 else {rules[f].label} for f in first]
    space: dict = {}
    exec(to_python(model), space)
    assert [space["predict"](row) for row in frame.to_dict("records")] == model.predict(frame).tolist()


def test_scasp_text_and_facts():
    rules = (
        Rule(
            (Literal("thal type", "=", "it's"), Literal("age", "<=", 1e-5), Literal("age", "not>", 7.25)),
            (Rule((Literal("age", "not<=", 3.0), Literal("sex", "!=", ""))),),
            "yes",
        ),
    )
    model = RuleSet(rules, ("no", "yes"), "yes", "no", None, ("age", "sex", "thal type"), ("age",))
    assert to_asp(model).splitlines() == [
        "% thal_type: 'thal type'",
        "label(X,'yes') :- thal_type(X,'it\\'s'), age(X,N1), N1=<1.0e-05, not(N1>7.25), not ab1(X,'True').",
        "ab1(X,'True') :- age(X,N1), not(N1=<3.0), not sex(X,'null').",
    ]
    cells = model.cells(pd.DataFrame({"age": [0.5, None], "sex": ["f", ""], "thal type": ["it's", "b"]}))
    from paperworks.papers.fold_se.programs import facts

    assert facts(model, cells).splitlines() == [
        "thal_type(0,'it\\'s').",
        "age(0,0.5).",
        "sex(0,'f').",
        "thal_type(1,'b').",
        "age(1,'null').",
        "sex(1,'null').",
    ]
    assert "#pred thal_type(X,Y) :: 'the thal type of @(X) is @(Y)'." in templates(model)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_written_so_that_they_read_back(value):
    text = prolog_number(value)
    assert float(text) == value
    assert "." in text.split("e")[0]


def test_names_become_distinct_predicates():
    names = predicate_names(["Age", "age", "label", "ab1", "1st", "%", "not", "Größe"], "label")
    assert names == {
        "Age": "age",
        "age": "age_2",
        "label": "label_2",
        "ab1": "a_ab1",
        "1st": "a_1st",
        "%": "a",
        "not": "not_2",
        "Größe": "gr_e",
    }
    assert prolog_atom("a\\b'\n") == "'a\\\\b\\'\\n'"


def test_what_cannot_be_exported_is_said():
    rules = (Rule((Literal("n", "<=", 1.0),), (), "a"),)
    model = RuleSet(rules, ("a", "b"), "a", "b", None, ("n",), ("n",), mixed=("n",))
    with pytest.raises(InputError, match="numbers and strings"):
        to_sql(model)
    with pytest.raises(InputError, match="label: found 'c'"):
        to_sql(model, "c")
    with pytest.raises(InputError, match="style: found 'prolog'"):
        to_asp(model, "prolog")
    with pytest.raises(InputError, match="target: found 'Label'"):
        to_asp(model, target="Label")
    with pytest.raises(InputError, match="Python identifier"):
        to_python(model, name="a b")
