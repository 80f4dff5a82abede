"""The recipe on files of the user: what it writes, what it reports, what it refuses; scorers, trainers, pools."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from paperworks.embedding import CallableEncoder, encode_shards
from paperworks.errors import InputError
from paperworks.language.generation import InstructionFile, InstructionRecord, read_instructions
from paperworks.papers.diversify_conquer import (
    CallableScorer,
    ChunkedEncoder,
    DeitaScorer,
    LanguageModelTrainer,
    PerplexityScorer,
    Pool,
    RewardModelScorer,
    feedback_scores,
    recipe,
)
from paperworks.papers.diversify_conquer.config import Config
from paperworks.papers.diversify_conquer.pool import bundled_records, row_text, split_text
from paperworks.papers.diversify_conquer.quality import compression_quality, compression_ratio
from paperworks.papers.diversify_conquer.scorers import rating
from paperworks.runs import Run, build_config
from paperworks.training import TrainSettings
from tiny_checkpoint import tiny_inputs

from .tiny import pool

TRAIN = """
import json, sys
train, prompts, responses = sys.argv[1:4]
assert all(json.loads(line)["messages"] for line in open(train))
with open(responses, "w") as out:
    for line in open(prompts):
        record = json.loads(line)
        out.write(json.dumps({"id": record["id"], "response": record["prompt"][:3]}) + "\\n")
"""
SCORE = """
import json, sys
with open(sys.argv[2], "w") as out:
    for line in open(sys.argv[1]):
        out.write(f"{len(json.loads(line)['response']) / 10}\\n")
