"""Literals, rules and their simplification, against a reading of cells one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.fold_se.columns import Cells, choose_numeric, parse_column, rank_codes
from paperworks.papers.fold_se.rules import OPERATORS, Literal, Rule, flatten, simplify

NUMBERS = [-2.0, -0.5, 0.0, 1.0, 3.5, float("inf")]
STRINGS = ["", "a", "b", "3.5"]
CELLS = st.sampled_from([*NUMBERS, *STRINGS])
LITERALS = st.one_of(
    st.builds(Literal, st.sampled_from(["u", "v"]), st.sampled_from(["=", "!="]), st.sampled_from(STRINGS)),
    st.builds(
        Literal, st.sampled_from(["u", "v"]), st.sampled_from(["<=", ">", "not<=", "not>"]), st.sampled_from(NUMBERS)
    ),
)
BODIES = st.lists(LITERALS, min_size=1, max_size=4).map(tuple)
RULES = st.recursive(
    st.builds(Rule, BODIES), lambda inner: st.builds(Rule, BODIES, st.lists(inner, max_size=3).map(tuple)), max_leaves=6
)


def holds(literal: Literal, cell: str | float) -> bool:
    """The table of the specification, cell by cell."""
    string = isinstance(cell, str)
    if literal.operator in ("=", "!="):
        return (string and cell == literal.value) == (literal.operator == "=")
    at_most, above = not string and cell <= literal.value, not string and cell > literal.value
    return {"<=": at_most, ">": above, "not<=": not at_most, "not>": not above}[literal.operator]


def covers(rule: Rule, row: dict[str, str | float]) -> bool:
    if not rule.body and not rule.exceptions:
        return False
    return all(holds(x, row[x.attribute]) for x in rule.body) and not any(covers(e, row) for e in rule.exceptions)


def cells_of(rows: list[dict[str, str | float]]) -> Cells:
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in ("u", "v")})
    # Text that reads as a number must stay text here: give numeric columns their cells already parsed.
    cells = Cells(frame, [])
    for name in ("u", "v"):
        values = list(frame[name])
        texts = list(dict.fromkeys(v for v in values if isinstance(v, str)))
        column = parse_column(frame[name], numeric=False)
        cells._parsed[name] = type(column)(
            np.array([np.nan if isinstance(v, str) else v for v in values], dtype=float),
            np.array([texts.index(v) if isinstance(v, str) else -1 for v in values], dtype=np.int32),
            tuple(texts),
        )
    return cells


ROWS = st.lists(st.fixed_dictionaries({"u": CELLS, "v": CELLS}), min_size=1, max_size=12)


@given(LITERALS, CELLS)
def test_literals_follow_the_table_and_negation_is_exact(literal, cell):
    cells = cells_of([{"u": cell, "v": cell}])
    assert bool(literal.truth(cells)[0]) == holds(literal, cell)
    assert bool(literal.negated().truth(cells)[0]) != holds(literal, cell)
    assert literal.negated().negated() == literal


@given(RULES, ROWS)
def test_rules_cover_what_cell_by_cell_reading_says(rule, rows):
    assert rule.covers(cells_of(rows)).tolist() == [covers(rule, row) for row in rows]


@settings(max_examples=150)
@given(RULES, ROWS)
def test_simplification_keeps_the_meaning(rule, rows):
    cells = cells_of(rows)
    simple = simplify(rule)
    assert simple.covers(cells).tolist() == rule.covers(cells).tolist()
    assert simplify(simple).covers(cells).tolist() == rule.covers(cells).tolist()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([("not<=", 20), ("<=", 23)], [(">", 20), ("<=", 23)]),
        ([("not<=", 0.6)], [("not<=", 0.6)]),
        ([("not<=", 1), ("not<=", 3), ("not>", 9)], [("not<=", 3), ("not>", 9)]),
        ([(">", 1), (">", 4), ("not>", 7), ("<=", 9)], [(">", 4), ("<=", 7)]),
        ([("<=", 5)], [("<=", 5)]),
    ],
)
def test_bounds_on_one_attribute_are_merged(body, expected):
    rule = simplify(Rule(tuple(Literal("n", *x) for x in body)))
    assert [(x.operator, x.value) for x in rule.body] == expected


def test_strings_come_first_and_single_exceptions_join_the_body():
    rule = Rule(
        (Literal("n", ">", 1), Literal("s", "=", "a")),
        (
            Rule((Literal("s", "=", "b"),)),
            Rule((Literal("n", "<=", 3), Literal("s", "!=", "c")), (Rule((Literal("n", ">", 9),)),)),
        ),
    )
    assert str(simplify(rule)) == "s = 'a' and s != 'b' and n > 1 unless (s != 'c' and n <= 3)"


def test_equal_exceptions_share_a_name_and_inner_ones_are_numbered_first():
    inner = Rule((Literal("a", "=", "1"), Literal("b", "=", "1")))
    outer = Rule((Literal("a", "=", "2"), Literal("b", "=", "2")), (inner,))
    flat = flatten(
        [Rule((Literal("c", "=", "x"),), (outer, inner), "yes"), Rule((Literal("c", "=", "y"),), (inner,), "yes")]
    )
    assert [(r.name, r.exceptions) for r in flat] == [
        ("rule1", ("ab2", "ab1")),
        ("rule2", ("ab1",)),
        ("ab1", ()),
        ("ab2", ("ab1",)),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("n", "<", 3), "operator on 'n': found '<'; expected one of =, !=, <="),
        (("n", "=", 3.0), "n =: found 3.0; expected a string"),
        (("n", "<=", "3"), "n <=: found '3'; expected a number"),
        (("n", ">", float("nan")), "n >: found nan; expected a number"),
    ],
)
def test_wrong_literals_say_what_is_wrong(arguments, message):
    with pytest.raises(InputError) as error:
        Literal(*arguments)
    assert str(error.value).startswith(message)


def test_missing_values_of_all_kinds_are_one_category():
    for values in ([None, "a", float("nan")], [pd.NA, "a", ""]):
        column = parse_column(pd.Series(values, dtype=object), numeric=False)
        assert column.categories == ("", "a")
        assert column.strings.tolist() == [0, 1, 0]
    column = parse_column(pd.Series([1.5, None, 2.0]), numeric=True)
    assert column.strings.tolist() == [-1, 0, -1]
    assert column.categories == ("",)


def test_numbers_in_categorical_columns_become_text_without_a_point():
    assert parse_column(pd.Series([3.0, np.nan, 0.5]), numeric=False).categories == ("3", "", "0.5")
    assert parse_column(pd.Series([True, False]), numeric=False).categories == ("True", "False")


def test_a_numeric_column_keeps_text_that_is_no_number():
    column = parse_column(pd.Series(["1e-4", "b", "nan", "inf", 7], dtype=object), numeric=True)
    assert column.numbers[[0, 3, 4]].tolist() == [1e-4, float("inf"), 7.0]
    assert np.isnan(column.numbers[[1, 2]]).all()
    assert column.categories == ("b", "nan")


@given(st.lists(st.one_of(CELLS, st.none()), min_size=1, max_size=30))
def test_rank_codes_order_numbers_and_number_strings_by_appearance(values):
    table = rank_codes(pd.DataFrame({"n": pd.Series(values, dtype=object)}), ["n"])
    parsed = parse_column(pd.Series(values, dtype=object), numeric=True)
    for row in range(len(values)):
        code = int(table.codes[0, row])
        expected = parsed.numbers[row] if parsed.strings[row] < 0 else parsed.categories[parsed.strings[row]]
        assert table.value(0, code) == expected
    ranks = table.codes[0][parsed.strings < 0]
    assert (np.argsort(ranks, kind="stable") == np.argsort(parsed.numbers[parsed.strings < 0], kind="stable")).all()
    back = table.column("n")
    assert (back.strings == parsed.strings).all()
    np.testing.assert_array_equal(back.numbers, parsed.numbers)


def test_column_types_are_found_or_declared():
    frame = pd.DataFrame(
        {
            "i": [1, 2],
            "f": [0.5, np.nan],
            "b": [True, False],
            "s": ["1", "2"],
            "o": pd.Series([1, "x"], dtype=object),
            "c": pd.Categorical([1, 2]),
        }
    )
    assert choose_numeric(frame, "auto", None) == ["i", "f", "o"]
    assert choose_numeric(frame, "auto", ["i"]) == ["f", "o"]
    assert choose_numeric(frame, ["s", 0], None) == ["s", "i"]
    with pytest.raises(InputError, match="column 'f', which is in categorical too"):
        choose_numeric(frame, ["f"], ["f"])
    with pytest.raises(InputError, match="expected a column of X"):
        choose_numeric(frame, ["ff"], None)
    with pytest.raises(InputError, match="datetime64"):
        choose_numeric(pd.DataFrame({"d": pd.to_datetime(["2020-01-01"])}), "auto", None)


def test_operators_stand_beside_their_negations():
    assert [OPERATORS[i ^ 1] for i in range(6)] == ["!=", "=", "not<=", "<=", "not>", ">"]
