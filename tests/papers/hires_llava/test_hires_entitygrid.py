"""EntityGrid-QA: where objects lie, what is asked, how answers are read, and that it separates who sees across cuts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest

from paperworks.errors import InputError
from paperworks.language.generation import CallableGenerator
from paperworks.papers.hires_llava.entitygrid.answerers import (
    OracleAnswerer,
    RandomAnswerer,
    TemplateAnswerer,
    endpoint_answerer,
    model_answerer,
    normalised_correlations,
    pipeline_answerer,
)
from paperworks.papers.hires_llava.entitygrid.entities import glyphs, load_entities
from paperworks.papers.hires_llava.entitygrid.evaluation import discrepancy, evaluate, scored
from paperworks.papers.hires_llava.entitygrid.generation import (
    EntityDataset,
    EntityGrid,
    llava_records,
    read_dataset,
)
from paperworks.papers.hires_llava.entitygrid.parsing import parse_answer
from paperworks.papers.hires_llava.entitygrid.positions import (
    CENTER,
    EDGES,
    INSIDE,
    NAMES,
    POSITIONS,
    box_at,
    cuts_by_position,
)


@pytest.fixture(scope="module")
def grid() -> EntityGrid:
    return EntityGrid("digits", canvas=32, per_category=6, seed=1)


@pytest.fixture(scope="module")
def dataset(grid: EntityGrid) -> EntityDataset:
    return grid.dataset(36)


@given(st.integers(1, 200), st.floats(0.1, 1))
def test_corners_are_whole_edges_cut_once_and_the_center_four_times(slice_side: int, share: float) -> None:
    entity = max(2, round(share * slice_side))  # of one pixel nothing can be cut
    if entity > slice_side:
        return
    cuts = cuts_by_position(slice_side, entity)
    assert {p: cuts[p] for p in INSIDE} == dict.fromkeys(INSIDE, 1)
    assert {p: cuts[p] for p in EDGES} == dict.fromkeys(EDGES, 2)
    assert cuts[5] == 4
    for position in POSITIONS:
        left, top, right, bottom = box_at(position, slice_side, entity, entity)
        assert min(left, top) >= 0
        assert max(right, bottom) <= 2 * slice_side


def test_pasted_pixels_are_where_the_record_says(grid: EntityGrid) -> None:
    for position in POSITIONS:
        canvas = grid.draw([(3, position)])
        left, top, right, bottom = box_at(position, 16, 12, 12)
        outside = canvas.copy()
        assert np.array_equal(canvas[top:bottom, left:right], grid.test.fitted(3, 12))
        outside[top:bottom, left:right] = 0
        assert not outside.any()


def test_positions_are_balanced_and_splits_disjoint(grid: EntityGrid, dataset: EntityDataset) -> None:
    firsts = Counter(r.positions[0] for r in dataset.records if r.task == "identification")
    assert firsts == dict.fromkeys(POSITIONS, 4)
    assert not set(grid.train.ids) & set(grid.test.ids)
    assert all(set(r.entity_ids) <= set(grid.test.ids) for r in dataset.records)
    for record in dataset.records:
        assert record.answer in record.choices
        assert len(set(record.positions)) == len(record.positions)
    counts = Counter(r.answer for r in dataset.records if r.task == "counting")
    assert set(counts) == {"0", "1", "2"}


def test_everything_is_a_function_of_the_seed() -> None:
    def made(seed: int) -> EntityDataset:
        return EntityGrid("digits", canvas=32, per_category=4, seed=seed).dataset(9)

    first, again, other = made(5), made(5), made(6)
    assert first.records == again.records
    assert all(np.array_equal(first.images[name], again.images[name]) for name in first.images)
    assert first.records != other.records


def test_a_folder_reads_back(grid: EntityGrid, tmp_path: Path) -> None:
    grid.generate(tmp_path / "set", 9, n_train=9)
    back = read_dataset(tmp_path / "set")
    made = grid.dataset(9)
    assert back.records == made.records
    assert all(np.array_equal(back.images[name], made.images[name]) for name in made.images)
    chats = json.loads((tmp_path / "set" / "train.json").read_text())
    assert chats == llava_records(grid.dataset(9, "train"))
    assert chats[0]["conversations"][0]["value"].startswith("<image>\n")
    with pytest.raises(InputError, match="out_dir"):
        grid.generate(tmp_path / "set", 9)
    lines = (tmp_path / "set" / "test.jsonl").read_text().splitlines()
    (tmp_path / "set" / "test.jsonl").write_text("\n".join([lines[0], '{"task": "x"}']))
    with pytest.raises(InputError, match="line 2"):
        read_dataset(tmp_path / "set")
    with pytest.raises(InputError, match="dataset"):
        read_dataset(tmp_path)


def test_the_oracle_is_right_and_chance_is_chance(dataset: EntityDataset) -> None:
    result = evaluate(OracleAnswerer(dataset), dataset, n_resamples=50)
    assert result.accuracy == 1
    assert result.disc1 is not None
    assert result.disc1.estimate == 0
    records = [r for r in dataset.records if r.task == "identification"]
    asked = EntityDataset(dataset.images, records)
    right = sum(int(evaluate(RandomAnswerer(seed), asked, n_resamples=0).correct.sum()) for seed in range(20))
    assert binomtest(right, 20 * len(records), 1 / 4).pvalue > 1e-4


def test_templates_within_slices_fail_where_the_cuts_run() -> None:
    # objects alike would be mistaken for each other: one of each digit
    grid = EntityGrid("digits", canvas=32, per_category=2, most_entities=1, seed=1)
    dataset = grid.dataset(18)
    whole = evaluate(TemplateAnswerer(grid.test, 12, "image"), dataset, n_resamples=50)
    assert whole.accuracy == 1
    sliced = evaluate(TemplateAnswerer(grid.test, 12, "slice"), dataset, n_resamples=50)
    assert sliced.accuracy_of(positions=INSIDE) == 1
    for position in (*EDGES, 5):
        assert sliced.accuracy_of(("identification", "position"), (position,)) == 0
    assert sliced.disc1 is not None
    assert sliced.disc2 is not None
    assert min(sliced.disc1.low, sliced.disc2.low) > 0
    assert sliced.unparsed > 0


@pytest.mark.parametrize("most", [0, 10**9])
def test_correlation_is_that_of_numpy(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paperworks.papers.hires_llava.entitygrid.answerers.MOST_WINDOW_VALUES", most)
    rng = np.random.default_rng(0)
    image, templates = rng.random((9, 8, 3)), rng.random((2, 4, 3, 3))
    scores = normalised_correlations(image, templates)
    assert scores.shape == (2, 6, 6)
    for number, y, x in ((0, 0, 0), (1, 5, 5), (0, 2, 3)):
        expected = np.corrcoef(image[y : y + 4, x : x + 3].ravel(), templates[number].ravel())[0, 1]
        assert scores[number, y, x] == pytest.approx(expected)
    assert normalised_correlations(image[:3], templates).size == 0
    assert not normalised_correlations(np.ones((9, 8, 3)), templates).any()


@pytest.mark.parametrize(
    ("text", "choices", "task", "expected"),
    [
        ("Three.", ("three", "four"), "identification", "three"),
        ("It is a 3", ("three", "four"), "identification", "three"),
        ("B", ("cat", "dog"), "identification", "dog"),
        ("(a) cat", ("cat", "dog"), "identification", "cat"),
        ("A dog is in the picture", ("cat", "dog"), "identification", "dog"),
        ("a cat or a dog", ("cat", "dog"), "identification", None),
        ("hot dog", ("dog", "hot dog"), "identification", "hot dog"),
        ("a bird", ("cat", "dog"), "identification", None),
        ("", ("cat", "dog"), "identification", None),
        ("upper-left", NAMES, "position", "top left"),
        ("In the middle of the bottom row", NAMES, "position", "bottom center"),
        ("the centre", NAMES, "position", "center"),
        ("middle left", NAMES, "position", "center left"),
        ("on the left-hand side, lower", NAMES, "position", "bottom left"),
        ("position 6", NAMES, "position", "center right"),
        ("left", NAMES, "position", None),
        ("top or bottom left", NAMES, "position", None),
        ("nowhere", NAMES, "position", None),
        ("There are two of them", ("0", "1", "2"), "counting", "2"),
        ("none", ("0", "1", "2"), "counting", "0"),
        ("1", ("0", "1", "2"), "counting", "1"),
        ("one or two", ("0", "1", "2"), "counting", None),
        ("7", ("0", "1", "2"), "counting", None),
    ],
)
def test_answers_in_words(text: str, choices: tuple[str, ...], task: str, expected: str | None) -> None:
    assert parse_answer(text, choices, task) == expected


@given(st.text(max_size=40), st.sampled_from(["identification", "position", "counting", ""]))
def test_the_parser_gives_a_choice_or_none(text: str, task: str) -> None:
    choices = {"position": NAMES, "counting": ("0", "1", "2")}.get(task, ("cat", "big dog", "seven"))
    assert parse_answer(text, choices, task) in {*choices, None}
    for choice in choices:
        assert parse_answer(f"  {choice.upper()}! ", choices, task) == choice


def test_pipelines_endpoints_and_models_answer(dataset: EntityDataset) -> None:
    class Vqa:
        task = "visual-question-answering"

        def __call__(self, image: Image.Image, question: str) -> list[dict[str, str]]:
            assert image.size == (32, 32)
            return [{"answer": question.rsplit(": ", 1)[1].split(",")[0]}]

    class Chat:
        task = "image-text-to-text"

        def __call__(self, text: list, return_full_text: bool) -> list[dict[str, object]]:
            (turn,) = text
            assert [part["type"] for part in turn["content"]] == ["image", "text"]
            return [{"generated_text": [{"role": "assistant", "content": "A"}]}]

    def server(prompt: list) -> str:
        assert prompt[0]["images"][0].startswith("data:image/png;base64,")
        return "A"

    class Model:
        def generate(self, image: Image.Image, prompt: str) -> str:
            return "A"

    answers = [
        evaluate(answer, dataset, n_resamples=0).correct
        for answer in (
            pipeline_answerer(Vqa()),
            pipeline_answerer(Chat()),
            endpoint_answerer(CallableGenerator(server)),  # type: ignore[arg-type]
            model_answerer(Model()),
        )
    ]
    expected = [r.answer == r.choices[0] for r in dataset.records]
    for found in answers:
        assert found.tolist() == expected
    with pytest.raises(InputError, match="pipeline"):
        pipeline_answerer(lambda **_: [{"label": "x"}])(dataset.image(dataset.records[0]), "?", ["a", "b"])
    with pytest.raises(InputError, match="answer: found int"):
        evaluate(lambda *_: 3, dataset)  # type: ignore[arg-type, return-value]


def test_results_say_what_they_do_not_measure(dataset: EntityDataset, tmp_path: Path) -> None:
    answers = [(r.answer, r.answer) for r in dataset.records]
    whole = scored(dataset, answers, slice_boxes=[(0, 0, 32, 32)], n_resamples=10)
    assert whole.warnings == ["no cut of this model runs through position 2, 4, 5, 6, 8"]
    thirds = [(x, y, x + 11, y + 11) for y in (0, 11, 22) for x in (0, 11, 22)]
    assert "should be whole" in scored(dataset, answers, slice_boxes=thirds, n_resamples=10).warnings[-1]
    files = whole.save(tmp_path / "result")
    assert json.loads(files[0].read_text())["accuracy"] == 1
    assert "| position | 1.000" in files[1].read_text()
    with pytest.raises(InputError, match="stem"):
        whole.save(tmp_path / "result")
    corners = EntityDataset(dataset.images, [r for r in dataset.records if r.position in INSIDE])
    assert scored(corners, [(r.answer, r.answer) for r in corners.records]).disc1 is None
    with pytest.raises(InputError, match="no records"):
        evaluate(RandomAnswerer(), EntityDataset({}, []))


def test_a_discrepancy_counts_every_position_the_same() -> None:
    positions = np.array([1, 1, 1, 3, 7, 9, 2, 4, 4, 6, 8, 5, 5])
    correct = np.array([1, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0], bool)
    corners = (1 + 0 + 0 + 1) / 4
    for others, wanted in ((EDGES, corners - (0 + 1 / 2 + 1 + 0) / 4), (CENTER, corners - 1 / 2)):
        found = discrepancy(correct, positions, others, n_resamples=0)
        assert found is not None
        assert found.estimate == pytest.approx(wanted)


def test_entities_from_folders_pairs_and_glyphs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("big_bolt", "nut"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / name / f"{i}.png")
    grid = EntityGrid(str(tmp_path), canvas=64, n_choices=2)
    assert grid.entities.names == ("big bolt", "nut")
    assert grid.draw([(0, 5)]).shape == (64, 64, 3)
    assert grid.test.fitted(0, 24).shape == (16, 24, 3)
    drawn = glyphs(2)
    assert (len(drawn), len(drawn.names)) == (64, 32)
    assert EntityGrid(drawn, canvas=64).dataset(3).images
    pairs = [(name, np.zeros((5, 5), np.uint8)) for name in ("a", "a", "b", "b")]
    assert load_entities(pairs).names == ("a", "b")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"canvas": 33}, "canvas"),
        ({"canvas": 32, "entity_side": 17}, "entity_side"),
        ({"n_choices": 11}, "n_choices"),
        ({"most_entities": 3}, "most_entities"),
        ({"entities": [("a", np.zeros((5, 5), np.uint8))] * 2}, "entities"),
        (
            {"entities": [("a", np.zeros((5, 5), np.uint8)), ("b", np.zeros((5, 5), np.uint8))], "n_choices": 2},
            "entities",
        ),
        ({"entities": [("a", np.zeros((5, 5), np.uint8)), ("A ", np.zeros((5, 5), np.uint8))]}, "entities"),
        ({"entities": 3}, "entities"),
        ({"entities": "nowhere-at-all"}, "images"),
        ({"per_category": 0}, "per_category"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=f"^{field}"):
        EntityGrid(**{"entities": "digits", **options})  # type: ignore[arg-type]