"""


def execute(folder: Path, **options: Any) -> tuple[Any, Path]:
    run = Run(folder / "run")
    return recipe.run(build_config(Config, {"device": "cpu", "map_points": 0, **options}), run), run.files


def given(folder: Path, **options: Any) -> dict[str, Any]:
    path, vectors = pool(folder)
    return {"data": str(path), "embeddings": str(vectors), "clusters": "3", "budget": 12} | options


def test_a_users_file_gives_its_own_lines_ids_and_clusters(tmp_path: Path) -> None:
    report, files = execute(tmp_path, **given(tmp_path, quality="score", quality_temperature=0))
    lines = (tmp_path / "pool.jsonl").read_text().splitlines()
    subset = (files / "subset.jsonl").read_text().splitlines()
    assert len(subset) == 12
    assert [line for line in lines if line in set(subset)] == subset  # as they are, in the order of the data
    ids = (files / "ids.txt").read_text().split()
    assert ids == [json.loads(line)["id"] for line in subset]
    selected = pd.read_csv(files / "selected.csv")
    assert list(selected["id"]) == ids
    assert not {"s7", "s9"} & set(ids)  # a duplicate and an empty answer
    assert (report.metrics["duplicates"], report.metrics["empty"]) == (1, 1)
    clusters = pd.read_csv(files / "clusters.csv")
    assert clusters["size"].sum() == 46
    assert clusters["chosen"].sum() == 12
    assert (np.abs(clusters["chosen"] - 12 * clusters["size"] / 46) < 1).all()
    for _, row in clusters.iterrows():  # the best scores of each cluster
        own = selected[selected["cluster"] == row["cluster"]]
        assert own["quality"].mean() > row["mean quality"]


def test_parquet_keeps_its_rows_and_other_forms_can_be_asked_for(tmp_path: Path) -> None:
    options = given(tmp_path)
    frame = pd.read_json(tmp_path / "pool.jsonl", lines=True)
    frame.to_parquet(tmp_path / "pool.parquet", row_group_size=10)
    _, files = execute(tmp_path / "a", **options | {"data": str(tmp_path / "pool.parquet"), "method": "km-closest"})
    subset = pd.read_parquet(files / "subset.parquet")
    assert list(subset.columns) == list(frame.columns)
    pd.testing.assert_frame_equal(
        subset.reset_index(drop=True), frame[frame["id"].isin(subset["id"])].reset_index(drop=True)
    )
    _, files = execute(tmp_path / "b", **options | {"output": "parquet", "method": "random", "quality": "none"})
    assert set(pd.read_parquet(files / "subset.parquet").columns) == {"id", "messages", "score"}
    assert len(read_instructions(files / "subset.parquet")) == 12


def test_rounds_with_the_users_own_programs(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "score.py").write_text(SCORE)
    options = given(
        tmp_path,
        rounds=2,
        scorer="command",
        transform="relu",
        trainer_command=f"{sys.executable} {tmp_path / 'train.py'} {{train}} {{prompts}} {{responses}}",
        scorer_command=f"{sys.executable} {tmp_path / 'score.py'} {{pairs}} {{scores}}",
    )
    report, files = execute(tmp_path, **options)
    selected = pd.read_csv(files / "selected.csv")
    assert sorted(selected["round"]) == [1] * 6 + [2] * 6
    assert selected["id"].is_unique
    assert [t.title for t in report.tables][2] == "Rounds"
    (tmp_path / "train.py").write_text("raise SystemExit('no memory')")
    with pytest.raises(InputError, match=r"trainer_command.*no memory"):
        execute(tmp_path / "again", **options)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"budget": 47}, "budget"),
        ({"clusters": "47"}, "clusters"),
        ({"quality": "grade"}, "quality"),
        ({"exclude": "ids-unknown.txt"}, "exclude"),
        ({"exclude": "ids-twice.txt"}, "exclude"),
        ({"exclude": "nowhere.txt"}, "exclude"),
        ({"quality": "scores-unknown.csv"}, "quality"),
        ({"quality": "scores-twice.csv"}, "quality"),
        ({"quality": "short.npy"}, "quality"),
        ({"embeddings": "short.npy"}, "embeddings"),
        ({"embeddings": "few.npy"}, "embeddings"),
        ({"data": "twice.jsonl"}, "data"),
        ({"data": "empty.jsonl"}, "data"),
        ({"data": "broken.jsonl"}, "data"),
        ({"encoder": "x"}, "embeddings"),
        ({"rounds": 2, "method": "random"}, "rounds"),
        ({"quality": "none"}, "quality"),
        ({"quality": "reward"}, "reward_model"),
        ({"budget": 1.5}, "budget"),
        ({"clusters": "0"}, "clusters"),
        ({"rounds": 2, "scorer": "command"}, "scorer_command"),
    ],
)
def test_bad_input_is_named(options: dict, field: str, tmp_path: Path) -> None:
    right = given(tmp_path)
    lines = (tmp_path / "pool.jsonl").read_text().splitlines()
    for name, text in {
        "ids-unknown.txt": "s1\ns99\n",
        "ids-twice.txt": "s1\ns1\n",
        "scores-unknown.csv": "id,score\ns99,1\n",
        "scores-twice.csv": "id,score\ns1,1\ns1,2\n",
        "twice.jsonl": "\n".join([*lines, lines[4]]),
        "empty.jsonl": "",
        "broken.jsonl": "\n".join([*lines, "{"]),
    }.items():
        (tmp_path / name).write_text(text)
    np.save(tmp_path / "short.npy", np.zeros(5))
    np.save(tmp_path / "few.npy", np.zeros((5, 3)))
    for key, value in options.items():
        if isinstance(value, str) and "." in value:
            right[key] = str(tmp_path / value)
        else:
            right[key] = value
    with pytest.raises(InputError) as caught:
        execute(tmp_path, **right)
    assert caught.value.field == field


def test_ids_left_out_rows_as_ids_and_scores_by_id(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("s0\n\ns5\r\n")
    (tmp_path / "scores.csv").write_text("id,score\n" + "".join(f"s{i},{i}\n" for i in range(2, 40)))
    options = given(tmp_path, exclude=str(tmp_path / "out.txt"), quality=str(tmp_path / "scores.csv"), budget=44)
    report, files = execute(tmp_path, **options)
    ids = (files / "ids.txt").read_text().split()
    assert len(ids) == 44
    assert not {"s0", "s5", "s7", "s9"} & set(ids)
    assert any("9 samples have no quality" in note for note in report.notes)
    lines = (tmp_path / "pool.jsonl").read_text().splitlines()
    (tmp_path / "twice.jsonl").write_text("\n".join([*lines[:-1], lines[4]]))
    with pytest.raises(InputError, match="'s4' in rows 4 and 47"):
        execute(tmp_path / "b", **options | {"data": str(tmp_path / "twice.jsonl"), "exclude": None})
    _, files = execute(
        tmp_path / "c",
        **given(tmp_path, method="top-quality", quality="length", ids="row") | {"data": str(tmp_path / "twice.jsonl")},
    )
    assert all(one.isdigit() for one in (files / "ids.txt").read_text().split())


def test_null_and_blank_samples_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(8)]
    rows += [
        {"prompt": None, "completion": "c"},
        {"prompt": "p", "completion": " "},
        {"messages": []},
        {"messages": None},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    scan = Pool(InstructionFile(tmp_path / "a.jsonl")).scan()
    np.testing.assert_array_equal(np.flatnonzero(scan.empty), [8, 9, 10, 11])
    assert not scan.duplicate.any()


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet", "csv"])
def test_records_by_place_are_those_of_the_whole_file(suffix: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"id": [f"é{i}" for i in range(25)], "prompt": "p", "completion": [f"c\u2028{i}" for i in range(25)]}
    )
    path = tmp_path / f"a.{suffix}"
    if suffix == "jsonl":
        text = "\ufeff" + frame.to_json(orient="records", lines=True, force_ascii=False).replace("\n", "\r\n\n")
        path.write_text(text, encoding="utf-8")
    elif suffix == "json":
        frame.to_json(path, orient="records")
    elif suffix == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, row_group_size=7)
    whole, placed = read_instructions(path), InstructionFile(path)
    assert list(placed) == whole
    assert placed[3:20:5] == whole[3:20:5]
    assert placed.take([24, 0, 24]) == [whole[24], whole[0], whole[24]]
    assert placed[-1] == whole[-1]
    assert len(placed) == 25
    with pytest.raises(IndexError):
        placed[25]


def test_long_texts_are_means_of_their_chunks() -> None:
    seen: list[str] = []

    class Letters:
        def encode(self, items):
            seen.extend(items)
            return np.array([[len(t), t.count("a")] for t in items], np.float32)

    encoder = ChunkedEncoder(Letters(), characters=10, most=3)
    found = encoder.encode(["short", "aaaa bbbb cccc dddd", "", "x" * 35])
    np.testing.assert_allclose(found, [[5, 0], [9, 2], [0, 0], [10, 0]])
    assert seen == ["short", "aaaa bbbb", "cccc dddd", "", "x" * 10, "x" * 10, "x" * 10]
    assert encoder.cut == 1
    assert split_text("  one two  ", 100) == ["one two"]


def test_compression_finds_noise_and_repetition() -> None:
    rng = np.random.default_rng(0)
    texts = [str(r.response) for r in bundled_records()[:600]]
    for i in range(0, 60, 2):
        texts[i] = "".join(rng.permutation(list(texts[i])))
        texts[i + 1] = texts[i + 1][:6] * 20
    quality = compression_quality(np.array([compression_ratio(t) for t in texts]), np.array([len(t) for t in texts]))
    bad = np.arange(600) < 60
    assert roc_auc_score(bad, -quality) > 0.9
    assert quality.max() <= 0


def test_scorers(tmp_path: Path) -> None:
    assert rating(np.zeros(6)) == pytest.approx(3.5)
    assert rating(np.array([0, 0, 0, 0, 0, 1000.0])) == pytest.approx(6)  # no overflow
    length = CallableScorer(lambda prompt, response: len(response))
    np.testing.assert_array_equal(feedback_scores(length, ["a", "b"], ["four", "x "], ["no", "x"]), [2, 0])
    folder, _ = tiny_inputs(tmp_path)
    with pytest.warns(UserWarning, match="noise included"):
        surprise = PerplexityScorer(folder, device="cpu")
    likely = PerplexityScorer(folder, sign=-1, device="cpu")
    prompts, answers = ["the big cat", "the dog", "the fox " * 60], ["goes to the house", " ", "sees a bird " * 40]
    found = surprise.score(prompts, answers)
    np.testing.assert_allclose(found, -likely.score(prompts, answers))
    assert np.isnan(found[1])
    ids = likely.tokenizer("the big cat goes to the house")["input_ids"]
    with torch.inference_mode():
        logs = likely.model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
    by_hand = -np.mean([float(logs[i - 1, ids[i]]) for i in range(3, 7)])
    assert found[0] == pytest.approx(by_hand, rel=1e-4)
    with pytest.raises(InputError, match="sign"):
        PerplexityScorer(folder, sign=2)


def test_rating_and_reward_models_from_folders(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    folder, _ = tiny_inputs(tmp_path)
    scorer = DeitaScorer(folder, folder, range(2, 8), device="cpu")
    found = scorer.score(["the cat"], ["goes to the house"])
    assert found[0] == pytest.approx(
        float(scorer.ratings(0, ["the cat"], [""])[0] * scorer.ratings(1, ["the cat"], ["goes to the house"])[0])
    )
    chat = [("user", "the cat"), ("assistant", "goes"), ("user", "the dog"), ("assistant", "sees")]
    record = InstructionRecord("0", tuple({"role": r, "content": c} for r, c in chat))  # type: ignore[misc]
    one = scorer.score(["the cat", "the dog"], ["goes", "sees"])
    np.testing.assert_allclose(scorer.score_records([record, record]), one.sum())
    config = AutoConfig.from_pretrained(folder)
    config.num_labels = 1
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "reward")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "reward")
    judge = RewardModelScorer(tmp_path / "reward", template="{prompt} {response}", device="cpu", batch_size=2)
    prompts, answers = ["the cat", "the big dog goes", "the fox"], ["goes", "to the river and sees a bird", "sees"]
    together = judge.score(prompts, answers)
    alone = [judge.score([p], [a])[0] for p, a in zip(prompts, answers, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-5)  # padding changes nothing
    config.num_labels = 3
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "three")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "three")
    with pytest.raises(InputError, match="3 outputs"):
        RewardModelScorer(tmp_path / "three")


def test_training_learns_answers_and_goes_on_from_its_folders(tmp_path: Path) -> None:
    folder, _ = tiny_inputs(tmp_path)
    turns = ({"role": "user", "content": "the big cat"}, {"role": "assistant", "content": "goes to the river"})
    records = [InstructionRecord("0", turns)] * 4  # type: ignore[arg-type]
    settings = TrainSettings(steps=30, batch_size=4, learning_rate=0.02, device="cpu")

    def trainer() -> LanguageModelTrainer:
        return LanguageModelTrainer(folder, settings, checkpoint_dir=tmp_path / "kept", device="cpu")

    first = trainer()
    tuned = first.train(1, records)
    first.generation = type(first.generation)(max_new_tokens=4)
    answers = first.generate(tuned, records[:1])
    assert answers[0].split()[:3] == ["goes", "to", "the"]
    again = trainer()
    loaded = again.train(1, [])  # trained before: nothing is done again
    weights = dict(loaded.model.named_parameters())
    for name, value in tuned.model.named_parameters():
        torch.testing.assert_close(weights[name], value)
    with pytest.raises(InputError, match="answer"):
        again.train(2, [InstructionRecord("0", turns[:1])])  # type: ignore[arg-type]


def test_a_folder_of_parts_stands_in_place_of_an_encoder(tmp_path: Path) -> None:
    """What a cluster encodes with ``row_text`` has the rows of the pool, and the recipe takes the folder as it is."""
    rows = [{"instruction": f"say {'x' * (i % 5)}", "output": f"answer {i}", "id": str(i)} for i in range(40)]
    (tmp_path / "data").mkdir()
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "data/mine.jsonl").write_text("\n\n".join(lines) + "\n")
    pd.DataFrame(rows).to_parquet(tmp_path / "mine.parquet")
    texts: list[str] = []

    def encode(some: list[str]) -> np.ndarray:
        texts.extend(some)
        return np.array([[len(text), text.count("x"), 1] for text in some], np.float32)

    for source in ("data", "mine.parquet"):
        texts.clear()
        folder = tmp_path / f"vectors of {source}"
        encode_shards(tmp_path / source, lambda: CallableEncoder(encode), folder, text=row_text, part_bytes=300)
        assert texts == [f"{row['instruction']}\n{row['output']}" for row in rows]
    options = {"data": str(tmp_path / "data/mine.jsonl"), "embeddings": str(folder), "budget": 6, "clusters": "3"}
    _, out = execute(tmp_path, **options)
    assert len((out / "ids.txt").read_text().split()) == 6
    (folder / "part-000000.npy").unlink()
    with pytest.raises(InputError, match=r"^embeddings: found .*missing"):
        execute(tmp_path / "other", **options)
