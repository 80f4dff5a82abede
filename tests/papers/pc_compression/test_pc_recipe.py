"""The recipe on arrays, images and tables; compressing and decompressing files with what it trained; the studies."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.pc_compression import HCLT, baselines, compress_file, decompress_file, inputs, study
from paperworks.papers.pc_compression.recipe import Config, run, schedule

counter = itertools.count()


def go(tmp_path, **options):
    execution = runs.Run(tmp_path / f"run{next(counter)}", seed=options.get("seed", 0))
    report = run(Config(**{"latents": 3, "epochs": 3} | options), execution)
    for made in report.files:
        assert (execution.files / made.path).exists()
    return report, execution.files


def there_and_back(tmp_path, source, model, **options):
    """Compress another file with the model, decompress it; the folder that holds the result."""
    _, packed = go(tmp_path, input=str(source), action="compress", model=model)
    file = next(packed.glob("*.pc"))
    report, unpacked = go(tmp_path, input=str(file), action="decompress", model=model)
    assert report.metrics["bytes"] == file.stat().st_size
    return unpacked


@pytest.fixture(scope="module")
def on_digits(tmp_path_factory):
    """The report and the files of a run on the bundled digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "MOST_FILES", 100)
        return go(tmp_path_factory.mktemp("digits"))


def test_defaults_are_the_bundled_digits(on_digits, tmp_path):
    assert Config().input == "digits"
    report, files = on_digits
    assert report.metrics["bits per value, held out"] < report.metrics["ideal bits per value, held out"] + 0.1
    names = [row[0] for table in report.tables if table.title.startswith("Held-out") for row in table.rows]
    assert {"PNG, one sheet", "WebP, one sheet", "xz -9e", "zstd -22", "independent, ideal"} <= set(names)
    assert len(report.figures) == 4
    (tmp_path / "saved").mkdir()
    report.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "report.html").read_text().count("image/svg") == 4
    model = HCLT.load(files / "model")
    assert model.about_["kind"] == "array"
    assert json.loads((files / "model" / "model.json").read_text())["sha256"] == model.sha256


