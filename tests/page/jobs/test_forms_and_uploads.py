"""Forms generated from options, and uploads that cannot become code or leave their place."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from paperworks import catalog, runs
from paperworks.errors import InputError
from paperworks.page.database import Database, Upload
from paperworks.page.jobs import form_fields, read_form, save_upload, uploads
from paperworks.page.settings import Settings
from paperworks.runs import build_config, load_recipe


class Options(runs.Config):
    """One option of each kind."""

    table: Annotated[str, runs.File(("wine", "digits"))] = Field("wine", description="a table")
    model: Path | None = Field(None, description="a checkpoint")
    endpoint: Annotated[str, runs.CommandLineOnly()] = Field("", description="an address")
    share: float = Field(0.5, gt=0, lt=1, description="a share")
    kinds: tuple[str, ...] = Field(("a", "b"), description="kinds")
    label: str | None = Field(None, description="a column")
    quick: bool = Field(True, description="less of all")


def test_fields_say_what_the_config_says() -> None:
    fields = {f.name: f for f in form_fields(Options, uploads=True)}
    assert list(fields) == ["seed", "table", "model", "share", "kinds", "label", "quick"]
    assert (fields["table"].kind, fields["table"].choices, fields["table"].accepts_upload) == (
        "file",
        ("wine", "digits"),
        True,
    )
    assert (fields["share"].minimum, fields["share"].maximum) == (0, 1)
    assert (fields["kinds"].kind, fields["kinds"].default) == ("list", "a, b")
    assert (fields["quick"].kind, fields["quick"].default) == ("flag", "true")
    assert fields["label"].optional


class Flags(runs.Config):
    """Descriptions as they are written for a command line."""

    top_k: int = Field(5, description="how many; needs --quick, and not --no-quick or --other")
    quick: bool = Field(True, title="less of all", description="instead of --top-k")


def test_a_form_speaks_of_its_own_fields() -> None:
    fields = {f.name: f for f in form_fields(Flags, uploads=True)}
    assert fields["quick"].label == "less of all"
    assert fields["quick"].help == "instead of “top k”"
    assert fields["top_k"].help == "how many; needs “less of all”, and not “less of all” or --other"


def test_without_uploads_only_bundled_names_are_offered() -> None:
    fields = {f.name: f for f in form_fields(Options, uploads=False)}
    assert "model" not in fields
    assert not fields["table"].accepts_upload
    with pytest.raises(InputError, match="table"):
        read_form(Options, {}, {"table": "x"}, uploads=False)
    with pytest.raises(InputError, match="model"):
        read_form(Options, {"model": "/etc/passwd"}, {}, uploads=False)


@pytest.mark.parametrize("text", ["/etc/passwd", "mine.csv", "../wine", "Wine", "http://x/y.csv"])
def test_a_file_is_a_bundled_name_or_an_upload_and_never_a_path(text: str) -> None:
    with pytest.raises(InputError, match=r"table: .*expected one of wine, digits, or an upload"):
        read_form(Options, {"table": text}, {}, uploads=True)


def test_an_upload_wins_over_the_chosen_name() -> None:
    assert read_form(Options, {"table": "digits"}, {"table": "u/x.csv"}, uploads=True) == {"table": "u/x.csv"}


def test_a_null_character_is_refused() -> None:
    with pytest.raises(InputError, match="label"):
        read_form(Options, {"label": "a\x00b"}, {}, uploads=True)


@pytest.mark.parametrize("paper", [p for p in catalog.papers() if p.has_recipe], ids=lambda p: p.slug)
def test_every_papers_form_sent_as_it_stands_gives_its_defaults(paper: catalog.Paper) -> None:
    config = load_recipe(paper.slug, f"{paper.module}.recipe").config
    for allowed in (True, False):
        fields = form_fields(config, allowed)
        values = {f.name: f.default for f in fields}
        assert build_config(config, read_form(config, values, {}, allowed)) == config()
        assert "device" not in values


@pytest.fixture
def keep(database: Database, settings: Settings):
    def save(name: str, content: bytes) -> tuple[Upload, Path]:
        upload, reference = save_upload(database, settings, "table", name, [content[:10], content[10:]], 1)
        return upload, settings.folder / reference

    return save


def zipped(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def kept(settings: Settings) -> list[Path]:
    folder = settings.folder / "uploads"
    return list(folder.iterdir()) if folder.exists() else []


def test_a_table_is_kept_as_it_is(keep, settings: Settings) -> None:
    upload, path = keep("My table (1).CSV", b"a,b\n1,2\n3,4\n")
    assert path.read_bytes() == b"a,b\n1,2\n3,4\n"
    assert path.is_relative_to(settings.folder / "uploads" / upload.id)
    assert (upload.name, upload.bytes, upload.stored) == ("My table _1_.CSV", 12, 12)


@given(name=st.text(max_size=60))
def test_a_name_never_leads_anywhere(name: str) -> None:
    try:
        safe = uploads.safe_name("table", name + ".csv")
    except InputError:
        return
    assert Path(safe).name == safe
    assert not safe.startswith(".")
    assert len(safe.encode()) <= 200
    assert safe.isprintable()


def test_a_checkpoint_folder_comes_as_an_archive(keep) -> None:
    content = zipped({"mini/config.json": b"{}", "mini/model.safetensors": b"x" * 100, "mini/LICENSE": b"free"})
    _, path = keep("mini.zip", content)
    assert path.name == "mini"
    assert sorted(p.name for p in path.iterdir()) == ["config.json", "model.safetensors"]
    _, path = keep("two.tgz", tarred((tarfile.TarInfo("a.csv"), b"1"), (tarfile.TarInfo("b/c.txt"), b"2")))
    assert sorted(p.relative_to(path).as_posix() for p in path.rglob("*.*")) == ["a.csv", "b/c.txt"]


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


OBJECTS = io.BytesIO()
np.save(OBJECTS, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.zip", zipped({"../x.csv": b"1"}), "own folder"),
        ("x.zip", zipped({"/etc/x.csv": b"1"}), "own folder"),
        ("x.zip", zipped({"..\\x.csv": b"1"}), "own folder"),
        ("x.zip", zipped({"C:/x.csv": b"1"}), "own folder"),
        ("x.tar.gz", tarred((tarfile.TarInfo("a/../../x.csv"), b"1")), "own folder"),
        ("x.tar.gz", tarred((link("x.csv", "/etc/passwd"), b"")), "no plain file"),
        ("x.tar.gz", tarred((link("x.csv", "y.csv", tarfile.CHRTYPE), b"")), "no plain file"),
        ("x.zip", zipped({"a.csv": b"1", "modeling.py": b"import os"}), "without code"),
        ("x.zip", zipped({"pytorch_model.bin": b"1"}), "without code"),
        ("x.zip", zipped({"a.json": pickle.dumps([1], protocol=4)}), "pickle"),
        ("x.zip", zipped({}), "without data"),
        ("x.zip", zipped({"a.csv": b"0" * 3_000_000}), "unpacks to more"),
        ("x.zip", zipped({"a.csv": b"1"})[:-30], "cannot be read"),
        ("x.zip", b"no archive", "cannot be read"),
        ("x.tar", b"no archive", "cannot be read"),
        ("x.zip", zipped({"a.csv": b"1", "a.csv/b.csv": b"2"}), "twice"),
        ("x.csv", b"", "empty"),
        ("x.csv", b"1" * 100_001, "at most 100000 bytes"),
        ("x.csv", pickle.dumps([1], protocol=4), "pickle"),
        ("x.json", zipped({"archive/data.pkl": b"1"}), "pickle"),
        ("x.npy", OBJECTS.getvalue(), "Python objects"),
        ("x.pt", b"1", "of kind .pt"),
        ("x.py", b"1", "of kind .py"),
        ("x", b"1", "without a suffix"),
        ("...", b"1", "file name"),
    ],
    # Archives hold the time at which they were made: their bytes must not name a test.
    ids=lambda value: "content" if isinstance(value, bytes) else value,
)
def test_what_is_refused_leaves_nothing(
    database: Database, settings: Settings, name: str, content: bytes, reason: str
) -> None:
    small = settings.model_copy(update={"upload_bytes": 100_000})
    with pytest.raises(InputError, match=reason) as caught:
        save_upload(database, small, "table", name, [content], 1)
    assert str(caught.value).startswith("table: ")
    assert kept(small) == []


def test_a_page_without_uploads_takes_none(database: Database, settings: Settings) -> None:
    closed = settings.model_copy(update={"uploads": False})
    with pytest.raises(InputError, match="takes no files"):
        save_upload(database, closed, "table", "x.csv", [b"1"], 1)
