"""Options: conversion, bounds, and errors that name the field."""

from __future__ import annotations

import os
import re
import sys
import types
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, ValidationError

from paperworks.errors import InputError
from paperworks.runs import Config, File, Run, build_config
from paperworks.runs.config import describe_bounds, describe_type
from paperworks.runs.recipe import Recipe


class Options(Config):
    slicing: float = Field(0.25, ge=0, lt=1, description="share")
    mode: Literal["pca", "axis"] = Field("pca", description="basis")
    dims: tuple[int, ...] | None = Field(None, description="widths")
    model: Path | None = Field(None, description="folder")


def test_values_are_converted_and_frozen() -> None:
    config = build_config(Options, {"slicing": "0.5", "dims": ["8", "16"], "model": "x/y"})
    assert (config.slicing, config.dims, config.model, config.seed) == (0.5, (8, 16), Path("x/y"), 0)
    with pytest.raises(ValidationError):
        config.slicing = 0.1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "field", "found", "expected"),
    [
        ({"slicing": "1"}, "slicing", "'1'", "less than 1"),
        ({"slicing": -0.1}, "slicing", "-0.1", "at least 0"),
        ({"slicing": "much"}, "slicing", "'much'", "a number"),
        ({"mode": "svd"}, "mode", "'svd'", "one of pca, axis"),
        ({"dims": ["8", "x"]}, "dims", "'x'", "whole numbers"),
        ({"seed": -1}, "seed", "-1", "at least 0"),
        ({"slicin": 0.1}, "slicin", "an option that this recipe does not have", "did you mean 'slicing'"),
    ],
)
def test_a_bad_value_names_its_field(values: dict, field: str, found: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        build_config(Options, values)
    assert caught.value.field == field
    assert caught.value.found == found
    assert expected in caught.value.expected


class Sources(Config):
    error_names: ClassVar = {"n_points": "points"}
    data: Annotated[str, File(("digits",))] = Field("digits", description="images")
    encoder: Path | None = Field(None, description="folder")
    model: Path | None = Field(None, description="folder")
    label: str | None = Field(None, description="column")
    points: int = Field(5, description="points")


class Named(Config):
    names: tuple[str, ...] = Field((), description="names")


@pytest.mark.parametrize(
    ("field", "found", "option"),
    [
        ("images", "x/photos, which does not exist", "data"),
        ("model", "x/tower, which does not load", "encoder"),
        ("model", "x/net, which does not load", "model"),
        ("label_key", "'z'", "label"),
        ("n_points", "6", "points"),
        ("points", "x/tower", "points"),
        ("x/photos, line 3", "nothing", "x/photos, line 3"),
        ("weights", "nothing", "weights"),
    ],
)
def test_an_error_of_a_reader_names_the_option_of_its_file(field: str, found: str, option: str) -> None:
    config = Sources(data="x/photos", encoder=Path("x/tower"), model=Path("x/net"))
    assert config.option_of(InputError(field, found, "something")) == option


@pytest.mark.parametrize("text", ["x" * 5000, "a/" + "y" * 300, "a\0b"])
def test_a_text_that_cannot_be_a_path_is_refused_before_anything_asks_for_it(text: str) -> None:
    for name in ("data", "model"):
        with pytest.raises(InputError, match=f"{name}: found .*; expected the name of a file") as caught:
            build_config(Sources, {name: text})
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_a_path_of_nothing_is_not_the_current_folder(text: str) -> None:
    for name in ("data", "model"):
        with pytest.raises(InputError, match=f"{name}: found .*; expected the name of a file or folder"):
            build_config(Sources, {name: text})
    assert build_config(Sources, {"label": text}).label == text  # type: ignore[attr-defined]


def test_pipes_and_devices_are_refused_as_files(tmp_path: Path) -> None:
    """A reader that looks at the beginning of a pipe has lost it, or waits for ever where nobody writes."""
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link").symlink_to(tmp_path / "pipe.csv")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "pipe.csv", tmp_path / "link", Path(os.devnull)):
        for name in ("data", "model"):
            with pytest.raises(InputError, match=f"{name}: found {path}, which is a pipe or a device; expected a file"):
                build_config(Sources, {name: str(path)})
    for path in (tmp_path, tmp_path / "file", tmp_path / "absent"):
        assert build_config(Sources, {"model": str(path)}).model == path  # type: ignore[attr-defined]


def test_errors_of_held_out_text_name_where_it_came_from() -> None:
    class Texts(Config):
        text: str | None = Field(None, description="text")
        evaluation: str | None = Field(None, description="held-out text")

    short = InputError("held_out", "5 tokens", "at least one window of 32 tokens")
    for values, option in (({"text": "a"}, "text"), ({"text": "a", "evaluation": "b"}, "evaluation")):
        assert build_config(Texts, values).option_of(short) == option


def test_files_that_are_not_there_are_refused_before_the_work(tmp_path: Path, monkeypatch) -> None:
    """What a recipe reads last would be missed after all of its work. Names, and folders to be made, are no files."""

    class Files(Config):
        data: Annotated[str, File(("digits",), also=r"\d+")] = Field("digits", description="images")
        model: Path | None = Field(None, description="a trained model")
        cache: Annotated[Path | None, File(made=True)] = Field(None, description="kept for later")
        models: tuple[Annotated[str, File()], ...] = Field((), description="trained models")
        filters: list[Path] | None = Field(None, description="filters")

    module = types.ModuleType("reads_late")
    module.run = lambda config, run: pytest.fail("the work began")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "reads_late", module)
    function = Recipe("late", "reads_late", Files).function
    here = str(tmp_path)
    message = (
        "data: found digit, which does not exist; expected a file or folder, or one of digits (did you mean 'digits'?)"
    )
    for values, words in (
        ({"data": "digit"}, message),
        ({"model": "gone"}, "model: found gone, which does not exist; expected a file or folder (a trained model)"),
        ({"models": [here, "gone"]}, "models: found gone, which does not exist; expected files or folders (trained"),
        ({"filters": [here, "gone"]}, "filters: found gone, which does not exist; expected files or folders (filters)"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            function(build_config(Files, values), Run(tmp_path / "run"))
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    given = build_config(Files, {"data": "7", "model": "~/model", "cache": "new", "filters": [here, "~/model"]})
    given.require_files()
    named = [(name, text) for name, text, _ in given.named_files()]
    assert named == [("data", "7"), ("model", "~/model"), ("cache", "new"), ("filters", here), ("filters", "~/model")]
    assert given.option_of(InputError("folder", f"{tmp_path}/x, which is odd", "another")) == "filters"
    with pytest.raises(InputError, match=r"filters: found '.*'; expected the name of a file or folder"):
        build_config(Files, {"filters": [here, "x" * 300]})


def test_bytes_of_another_encoding_are_refused() -> None:
    """They could not be stored with the run: ``"Caf\\xe9"`` typed on a Latin-1 terminal."""
    typed = os.fsdecode(b"Caf\xe9")
    for kind, values in ((Sources, {"data": typed}), (Sources, {"model": Path(typed)}), (Sources, {"label": typed})):
        with pytest.raises(InputError, match=r"found 'Caf\\udce9'; expected text in UTF-8"):
            build_config(kind, values)
    with pytest.raises(InputError, match=r"names: found .*; expected text in UTF-8"):
        build_config(Named, {"names": ["a", typed]})
    assert build_config(Sources, {"label": "Café"}).label == "Café"  # type: ignore[attr-defined]


def test_descriptions() -> None:
    fields = Options.model_fields
    assert describe_bounds(fields["slicing"]) == "at least 0, less than 1"
    assert describe_type(fields["dims"]) == "whole numbers separated by commas"
    assert describe_bounds(fields["seed"]) == "at least 0"


def test_bounds_of_the_values_of_a_list_are_said() -> None:
    class Rates(Config):
        rates: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field((1.0,), min_length=1, description="rates")
        models: tuple[Annotated[str, File()], ...] | None = Field(None, description="folders")

    fields = Rates.model_fields
    assert describe_bounds(fields["rates"]) == "length at least 1, each more than 0, at most 100"
    assert describe_type(fields["rates"]) == "numbers separated by commas"
    assert describe_type(fields["models"]) == "paths separated by commas"
    message = "rates: found 1e+308; expected numbers separated by commas, length at least 1, each more than 0, at most"
    with pytest.raises(InputError, match=re.escape(message)):
        build_config(Rates, {"rates": [1.0, 1e308]})
