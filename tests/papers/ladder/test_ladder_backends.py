"""Backends: language models' answers, caches, descriptions, predicates on metadata, headers."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papers.ladder.world import SENTENCES, encode, world
from paperworks.errors import InputError
from paperworks.language.generation import CallableGenerator
from paperworks.papers.ladder import (
    CachedBackend,
    CaptionFreeBackend,
    GeneratedBackend,
    MetadataBackend,
    OfflineContrastBackend,
    OpenAICompatibleBackend,
    SliceDiscovery,
    StaticBackend,
    TransformersBackend,
    boosted_class_vectors,
    hypothesis_prompt,
    parse_hypotheses,
)

ANSWER = json.dumps(
    {
        "hypotheses": {"H1": "The classifier is biased toward water"},
        "prompts": {"H1_water": ["a bird on water", "a bird near a lake"], "H2_deep_sea": ["a bird at sea"]},
    }
)


@pytest.mark.parametrize(
    "text", [ANSWER, f"Here it is:\n```json\n{ANSWER}\n```", f"```python\n{json.loads(ANSWER)!r}\n```\nDone."]
)
def test_answers_are_parsed_and_never_run(text: str) -> None:
    found = parse_hypotheses(text, 8)
    assert [h.name for h in found] == ["water", "deep sea"]
    assert found[0].statement == "The classifier is biased toward water"
    assert found[0].test_sentences == ("a bird on water", "a bird near a lake")


@pytest.mark.parametrize(
    "text",
    ["", "no", "[1]", "```python\n__import__('os').system('true')\n```", '{"prompts": {"H1_a": "x"}}', "{'a': 1}"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="answer"):
        parse_hypotheses(text, 8)


@given(st.text(max_size=200))
@settings(max_examples=40, deadline=None)
def test_no_text_breaks_the_parser(text: str) -> None:
    with suppress(InputError):
        assert all(h.test_sentences for h in parse_hypotheses(text, 3))


def test_the_prompt_has_all_that_the_specification_asks_for() -> None:
    prompt = hypothesis_prompt("landbird", ["bamboo behind a bird", "a forest"], 8)
    for part in ("1. bamboo behind a bird", "2. a forest", "descending", "JSON", "'landbird' itself is never", "H1_"):
        assert part in prompt


def test_a_generator_is_asked_three_times_and_then_the_contrast_stands_in() -> None:
    asked: list[str] = []

    def bad(prompt: str) -> str:
        asked.append(prompt)
        return "I cannot"

    one = world()
    backend = GeneratedBackend(CallableGenerator(bad))
    with pytest.warns(UserWarning, match="the offline contrast stands in"):
        found = one.discover(backend=backend)
    assert len(asked) == 6
    assert "could not be read" in asked[1]
    assert backend.fell_back == ["land", "sea"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [s.name for s in found.slices_] == [s.name for s in one.discover().slices_]
    answers = iter(["no", ANSWER, ANSWER])
    good = GeneratedBackend(CallableGenerator(lambda prompt: next(answers)))
    assert [h.name for h in good.propose("sea", SENTENCES[:3], SENTENCES, 8)] == ["water", "deep sea"]
    assert len(good.answers) == 2


def test_the_cache_asks_once_and_survives_a_new_process(tmp_path: Path) -> None:
    calls: list[str] = []

    def answer(prompt: str) -> str:
        calls.append(prompt)
        return ANSWER

    def cached() -> CachedBackend:
        return CachedBackend(GeneratedBackend(CallableGenerator(answer, "one")), tmp_path / "cache.json")

    first = cached().propose("sea", SENTENCES[:3], SENTENCES, 8)
    assert cached().propose("sea", SENTENCES[:3], SENTENCES, 8) == first
    assert len(calls) == 1
    cached().propose("sea", SENTENCES[:4], SENTENCES, 8)
    assert len(calls) == 2
    for inner in (OfflineContrastBackend(), StaticBackend({"sea": ["water"]})):
        kept = CachedBackend(inner, tmp_path / "cache.json")
        assert kept.propose("sea", SENTENCES[:9], SENTENCES, 8) == inner.propose("sea", SENTENCES[:9], SENTENCES, 8)
    (tmp_path / "cache.json").write_text("[1]")
    with pytest.raises(InputError, match=r"cache\.json: found list"):
        cached().propose("sea", SENTENCES[:3], SENTENCES, 8)


def test_a_server_is_asked_at_temperature_0_and_its_key_shows_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import httpx

    monkeypatch.setenv("LADDER_TEST_KEY", "secret-key")
    backend = OpenAICompatibleBackend("http://localhost:1/v1", "m", "LADDER_TEST_KEY")
    sent: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if "response_format" in json.loads(request.content) and len(sent) == 1:
            return httpx.Response(400, text="response_format is not known here")
        return httpx.Response(200, json={"choices": [{"message": {"content": ANSWER}}]})

    client: Any = backend.generator._client  # type: ignore[attr-defined]
    monkeypatch.setattr(
        backend.generator, "_client", httpx.Client(transport=httpx.MockTransport(handle), headers=client.headers)
    )
    cached = CachedBackend(backend, tmp_path / "c.json")
    assert [h.name for h in cached.propose("sea", SENTENCES[:3], SENTENCES, 8)] == ["water", "deep sea"]
    assert json.loads(sent[0].content)["response_format"] == {"type": "json_object"}
    body = json.loads(sent[1].content)
    assert "response_format" not in body
    assert body["temperature"] == 0
    assert body["model"] == "m"
    assert sent[1].headers["authorization"] == "Bearer secret-key"
    assert "secret-key" not in (tmp_path / "c.json").read_text() + cached.identity


def test_a_local_model_that_cannot_follow_falls_back() -> None:
    from paperworks.language.models import bundled_model_path

    backend = TransformersBackend(bundled_model_path(), max_new_tokens=8, device="cpu")
    with pytest.warns(UserWarning, match="the offline contrast stands in"):
        found = backend.propose("sea", SENTENCES[:4], SENTENCES, 4)
    assert found == OfflineContrastBackend().propose("sea", SENTENCES[:4], SENTENCES, 4)


def test_the_users_own_hypotheses(tmp_path: Path) -> None:
    (tmp_path / "h.json").write_text('{"sea": {"water": ["a bird on water"]}, "land": ["grass"]}')
    backend = StaticBackend.from_json(tmp_path / "h.json")
    assert backend.propose("sea", [], [], 8)[0].test_sentences == ("a bird on water",)
    assert backend.propose("land", [], [], 8)[0].test_sentences == ("grass",)
    with pytest.raises(InputError, match=r"class 'seas'.*did you mean 'sea'"):
        world().discover(backend=StaticBackend({"seas": ["water"]}))
    for text in (
        "[]",
        "{",
        '{"a": 3}',
        '{"a": [{"test_sentences": ["b"]}]}',
        '{"a": [{"name": "b", "test_sentences": []}]}',
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError):
            StaticBackend.from_json(tmp_path / "bad.json")


def test_without_captions_correct_samples_are_described(tmp_path: Path) -> None:
    one = world()
    ground = one.ground["val"]
    seen: list[int] = []

    def describe(items: Any) -> list[str]:
        seen.extend(items)
        return [f"a bird on {('grass', 'water')[ground[i]]} in light {i % 20}." for i in items]

    backend = CaptionFreeBackend(describe, per_class=60, cache=tmp_path / "d.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = SliceDiscovery(top_k=15, text_encoder=encode, backend=backend).fit(
            one.features["train"],
            one.vlr["train"],
            one.features["val"],
            one.y["val"],
            one.predicted,
            items=list(range(240)),
            class_names=["land", "sea"],
        )
    right = one.predicted == one.y["val"]
    assert backend.descriptions_
    assert all(right[i] for i in backend.descriptions_)
    assert any("water" in s.name for s in found.slices_ if s.class_name == "sea")
    again = CaptionFreeBackend(describe, per_class=60, cache=tmp_path / "d.json")
    again.corpus(list(range(240)), one.y["val"], one.predicted)
    assert again.descriptions_ == backend.descriptions_
    assert len(seen) == len(set(seen)) == len(backend.descriptions_)  # from the file, the second time
    with pytest.raises(InputError, match="items: found none"):
        SliceDiscovery(text_encoder=encode, backend=backend).fit(
            one.features["train"], one.vlr["train"], one.features["val"], one.y["val"], one.predicted
        )


def test_a_backend_serves_several_discoveries_each_with_its_own_encoder() -> None:
    def first(texts: Any) -> np.ndarray:
        return encode(texts)

    def second(texts: Any) -> np.ndarray:
        return encode(texts)

    for backend in (GeneratedBackend(CallableGenerator(lambda p: "{}")), CaptionFreeBackend(lambda items: [])):
        inner = [getattr(backend.bind(one), "fallback", None) or backend.bind(one).inner for one in (first, second)]  # type: ignore[union-attr]
        assert [one.encode for one in inner] == [first, second]


def frame(n: int = 400) -> tuple[pd.DataFrame, np.ndarray]:
    draw = np.random.default_rng(0)
    age, view = draw.integers(30, 95, n), draw.choice(["CC", "MLO"], n)
    wrong = draw.random(n) < np.where(age >= 70, 0.5, 0.1) + 0.2 * (view == "MLO") * (age >= 70)
    cells = np.where(draw.random(n) < 0.1, np.nan, age.astype(float))
    return pd.DataFrame({"age": cells, "view": view, "empty": np.nan}), wrong


def test_the_first_predicate_is_that_of_brute_force() -> None:
    table, wrong = frame()
    backend = MetadataBackend(conjunctions=True)
    found = backend.find(table, wrong)
    singles = [c.passes(table) for c in backend.conditions(table)]
    best = -1.0
    for i, a in enumerate(singles):
        for b in singles[i:]:
            inside = a & b
            if 0.05 * len(wrong) <= inside.sum() < len(wrong):
                best = max(best, wrong[inside].mean() - wrong[~inside].mean())
    # two conditions on one column are no conjunction of the backend's: they can only be as good by chance
    assert found[0].gap <= best + 1e-12
    assert str(found[0]).count(" and ") == 1
    assert {c.column for c in found[0].conditions} == {"age", "view"}
    for s in found[:20]:
        inside = s.passes(table)
        assert s.n == inside.sum()
        assert s.gap == pytest.approx(wrong[inside].mean() - wrong[~inside].mean())
    assert MetadataBackend().find(table, wrong, 1)[0].gap <= found[0].gap
    assert all(s.support >= 0.05 for s in found)
    gaps = [s.gap for s in found]
    assert gaps == sorted(gaps, reverse=True)


def test_missing_cells_of_every_kind_pass_nothing_and_infinite_numbers_are_numbers() -> None:
    table = pd.DataFrame(
        {
            "text": pd.array(["x", None, "y", "z"] * 10, dtype="string"),
            "whole": pd.array([1, None, 2, 3] * 10, dtype="Int64"),
            "far": [1.0, np.inf, 2.0, np.nan] * 10,
            "day": pd.to_datetime(["2020-01-01", None] * 20),
        }
    )
    found = MetadataBackend().find(table, np.arange(40) % 4 < 2)
    values = {(c.column, c.value) for s in found for c in s.conditions if c.operator == "="}
    assert {v for c, v in values if c == "text"} == {"x", "y", "z"}
    assert {v for c, v in values if c == "whole"} == {"1", "2", "3"}
    assert {v for c, v in values if c == "far"} == {"1", "2", "inf"}
    assert {v for c, v in values if c == "day"} == {"2020-01-01 00:00:00"}


def test_predicates_of_a_language_model_are_tested_on_the_true_columns() -> None:
    table, wrong = frame()
    prompts: list[str] = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        items = [{"column": "age", "operator": ">=", "value": 70}, {"column": "nose", "operator": "=", "value": "big"}]
        return json.dumps({"predicates": items})

    found = MetadataBackend(generator=CallableGenerator(answer), examples=5).find(table, wrong)
    assert [str(s) for s in found] == ["age >= 70"]
    inside = (table["age"] >= 70).to_numpy()
    assert found[0].error == pytest.approx(wrong[inside].mean())
    assert '"view": "' in prompts[0]
    with pytest.raises(InputError, match="predicates on columns of the table"):
        MetadataBackend(generator=CallableGenerator(lambda p: '{"predicates": []}')).find(table, wrong)


def test_bad_metadata() -> None:
    table, wrong = frame()
    for flags, message in (
        (np.zeros(400, bool), "wrong: found all alike"),
        (wrong[:5], "table and wrong: found 400 rows"),
        (np.full(400, 0.3), "wrong: found type float64"),
    ):
        with pytest.raises(InputError, match=message):
            MetadataBackend().find(table, flags)
    with pytest.raises(InputError, match="a column with several values"):
        MetadataBackend().find(pd.DataFrame({"a": [np.nan] * 400}), wrong)


def test_headers_of_dicom_files(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    from paperworks.papers.ladder import read_dicom_headers

    for number, (age, kind) in enumerate((("070Y", "MONOCHROME1"), ("018M", "MONOCHROME2"))):
        header = Dataset()
        header.PatientAge, header.PhotometricInterpretation, header.PatientName = age, kind, "Somebody"
        header.SOPClassUID, header.SOPInstanceUID = SecondaryCaptureImageStorage, pydicom.uid.generate_uid()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    (tmp_path / "notes.txt").write_text("no DICOM")
    found = read_dicom_headers(tmp_path)
    assert found["file"].tolist() == ["0.dcm", "1.dcm"]
    assert found["PatientAge"].tolist() == [70.0, 1.5]
    assert found["PhotometricInterpretation"].tolist() == ["MONOCHROME1", "MONOCHROME2"]
    assert "Somebody" not in found.to_string()


def test_confirmed_attributes_join_the_prompts_of_a_zero_shot_classifier() -> None:
    seen: list[str] = []

    def encoder(texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        return encode(texts)

    found = boosted_class_vectors(["land", "sea"], {"sea": ["water"]}, encoder)
    assert seen == ["a photo of a land", "a photo of a sea", "a photo of a sea with water"]
    rows = encode(seen[1:])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    mean = rows.mean(axis=0)
    np.testing.assert_allclose(found[1], mean / np.linalg.norm(mean))