def test_arrays_of_the_user(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(-5, 20, (60, 3, 7)).astype(np.int16)
    values[0, 0, 0], values[-1, 0, 0] = -5, 19
    np.save(tmp_path / "mine.npy", values)
    _, files = go(tmp_path, input=str(tmp_path / "mine.npy"))
    assert (files / "mine.pc").exists()
    np.save(tmp_path / "more.npy", values[:7])
    back = np.load(there_and_back(tmp_path, tmp_path / "more.npy", files / "model") / "more.npy")
    assert back.dtype == np.int16
    assert (back == values[:7]).all()
    values[59, 0, 0] = 20
    np.save(tmp_path / "bad.npy", values)
    with pytest.raises(InputError, match=r"input\[59, 0, 0\]: found 20; expected -5 to 19"):
        go(tmp_path, input=str(tmp_path / "bad.npy"), action="compress", model=files / "model")


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_folder_of_images_of_different_sizes(tmp_path, channels):
    rng = np.random.default_rng(1)
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    pictures = {}
    for name, size in (("a.png", (30, 41)), ("deep/b.bmp", (16, 9)), ("c.webp", (25, 25))):
        image = (np.add.outer(np.arange(size[0]), np.arange(size[1]))[..., *(None for _ in channels)] * 3).astype(
            np.uint8
        )
        image = np.broadcast_to(image, (*size, *channels)) + rng.integers(0, 4, (*size, *channels)).astype(np.uint8)
        pictures[name] = image
        Image.fromarray(image).save(folder / name, **({"lossless": True} if name.endswith("webp") else {}))
    expected = {name: np.array(Image.open(folder / name)) for name in pictures}
    _, files = go(tmp_path, input=str(folder), patch=6)
    unpacked = there_and_back(tmp_path, folder, files / "model") / "pictures"
    for name, image in expected.items():
        found = np.array(Image.open((unpacked / name).with_suffix(".png")))
        assert np.array_equal(found, image)
    one = there_and_back(tmp_path, folder / "a.png", files / "model") / "a"
    assert (np.array(Image.open(one / "a.png")) == expected["a.png"]).all()


def test_images_of_other_kinds_refuse_no_folder(tmp_path):
    """One image with transparency, a palette or 16 bits is kept as its file; metadata of the others comes back."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        info = PngInfo()
        info.add_text("Title", "of " + name)
        picture = Image.fromarray(rng.integers(0, 9, (40, 40, 3)).astype(np.uint8))
        picture.save(folder / name, pnginfo=info, dpi=(300, 300))
    Image.fromarray(rng.integers(0, 255, (9, 9, 4)).astype(np.uint8), "RGBA").save(folder / "clear.png")
    Image.fromarray(rng.integers(0, 255, (9, 9)).astype(np.uint8)).convert("P").save(folder / "few.png")
    Image.fromarray(rng.integers(0, 60000, (9, 9)).astype(np.uint16)).save(folder / "deep.png")
    report, files = go(tmp_path, input=str(folder))
    assert any("Kept as their files" in line and "RGBA" in line for line in report.lead)
    unpacked = there_and_back(tmp_path, folder, files / "model") / "pictures"
    for name in ("clear.png", "few.png", "deep.png"):
        assert (unpacked / name).read_bytes() == (folder / name).read_bytes()
    with Image.open(unpacked / "a.png") as back, Image.open(folder / "a.png") as before:
        assert np.array_equal(np.array(back), np.array(before))
        assert back.text == {"Title": "of a.png"}
        assert back.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_the_headline_says_when_files_grow_and_which_coder_is_better(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(6):  # drawings, which PNG takes to almost nothing
        picture = np.full((64, 64), 255, np.uint8)
        picture[8 * i : 8 * i + 9, 10:50] = 0
        Image.fromarray(picture).save(folder / f"{i}.png", optimize=True)
    report, files = go(tmp_path, input=str(folder), patch=4)
    before = sum(f.stat().st_size for f in folder.iterdir())
    packed = (files / "pictures.pc").stat().st_size
    model = sum(f.stat().st_size for f in (files / "model").iterdir())
    assert report.metrics["original, bytes"] == before
    assert report.metrics["packed, bytes"] == packed
    assert report.metrics["model, bytes"] == model
    assert f"{before:,} bytes became {packed:,} bytes packed" in report.headline
    sizes = {row[0]: row[1] for row in report.tables[0].rows}
    better = min((n for n in sizes if n not in ("original", "packed", "model", "packed and model")), key=sizes.get)
    assert sizes[better] < packed
    assert f"{better} is better ({sizes[better]:,} bytes" in report.headline
    if packed >= before:
        assert "larger than before" in report.headline


def test_a_table_with_new_values_and_a_column_of_numbers(tmp_path):
    rng = np.random.default_rng(2)
    n = 400
    table = pd.DataFrame(
        {
            "colour": rng.choice(["red", "green", "", 'a "quoted", one'], n),
            "size": rng.integers(0, 9, n).astype(str),
            "weight": [f"{w:.5f}" for w in rng.normal(size=n)],
        }
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    report, files = go(tmp_path, input=str(tmp_path / "t.csv"))
    assert len(report.figures) == 3
    assert HCLT.load(files / "model").n_features_in_ == 2
    fresh = table.iloc[:50].copy()
    fresh.loc[fresh.index[3], "colour"] = "brand new"
    fresh.to_csv(tmp_path / "new.csv", index=False)
    unpacked = there_and_back(tmp_path, tmp_path / "new.csv", files / "model")
    assert (unpacked / "new.csv").read_text() == (tmp_path / "new.csv").read_text()
    table.drop(columns="size").to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(InputError, match="columns colour, weight"):
        go(tmp_path, input=str(tmp_path / "less.csv"), action="compress", model=files / "model")


def test_functions_write_files_and_overwrite_nothing(on_digits, tmp_path):
    _, files = on_digits
    rows = inputs.read("digits")[0][:20]
    np.save(tmp_path / "x.npy", rows)
    done = compress_file(tmp_path / "x.npy", files / "model", tmp_path / "out" / "x.pc")
    assert done.rows == 20
    assert (tmp_path / "out" / "x.pc").read_bytes() == done.data
    with pytest.raises(InputError, match="nothing is overwritten"):
        compress_file(tmp_path / "x.npy", files / "model", tmp_path / "out" / "x.pc")
    back = decompress_file(tmp_path / "out" / "x.pc", files / "model", tmp_path / "back")
    assert (np.load(back) == rows).all()
    with pytest.raises(InputError, match="nothing is overwritten"):
        decompress_file(tmp_path / "out" / "x.pc", files / "model", tmp_path / "back")
    model = HCLT.load(files / "model")
    other = HCLT(3, model.n_categories_, schedule=schedule(1), random_state=5).fit(rows.reshape(len(rows), -1))
    other.save(tmp_path / "other", model.about_)
    with pytest.raises(InputError, match="the one that compressed this file"):
        decompress_file(tmp_path / "out" / "x.pc", tmp_path / "other", tmp_path / "elsewhere")
    damaged = bytearray(done.data)
    damaged[100] ^= 4
    (tmp_path / "damaged.pc").write_bytes(damaged)
    with pytest.raises(InputError, match="changed or cut off"):
        go(tmp_path, input=str(tmp_path / "damaged.pc"), action="decompress", model=files / "model")


def test_patches_cover_any_image():
    rng = np.random.default_rng(3)
    for shape in ((1, 1), (8, 8), (17, 5), (9, 23, 3)):
        image = rng.integers(0, 256, shape).astype(np.uint8)
        for side in (1, 4, 8):
            assert (inputs.join(inputs.cut(image, side), shape[:2]) == image).all()


def test_simpler_models_match_their_definitions():
    rng = np.random.default_rng(4)
    train, test = rng.integers(0, 3, (50, 3)), rng.integers(0, 3, (20, 3))
    counts = np.stack([[(train[:, v] == a).sum() for a in range(3)] for v in range(3)]) + 0.1 / 3
    p = counts / counts.sum(1, keepdims=True)
    expected = -np.mean([np.log2(p[v, x]) for row in test for v, x in enumerate(row)])
    assert baselines.independent_bpd(train, test, 3) == pytest.approx(expected)
    tree = study.Tree.from_parents([-1, 0, 1])
    joint = -np.log2(p[0, test[:, 0]])
    for v in (1, 2):
        for n, row in enumerate(test):
            same = train[:, v - 1] == row[v - 1]
            joint[n] -= np.log2(((train[same, v] == row[v]).sum() + 0.1 / 3) / (same.sum() + 0.1))
    assert baselines.chow_liu_bpd(train, test, tree, 3) == pytest.approx(joint.mean() / 3)


def test_the_cost_by_counting_is_that_of_the_circuit():
    for parents in ([-1, 0, 0, 1, 1, 2, 5, 5], [-1, *range(6)], [-1, 0, 0, 0, 3, 3, 3, 6, 6]):
        tree = study.Tree.from_parents(parents)
        model = HCLT(4, 2, schedule=schedule(1)).fit(np.zeros((3, len(parents)), dtype=int), tree=tree)
        circuit = model.circuit()
        assert study.cost_ratio(tree, 4) == pytest.approx(circuit.evaluation_cost() / circuit.n_edges)


def test_schedules_have_as_many_epochs_as_asked():
    for epochs in (1, 2, 3, 10, 40, 220):
        assert sum(p.epochs for p in schedule(epochs)) == epochs
    assert [p.epochs for p in schedule(220)] == [100, 100, 20]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": "compress"}, "the folder of a trained model"),
        ({"model": "somewhere"}, "no model with --action train"),
        ({"input": "nowhere.npy"}, "does not exist"),
        ({"action": "decompress", "model": "m"}, "a compressed file"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    with pytest.raises((InputError, ValueError), match=message):
        go(tmp_path, **options)


def test_bad_files_are_named(tmp_path):
    cases = {
        "text.npy": (b"hello", "a .npy file"),
        "what.xyz": (b"", "images"),
        "broken.png": (b"no image", "no image"),
        "parquet.csv": (b"PAR1" + bytes(40), "a Parquet file"),
        "empty.csv": (b"a,b\n", "without rows"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=message):
            go(tmp_path, input=str(tmp_path / name))
    np.save(tmp_path / "floats.npy", np.ones((20, 3)))
    with pytest.raises(InputError, match="quantise first"):
        go(tmp_path, input=str(tmp_path / "floats.npy"))
    Image.new("RGBA", (9, 9)).save(tmp_path / "clear.png")
    with pytest.raises(InputError, match="without transparency"):
        go(tmp_path, input=str(tmp_path / "clear.png"))


@pytest.mark.parametrize("name", ["exactness", "lossless", "em"])
def test_exact_studies_hold(tmp_path, name):
    found = next(s for s in runs.studies_of(study) if s.name == name)
    for finding in found(runs.Run(tmp_path), True):
        assert finding.holds, finding
