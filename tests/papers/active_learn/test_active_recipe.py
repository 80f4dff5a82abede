"""Tables, ratings and arms as users have them, and the recipe on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paperworks as pw
from paperworks.errors import InputError
from paperworks.papers.active_learn import LearnedPolicy, RobustActiveLearner
from paperworks.papers.active_learn.archetypes import find_archetypes, recommendation_regret
from paperworks.papers.active_learn.baselines import Passive
from paperworks.papers.active_learn.config import Config
from paperworks.papers.active_learn.problem import ActiveProblem
from paperworks.papers.active_learn.tables import read_arms, read_questions, read_ratings
from paperworks.papers.active_learn.tasks import load_task
from paperworks.runs import build_config

QUICK: dict[str, Any] = {
    "classes": 2,
    "iterations": 2,
    "robust_iterations": 2,
    "hidden": (4,),
    "draws": 2,
    "roll_outs": 2,
    "test_rollouts": 100,
    "budget": 2,
    "progress": False,
}


def written(folder: Path, text: str, name: str = "table.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_columns_of_a_table_become_questions(tmp_path: Path) -> None:
    rows = ["animal;fur;legs;p_lives_in_water;weight;kind"]
    rows += [f"a{i};{'yes' if i % 2 else 'no'};{4 if i < 7 else 2};{i / 20:.2f};{i * 1.5};k{i % 3}" for i in range(14)]
    found = read_questions(written(tmp_path, "\n".join(rows)))
    assert found.items == [f"a{i}" for i in range(14)]
    assert found.questions[:4] == ["fur?", "legs = 2?", "legs = 4?", "p_lives_in_water?"]
    assert [q for q in found.questions if q.startswith("weight")] == [
        "weight > 4.875?",
        "weight > 9.75?",
        "weight > 14.62?",
    ]
    assert found.questions[-3:] == ["kind = k0?", "kind = k1?", "kind = k2?"]
    column = dict(zip(found.questions, found.p_yes.T, strict=True))
    np.testing.assert_allclose(column["fur?"], np.arange(14) % 2)
    np.testing.assert_allclose(column["p_lives_in_water?"], np.arange(14) / 20)
    np.testing.assert_allclose(column["legs = 4?"], np.arange(14) < 7)


def test_empty_cells_are_said_and_names_must_differ(tmp_path: Path) -> None:
    found = read_questions(written(tmp_path, "item,a,b\nx,1,\ny,0,yes\nz,1,no\n"))
    assert found.p_yes.tolist() == [[1, 0.5], [0, 1], [1, 0]]
    assert any("1 empty cell" in note for note in found.notes)
    with pytest.raises(InputError, match="two items named 'x'"):
        read_questions(written(tmp_path, "item,a\nx,1\nx,0\n"), item="item")
    with pytest.raises(InputError, match="separate nothing"):
        load_task(Config(table=written(tmp_path, "item,a,b\nx,1,0\ny,1,0\n")))
    with pytest.raises(InputError):
        read_questions(written(tmp_path, "item,a\nx,1\ny,0\n"), item="nme")


def test_zoo_has_59_different_animals() -> None:
    task = load_task(Config())
    assert task.problem.n_outputs == 59
    assert task.problem.n_queries == 21
    assert any("59 different rows" in line for line in task.lead)


def test_jester_codes_and_words_are_read(tmp_path: Path) -> None:
    found = read_ratings(written(tmp_path, "rated,j1,j2,j3\n2,-9.5,99,3.2\n3,1.0,2.0,-4\n0,99,99,99\n1,99,99,5.5\n"))
    assert found.items == ["j1", "j2", "j3"]
    assert found.values.shape == (3, 3)
    assert np.isnan(found.values).sum() == 3
    said = " ".join(found.notes)
    assert "99 are read as not rated" in said
    assert "rated nothing" in said
    votes = read_ratings("votes")
    assert votes.values.shape == (434, 16)  # one voted on nothing
    assert set(np.unique(votes.values[~np.isnan(votes.values)])) == {-1.0, 1.0}


def test_archetypes_and_the_regret_of_real_users() -> None:
    rng = np.random.default_rng(0)
    kinds = np.array([[5.0, 1, 1, 3], [1, 5, 1, 3], [1, 1, 5, 3]])
    ratings = kinds[np.arange(60) % 3] + 0.1 * rng.normal(size=(60, 4))
    found = find_archetypes(ratings, 3, 1)
    assert sorted(found.recommended[:, 0].tolist()) == [0, 1, 2]
    problem = ActiveProblem.archetypes(ratings, 3, 6)
    assert problem.losses(problem.instances()).diagonal().max() == 0
    regret = recommendation_regret(Passive(problem), ratings, found, 20)
    assert 0 <= regret.mean() < 1.0  # three of four queries tell two kinds apart


def test_arms_of_a_table(tmp_path: Path) -> None:
    rows, names, notes = read_arms(written(tmp_path, "drug,dose,age,same\na,1,30,7\nb,2,20,7\nc,3,40,7\n"))
    assert names == ["a", "b", "c"]
    np.testing.assert_allclose(rows.std(0), 1)
    assert rows.shape == (3, 2)
    assert "same for all" in notes[0]
    with pytest.raises(InputError, match="equal features"):
        read_arms(written(tmp_path, "drug,dose\na,1\nb,1\nc,2\n"))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"arms": "3", "ratings": "votes"}, "arms"),
        ({"arms": "3", "noise": 0.2}, "noise"),
        ({"ratings": "votes", "loss": "regret"}, "loss"),
        ({"recommend": 2}, "recommend"),
        ({"radii": (3.0, 2.0)}, "radii"),
        ({"arms": "3", "answers": "bernoulli", "sigma": 2.0}, "sigma"),
        ({"hidden": (0,)}, "hidden"),
        ({"noise": 0.5}, "noise"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as refused:
        build_config(Config, options)
    assert refused.value.field == field


def test_the_recipe_leaves_a_policy_that_asks(tmp_path: Path) -> None:
    table = written(tmp_path, "name,fur,wings,fins\ncat,yes,no,no\nhen,no,yes,no\ncod,no,no,yes\nbat,yes,yes,no\n")
    report = pw.run("active-learn", table=table, out=tmp_path / "out", **QUICK)
    assert "worst case" in report.headline
    rows = {row[0]: row for row in report.tables[0].rows}
    assert {"learned", "SGBS", "GBS", "fixed prior", "optimal (linear programme)"} <= rows.keys()
    optimum = rows["optimal (linear programme)"][2]
    assert isinstance(optimum, float)
    for name, row in rows.items():
        assert float(row[2]) >= optimum - 0.2, name  # type: ignore[arg-type]
    files = tmp_path / "out"
    policy = LearnedPolicy.load(files / "policies/policy")
    session = policy.start(3)
    while not session.done:
        session.ask()
        session.tell(1)
    assert policy.problem.output_names[session.recommend()] in ("cat", "hen", "cod", "bat")
    assert len(RobustActiveLearner.load(files / "policies").class_policies_) >= 1
    page = (files / "session.html").read_text()
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data["outputs"] == ["cat", "hen", "cod", "bat"]
    assert "http" not in page.replace("http-equiv", "")
    assert (files / "risks.csv").read_text().startswith("instance,learned")


def test_questions_that_separate_too_few_are_a_game_with_one_item_less(tmp_path: Path) -> None:
    table = written(tmp_path, "name,fur,tail\ncat,yes,yes\ndog,yes,yes\nhen,no,yes\n")
    task = load_task(Config(table=table))
    assert task.problem.output_names == ("cat / dog", "hen")
    assert any("the same for all: tail?" in line for line in task.lead)


def test_names_of_items_may_look_like_dates(tmp_path: Path) -> None:
    found = read_questions(written(tmp_path, "day,a,b\n2022-01-01,yes,no\n2022-01-02,no,no\n2022-01-03,yes,yes\n"))
    assert found.items == ["2022-01-01", "2022-01-02", "2022-01-03"]
    assert not found.notes
