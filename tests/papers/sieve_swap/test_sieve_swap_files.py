"""Features and exports of video files, and the recipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.inputs.transcripts import read_transcript
from paperworks.papers.sieve_swap.config import Config
from paperworks.papers.sieve_swap.exports import chapters, clock, how_to_sheet, safe_name, write_exports
from paperworks.papers.sieve_swap.features import FeatureFolder, LayoutExtractor, extract_features, extract_video
from paperworks.papers.sieve_swap.recipe import run
from paperworks.papers.sieve_swap.steps_dataset import StepDataset
from paperworks.runs import Run, build_config

STEPS = [
    {"start": 1.0, "end": 3.5, "text": "Chop the *onion*."},
    {"start": 3.0, "end": 5.0, "text": "Stir -->  the soup."},
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds: red, then green."""
    from paperworks.inputs.video import write_video

    path = tmp_path_factory.mktemp("videos") / "soup.mp4"
    pictures = [np.full((32, 48, 3), (200, 20, 20) if n < 15 else (20, 200, 20), np.uint8) for n in range(30)]
    write_video(path, pictures, fps=5.0)
    return path


def test_features_of_a_video(clip: Path, tmp_path: Path) -> None:
    found = extract_video(clip)
    assert found.values.shape == (6, 256)
    assert found.values.dtype == np.float32
    assert found.duration == pytest.approx(6.0, abs=0.25)
    assert np.array_equal(found.values, extract_video(clip).values)
    apart = np.linalg.norm(np.diff(found.values, axis=0), axis=1)
    assert apart[2:4].min() > 5 * apart[[0, 1, 4]].max()  # the colour changes at 3 s
    ids = extract_features(clip.parent, tmp_path / "f")
    folder = FeatureFolder(tmp_path / "f")
    assert list(folder) == ids == ["soup"]
    assert np.array_equal(folder["soup"], found.values)
    assert json.loads((tmp_path / "f" / "soup.json").read_text())["extractor"] == f"layout-{LayoutExtractor().seed}"
    right = StepDataset.of({"soup": {"duration": 6.1, "timestamps": [[1, 2]], "sentences": ["x"]}})
    folder.check(right)
    wrong = StepDataset.of({"soup": {"duration": 8.0, "timestamps": [[1, 2]], "sentences": ["x"]}})
    with pytest.raises(InputError, match="within 5 %"):
        folder.check(wrong)
    means = extract_video(clip, lambda pictures: pictures.mean(axis=(1, 2)), fps=2.0)
    assert means.values.shape == (12, 3)


def test_a_model_predicts_the_steps_of_a_file(clip: Path, tmp_path: Path) -> None:
    from paperworks.papers.sieve_swap.procx import ProcX
    from paperworks.papers.sieve_swap.settings import ProcXConfig
    from paperworks.training import TrainSettings

    sizes = {"dim": 16, "heads": 2, "levels": 2, "queries": 4, "positions": 8, "feed_forward": 16, "segment_points": 2}
    config = ProcXConfig(**sizes, captions="none", contrastive=0.0)
    dataset = StepDataset.of({"soup": {"duration": 6, "timestamps": [[0, 3], [3, 6]], "sentences": ["a", "b"]}})
    model = ProcX(config, settings=TrainSettings(steps=2, batch_size=1, device="cpu"), device="cpu")
    found = extract_video(clip)
    model.fit(dataset, {"soup": found.values})
    assert model.predict_video(clip) == model.predict(found.values, found.duration)
    extract_features(clip.parent, tmp_path / "f")
    other = ProcX(config, settings=TrainSettings(steps=2, batch_size=1, device="cpu"), device="cpu")
    assert other.fit(dataset, tmp_path / "f").predict_video(clip) == model.predict_video(clip)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY garbage", b"text"])
def test_features_that_are_none_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npy"):
        FeatureFolder(tmp_path)["a"]
    with pytest.raises(InputError, match="which is not there"):
        FeatureFolder(tmp_path / "none")


def test_exports_are_read_back(clip: Path, tmp_path: Path) -> None:
    names = write_exports(tmp_path, "soup video/1", STEPS, title="Soup", source=clip)
    assert names[0] == "soup_video_1.srt"
    for suffix in ("srt", "vtt"):
        cues = read_transcript(tmp_path / f"soup_video_1.{suffix}").cues
        assert [(c.start, c.end) for c in cues] == [(1.0, 3.0), (3.0, 5.0)]  # one chapter at a time
    sheet = (tmp_path / "soup_video_1.md").read_text(encoding="utf-8")
    assert sheet.startswith("# Soup\n")
    assert "1. **0:01\u20130:03** Chop the \\*onion\\*." in sheet
    for number in (1, 2):
        assert f"![Step {number}](thumbnails/soup_video_1-0{number}.jpg)" in sheet
        assert (tmp_path / f"thumbnails/soup_video_1-0{number}.jpg").stat().st_size > 100
    assert json.loads((tmp_path / "soup_video_1.json").read_text())["steps"] == STEPS
    with pytest.raises(InputError, match="one step or more"):
        write_exports(tmp_path, "x", [])


def test_small_parts_of_exports() -> None:
    assert [clock(s) for s in (0, 61.9, 3723)] == ["0:00", "1:01", "1:02:03"]
    assert safe_name("../a b") == "_a_b"
    assert chapters([{"start": 2.0, "end": 2.0, "text": " "}])[0].text == "Step 1"
    assert how_to_sheet("x", []) == "# x\n"


def test_the_recipe_on_a_users_video(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "soup.srt").write_text(
        "1\n00:00:00,000 --> 00:00:02,500\nFirst chop the onion and the carrots into cubes.\n\n"
        "2\n00:00:03,000 --> 00:00:05,500\nThen simmer the soup until the potatoes are tender.\n"
    )
    (tmp_path / "kb").mkdir()
    (tmp_path / "kb" / "soup.md").write_text(
        "# Soup\n\n1. Chop the onion and carrots into cubes.\n2. Simmer the soup until the potatoes are tender.\n"
    )
    options = {
        "transcripts": str(tmp_path / "t"),
        "procedures": str(tmp_path / "kb"),
        "videos": str(clip.parent),
        "encoder": "tfidf",
    }
    report = run(build_config(Config, options), Run(tmp_path / "run"))  # type: ignore[arg-type]
    assert report.headline.startswith("2 timed written steps in 1 of 1 videos")
    files = tmp_path / "run" / "files"
    swapped = StepDataset.read(files / "swapped.json")
    assert swapped["soup"].duration == pytest.approx(6.0, abs=0.25)
    assert "thumbnails/soup-01.jpg" in (files / "steps" / "soup.md").read_text()
    assert len((files / "audit.csv").read_text().splitlines()) == 3
    assert StepDataset.read(files / "raw.json")["soup"].timestamps == swapped["soup"].timestamps


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"action": "evaluate"}, "predictions"),
        ({"action": "predict"}, "model"),
        ({"action": "features"}, "videos"),
        ({"pretrain": "x.json"}, "pretrain_features"),
        ({"tau": "high"}, "tau"),
        ({"dim": 12}, "dim"),
        ({"metrics": "f2"}, "metrics"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as caught:
        build_config(Config, options)
    assert caught.value.field == field
