"""A narrated video of which everything is known: key frames, medians, pairs, files, resumption."""

from __future__ import annotations

import ast
import csv
import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paperworks.errors import InputError
from paperworks.inputs.transcripts import Cue, make_transcript, write_srt
from paperworks.inputs.video import decode_frames, write_video
from paperworks.papers.quilt1m.assembly import write_dataset
from paperworks.papers.quilt1m.captions import pair_captions
from paperworks.papers.quilt1m.correction import VocabularyCorrector
from paperworks.papers.quilt1m.curator import CurationSettings, VideoTextCurator, is_english
from paperworks.papers.quilt1m.filters import CallableFilter, ColorTextureFilter, PlainFilter, as_picture
from paperworks.papers.quilt1m.lectures import cursor_place, filter_examples, random_slides, slide
from paperworks.papers.quilt1m.outputs import IMAGE_COLUMNS, read_pairs, write_datasets
from paperworks.papers.quilt1m.pairing import PairSettings, is_new
from paperworks.papers.quilt1m.recipe import Config, run
from paperworks.papers.quilt1m.vocabulary import SplitText, Vocabulary, split_text
from paperworks.papers.quilt1m.watching import Watched, WatchSettings, watch_video
from paperworks.runs import Run, build_config

from .small import lecture, write_talk, write_terms

SHORT = CurationSettings(min_duration=5)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lecture and its vocabulary."""
    folder = tmp_path_factory.mktemp("talk")
    write_talk(folder)
    write_terms(folder)
    return folder


@pytest.fixture(scope="module")
def watched(talk: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch_video(talk / "talk.mp4", tmp_path_factory.mktemp("watched") / "w", PlainFilter())


def test_key_frames_are_the_cuts(watched: Watched) -> None:
    cuts = [0.0, 3.0, 8.0, 11.0]
    for cut in cuts:
        assert np.abs(watched.times - cut).min() <= 0.1
    assert [bool(watched.positive[np.abs(watched.times - cut).argmin()]) for cut in cuts] == [False, True, False, True]
    assert watched.duration == pytest.approx(16.0, abs=0.05)


def test_medians_have_no_cursor(talk: Path, watched: Watched) -> None:
    stills = [one for one in watched.stills if one.file]
    assert len(stills) == 2
    for one, scene in zip(stills, (1, 3), strict=True):
        clean = lecture().scenes[scene].picture.astype(float)
        median = np.asarray(Image.open(watched.folder / one.file)).astype(float)
        single = [
            f.rgb().astype(float) for f in decode_frames(talk / "talk.mp4", start=one.start + 1, end=one.start + 2)
        ]
        error = np.abs(median - clean)
        assert error.mean() < min(np.abs(frame - clean).mean() for frame in single)
        blocks = error[:240, :312].mean(2).reshape(20, 12, 26, 12).mean((1, 3))
        assert blocks.max() < 40, "a block of the cursor is left"
        assert max(np.abs(frame - clean).max() for frame in single) > 100
    assert cursor_place(3, 240, 320) != cursor_place(4, 240, 320)


def test_pairs_of_each_scene(talk: Path, tmp_path: Path) -> None:
    vocabulary = Vocabulary.read(talk / "terms.csv")
    curator = VideoTextCurator(SHORT, vocabulary=vocabulary, correct=VocabularyCorrector(vocabulary, ["here", "whole"]))
    videos = curator.run(talk, cache=tmp_path / "cache")
    data = write_dataset(tmp_path / "out", videos, formats=("webdataset",))
    by_picture: dict[str, list[str]] = {}
    for row in data.pairs:
        by_picture.setdefault(row["image"], []).append(row["text"])
    assert len(by_picture) == 2
    roof, dahlia = by_picture.values()
    assert any("upper roof of the pagoda" in text for text in roof)
    assert any("flower head of a dahlia" in text for text in dahlia)
    assert not any("questions" in text or "Welcome" in text for text in [*roof, *dahlia])
    assert len(data.pairs) == len({(r["image"], r["text"]) for r in data.pairs})
    assert read_pairs(tmp_path / "out")[0]["image"] == str(tmp_path / "out" / data.pairs[0]["image"])
    with (tmp_path / "out" / "quilt_data.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert tuple(rows[0]) == IMAGE_COLUMNS
    assert isinstance(ast.literal_eval(rows[0]["medical_text"]), list)
    assert rows[0]["it_pair"] == "1"
    assert (rows[0]["height"], rows[0]["width"]) == ("240", "320")
    ids = ast.literal_eval(rows[0]["med_umls_ids"])
    assert {"entity": "roof", "concept_id": "C2", "confidence": 1.0} in ids[0]
    with (tmp_path / "out" / "quilt_recon.csv").open(newline="") as lines:
        recon = next(iter(csv.DictReader(lines)))
    stable = ast.literal_eval(recon["stable_times"])
    assert [list(chunk) for chunk in stable] == [[i] for i in range(len(stable))]
    assert len(ast.literal_eval(recon["key_frame_times"])) == len(ast.literal_eval(recon["predictions"]))
    words = sum(len(cue.text.split()) for cue in lecture().cues())
    assert float(recon["pair_chunk_time"]) == pytest.approx(20 / (words / 16.0), rel=1e-3)


def test_nothing_is_computed_twice_and_bytes_are_the_same(talk: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    first = VideoTextCurator(SHORT)
    with pytest.raises(Stop):
        first.run(talk, cache=tmp_path / "cache", progress=lambda i, d, t=None: _raise_or(i, d, Stop))
    assert first.stages == {"watch": 1}
    second = VideoTextCurator(SHORT)
    one = write_dataset(tmp_path / "one", second.run(talk, cache=tmp_path / "cache"))
    assert second.stages == {"pairs": 1}
    two = write_dataset(tmp_path / "two", VideoTextCurator(SHORT).run(talk, cache=tmp_path / "other"))
    for name in ("pairs.jsonl", "quilt_data.csv", "quilt_recon.csv"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    third = VideoTextCurator(SHORT)
    third.run(talk, cache=tmp_path / "cache")
    assert third.stages == {}
    other = VideoTextCurator(CurationSettings(min_duration=5, watch=WatchSettings(threshold=0.02)))
    other.run(talk, cache=tmp_path / "cache")
    assert other.stages == {"watch": 1, "pairs": 1}


def _raise_or(iterable: Any, description: str, error: type[Exception]) -> Any:
    if description == "pairing":
        raise error
    return iter(iterable)


def test_processes_give_the_same(talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def threads(workers: int, mp_context: Any) -> ThreadPoolExecutor:
        assert mp_context.get_start_method() == "spawn"
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr("paperworks.papers.quilt1m.curator.ProcessPoolExecutor", threads)
    fitted = ColorTextureFilter().fit(*filter_examples(0, 4))
    assert pickle.loads(pickle.dumps(fitted)).identity == fitted.identity
    (tmp_path / "videos").mkdir()
    for name in ("a", "b"):
        for suffix in (".mp4", ".srt"):
            (tmp_path / "videos" / f"{name}{suffix}").write_bytes((talk / f"talk{suffix}").read_bytes())
    curator = VideoTextCurator(CurationSettings(min_duration=5, workers=2))
    videos = curator.run(tmp_path / "videos", cache=tmp_path / "cache")
    assert curator.stages["watch"] == 2
    assert [len(one.paired.chunks) for one in videos if one.paired] == [2, 2]


def test_shards_and_datasets(talk: Path, tmp_path: Path) -> None:
    videos = VideoTextCurator(SHORT).run(talk, cache=tmp_path / "cache")
    data = write_dataset(tmp_path / "out", videos, formats=("webdataset",), shard_size=3)
    shards = sorted((tmp_path / "out" / "webdataset").glob("*.tar"))
    assert len(shards) == data.shards == -(-len(data.pairs) // 3)
    with tarfile.open(shards[0]) as shard:
        names = shard.getnames()
        assert names[:3] == ["000000000.png", "000000000.txt", "000000000.json"]
        image = shard.extractfile(names[0])
        assert image is not None
        assert Image.open(io.BytesIO(image.read())).size == (320, 240)
        text = shard.extractfile(names[1])
        assert text is not None
        assert text.read().decode() == data.pairs[0]["text"]


def test_shards_are_read_by_a_peer(talk: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    data = write_dataset(
        tmp_path / "out", VideoTextCurator(SHORT).run(talk, cache=tmp_path / "cache"), formats=("webdataset",)
    )
    shard = str(tmp_path / "out" / "webdataset" / "pairs-000000.tar")
    samples = list(webdataset.WebDataset(shard, shardshuffle=False).decode("pil"))
    assert [sample["txt"] for sample in samples] == [row["text"] for row in data.pairs]
    assert samples[0]["png"].size == (320, 240)
    assert samples[0]["json"]["source"] == "talk.mp4"


def test_pictures_can_be_redacted_and_given_a_magnification(talk: Path, tmp_path: Path) -> None:
    videos = VideoTextCurator(SHORT).run(talk, cache=tmp_path / "cache")
    data = write_dataset(
        tmp_path / "out",
        videos,
        redact=lambda picture: picture.convert("L").convert("RGB"),
        magnification=lambda picture: f"{picture.width}",
    )
    pixels = np.asarray(Image.open(data.folder / data.pairs[0]["image"]))
    assert (pixels[..., 0] == pixels[..., 1]).all()
    with (data.folder / "quilt_data.csv").open(newline="") as lines:
        assert {row["magnification"] for row in csv.DictReader(lines)} == {"320"}


def test_a_folder_of_datasets(talk: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    videos = VideoTextCurator(SHORT).run(talk, cache=tmp_path / "cache")
    data = write_dataset(tmp_path / "out", videos)
    write_datasets(tmp_path / "hf", data.folder, data.pairs)
    loaded = datasets.load_from_disk(str(tmp_path / "hf"))
    assert loaded["text"] == [row["text"] for row in data.pairs]
    assert loaded[0]["image"].size == (320, 240)


def test_why_videos_are_left_out(talk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("good", "silent", "wordless", "late"):
        (folder / f"{name}.mp4").write_bytes((talk / "talk.mp4").read_bytes())
    (folder / "good.srt").write_bytes((talk / "talk.srt").read_bytes())
    (folder / "wordless.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\n\n")
    write_srt([Cue(100, 103, "too late")], folder / "late.srt")
    (folder / "broken.mp4").write_bytes(b"nothing")
    write_video(folder / "short.mp4", [slide([])] * 8, fps=4)
    write_video(folder / "slides.mp4", [slide(["x"])] * 60, fps=10)
    write_srt([Cue(1, 3, "only a slide here")], folder / "slides.srt")
    videos = VideoTextCurator(SHORT).run(folder, cache=tmp_path / "cache")
    reasons = {one.path.stem: one.reason for one in videos}
    assert reasons["good"] == ""
    assert reasons["broken"].startswith("cannot be read")
    assert reasons["short"] == "shorter than 5 s (min_duration)"
    assert "--transcripts or --asr" in reasons["silent"]
    assert "no cue" in reasons["wordless"]
    assert "recording of 16.0 s" in reasons["late"]
    assert reasons["slides"] == "no frame shows the domain"
    for path in folder.glob("good.*"):
        path.unlink()
    with pytest.raises(InputError, match="no usable video among 6"):
        VideoTextCurator(SHORT).run(folder, cache=tmp_path / "cache")
    with pytest.raises(InputError, match="transcripts"):
        VideoTextCurator(SHORT).run(folder, tmp_path / "none", cache=tmp_path / "cache")


def test_faults_are_noted(talk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    frames = [(i / 10 if i < 60 else 6 + (i - 60) / 4, lecture().scenes[1].picture) for i in range(80)]
    write_video(folder / "a.mkv", frames)
    text = (
        "00:01,0 --> 00:04,0\nthe r\u00e9d roof here\n\n00:03,0 --> 00:05,0\nand more\n\n00:50,0 --> 00:55,0\nbeyond\n"
    )
    (folder / "a.srt").write_bytes(text.encode("cp1252"))
    one = VideoTextCurator(SHORT).run(folder, cache=tmp_path / "cache")[0]
    words = "\n".join(one.notes)
    for part in ("frame rate varies", "overlapping (1)", "beyond the end", "cp1252", "longer than the video"):
        assert part in words, part


def test_key_frames_where_nothing_is_still(talk: Path, tmp_path: Path) -> None:
    watched = watch_video(talk / "talk.mp4", tmp_path / "w", PlainFilter(), WatchSettings(stable=_never_still()))
    assert watched.stills == ()
    settings = CurationSettings(min_duration=5, watch=WatchSettings(stable=_never_still()))
    paired = VideoTextCurator(settings).run(talk, cache=tmp_path / "c")[0].paired
    assert paired is not None
    assert [p.kind for chunk in paired.chunks for p in chunk.pictures] == ["key frame"] * 2
    without = CurationSettings(min_duration=5, watch=settings.watch, pair=PairSettings(fallback=False))
    paired = VideoTextCurator(without).run(talk, cache=tmp_path / "c")[0].paired
    assert paired is not None
    assert not any(chunk.pictures for chunk in paired.chunks)


def _never_still() -> Any:
    from paperworks.papers.quilt1m.stable import StableSettings

    return StableSettings(shortest=1000.0)


def test_which_key_frames_are_new() -> None:
    a, b = lecture().scenes[1].picture, lecture().scenes[3].picture
    assert not is_new(a, a, "ssim")
    for how in ("phash", "embed"):
        assert is_new(a, b, how)
        assert not is_new(a, np.clip(a.astype(int) + 2, 0, 255).astype(np.uint8), how)


def test_functions_of_one_name_are_different_filters() -> None:
    def above(limit: Any) -> Any:
        return lambda pictures: [float(np.mean(picture) > np.mean(limit)) for picture in pictures]

    def below(limit: Any) -> Any:
        return lambda pictures: [float(np.mean(picture) < np.mean(limit)) for picture in pictures]

    long = np.zeros(5000)
    other = long.copy()
    other[2500] = 1
    made = [above(100), above(101), below(100), above(long), above(other)]
    assert len({CallableFilter(function).identity for function in made}) == 5
    assert CallableFilter(above(100)).identity == CallableFilter(above(100)).identity
    assert CallableFilter(above(100), "mine").identity == "mine"
    lambdas = [lambda p: [0.1] * len(p), lambda p: [0.9] * len(p)]
    assert CallableFilter(lambdas[0]).identity != CallableFilter(lambdas[1]).identity


def test_filters_on_pictures_they_never_saw() -> None:
    positive, negative = filter_examples(0)
    fitted = ColorTextureFilter().fit(positive, negative)
    rng = np.random.default_rng(99)
    slides = [Image.fromarray(s) for s in random_slides(12, rng)]
    shown = [Image.fromarray(lecture().scenes[i].picture) for i in (1, 3)]
    for accepts in (fitted, PlainFilter()):
        assert (accepts(slides) < 0.5).all()
        assert (accepts(shown) >= 0.5).all()
    with pytest.raises(InputError):
        ColorTextureFilter().fit(positive, negative[:1])
    assert is_english(make_transcript([Cue(0, 1, "this is what we see in the tissue")]))
    assert not is_english(make_transcript([Cue(0, 1, "das ist ein schnitt durch die haut")]))


def test_the_recipe(talk: Path, tmp_path: Path) -> None:
    options = {"videos": str(talk), "vocabulary": str(talk / "terms.csv"), "min_duration": 5, "image_size": 64}
    job = Run(tmp_path / "run")
    report = run(build_config(Config, options), job)  # type: ignore[arg-type]
    assert report.metrics["pictures"] == 2
    assert "1 of 1 videos gave" in report.headline
    for file in report.files:
        assert (job.files / file.path).exists(), file.path
    assert Image.open(next((job.files / "dataset" / "images").iterdir())).size == (64, 64)
    stages = json.loads((job.files / "dataset" / "stages.json").read_text())
    assert stages["chunks"] == 2


def test_captioned_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(lecture().scenes[1].picture).save(folder / "a.png")
    Image.fromarray(slide([])).save(folder / "b.png")
    Image.fromarray(lecture().scenes[3].picture).save(folder / "c.jpg")
    (folder / "d.png").write_bytes(b"no picture")
    lines = "image,caption\na.png,Here is the roof. Copyright by us.\nb.png,a roof\nc.jpg,nothing\nd.png,a roof\n"
    (tmp_path / "captions.csv").write_text(lines)
    options = {
        "images": str(folder),
        "captions": str(tmp_path / "captions.csv"),
        "vocabulary": str(write_terms(tmp_path)),
    }
    report = run(build_config(Config, options), Run(tmp_path / "run"))  # type: ignore[arg-type]
    assert report.headline == "1 of 4 captioned pictures gave 1 pairs."
    rows = read_pairs(tmp_path / "run" / "files" / "dataset")
    assert [row["text"] for row in rows] == ["Here is the roof."]
    (tmp_path / "captions.csv").write_text("image,caption\n../terms.csv,x\n")
    with pytest.raises(InputError, match="a file in"):
        run(build_config(Config, options), Run(tmp_path / "again"))  # type: ignore[arg-type]


def test_several_captions_of_a_picture_and_all_forms(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text("image,caption\na.png,One. Two.\na.png,Two. Three.\n")
    found = pair_captions(
        tmp_path,
        tmp_path / "captions.csv",
        tmp_path / "out",
        CallableFilter(lambda pictures: [1.0] * len(pictures)),
        correct=None,
        split=split_text,
        vocabulary=None,
        formats=("webdataset", "datasets"),
        shard_size=2,
    )
    assert [(row["image"], row["text"]) for row in found.pairs] == [
        ("images/000000.png", text) for text in ("One.", "Two.", "Three.")
    ]
    assert found.pictures == 1
    assert len(list((tmp_path / "out" / "webdataset").glob("*.tar"))) == found.shards == 2
    assert datasets.load_from_disk(str(tmp_path / "out" / "datasets"))["text"][:] == ["One.", "Two.", "Three."]


def test_pictures_of_region_sentences_alone_are_written(talk: Path, tmp_path: Path) -> None:
    def regions(sentences: Any, _vocabulary: Any) -> SplitText:
        return SplitText([], list(sentences), [])

    curator = VideoTextCurator(SHORT, split=regions)
    data = write_dataset(tmp_path / "data", curator.run(talk, cache=tmp_path / "cache"), formats=("webdataset",))
    assert data.pairs
    assert {row["kind"] for row in data.pairs} == {"roi"}
    assert len(read_pairs(tmp_path / "data")) == len(data.pairs)  # every picture is there


@pytest.mark.parametrize(
    "options",
    [
        {"positive": "a"},
        {"filter_models": ("a",)},
        {"filter_models": ("a",), "positive_labels": ("x",), "filter_crops": (300, 224)},
        {"images": "a"},
        {"action": "evaluate"},
        {"templates": ("no class",)},
        {"fractions": (0.0,)},
        {"recall_at": (0,)},
        {"longest_chunk": 5, "shortest_chunk": 10},
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        build_config(Config, options)


def test_pictures_are_upright_and_of_eight_bits(tmp_path: Path) -> None:
    """Pillow alone makes 16 bits white, and shows what is behind full transparency."""
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.dstack([pixels] * 3 + [np.zeros_like(pixels)])).save(tmp_path / "clear.png")
    for name, expected in (("deep", pixels), ("turned", np.rot90(pixels, -1)), ("clear", np.full_like(pixels, 255))):
        assert np.array_equal(np.asarray(as_picture(tmp_path / f"{name}.png")), np.dstack([expected] * 3))
    Image.fromarray(pixels.astype(np.int32) * 5000).save(tmp_path / "counts.tif")
    with pytest.raises(InputError, match=r"counts.tif: found .*; expected an image with 8 or 16 bits a channel"):
        as_picture(tmp_path / "counts.tif")
