"""What every paper that is here must keep: the tests that walk the catalogue."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import typing
from pathlib import Path

import pytest

from paperworks import catalog, reproduction
from paperworks.cli.options import RESERVED
from paperworks.errors import InputError
from paperworks.runs import build_config, load_recipe
from paperworks.runs.config import command_line_only, names_file, strip_optional

HERE = [p for p in catalog.papers() if p.has_recipe]
IDS = [p.slug for p in HERE]


@pytest.mark.parametrize("paper", HERE, ids=IDS)
def test_folder(paper: catalog.Paper) -> None:
    for name in ("README.md", "__init__.py", "recipe.py", "study.py"):
        assert (paper.folder / name).is_file(), name
    readme = (paper.folder / "README.md").read_text()
    assert f"paperworks run {paper.slug}" in readme


@pytest.mark.parametrize("paper", HERE, ids=IDS)
def test_options(paper: catalog.Paper) -> None:
    recipe = load_recipe(paper.slug, f"{paper.module}.recipe")
    recipe.config()
    for name, field in recipe.config.model_fields.items():
        assert field.description, f"{name} has no description"
        assert name.replace("_", "-") not in RESERVED
        assert field.default is not None or "None" in str(field.annotation), f"{name} has no default"
        if strip_optional(field.annotation)[0] in (int, float):  # a slip of the hand must not work for days
            bounded = any(hasattr(item, side) for item in field.metadata for side in ("le", "lt"))
            assert bounded, f"{name} has no upper bound (le)"
    assert recipe.config.model_json_schema()["properties"]


@pytest.mark.parametrize("paper", HERE, ids=IDS)
@pytest.mark.parametrize("device", ["banana", "", "cuda:x", "CPU ", "cuda:-1", "meta"])
def test_a_device_that_is_none_is_refused_before_the_work(paper: catalog.Paper, device: str) -> None:
    recipe = load_recipe(paper.slug, f"{paper.module}.recipe")
    with pytest.raises(InputError, match=r"device: found .*; expected one of auto, cpu, cuda, cuda:1, mps"):
        build_config(recipe.config, {"device": device})


@pytest.mark.parametrize("paper", HERE, ids=IDS)
def test_options_of_a_wrong_type_or_out_of_bounds_name_their_field(paper: catalog.Paper) -> None:
    recipe = load_recipe(paper.slug, f"{paper.module}.recipe")
    bad: dict[type, list[object]] = {
        int: ["x", "1.5", "nan", "inf", "1e400", "", [], {}],
        float: ["x", "nan", "inf", "-inf", "1e400", "", [], {}],
        bool: ["perhaps", "", 7, []],
    }
    for name, field in recipe.config.model_fields.items():
        kind, optional = strip_optional(field.annotation)
        values = list(bad.get(kind, []))
        for item in field.metadata:
            values += [getattr(item, side) - 1 for side in ("ge", "gt") if hasattr(item, side)]
            values += [getattr(item, side) + 1 for side in ("le", "lt") if hasattr(item, side)]
        if typing.get_origin(kind) is typing.Literal:
            values += ["no-such-choice", "", 7]
        if not optional:
            values.append(None)
        for value in values:
            with pytest.raises(InputError) as caught:
                build_config(recipe.config, {name: value})
            assert caught.value.field == name, f"{name}={value!r}: {caught.value}"


@pytest.mark.parametrize("paper", HERE, ids=IDS)
def test_options_that_read_a_file_or_reach_out_say_so(paper: catalog.Paper) -> None:
    """The page runs recipes for others: a text option that opens what it is given must be marked (see runs.File)."""
    places = re.compile(r"\b(files?|folders?|path|url|address|endpoint|checkpoint|directory)\b", re.IGNORECASE)
    for name, field in load_recipe(paper.slug, f"{paper.module}.recipe").config.model_fields.items():
        kind = strip_optional(field.annotation)[0]
        words = field.description or ""
        if kind is str and places.search(words) and "column" not in words:  # not a part of a file
            assert names_file(field) or command_line_only(field), f"{name}: mark it runs.File or runs.CommandLineOnly"


@pytest.mark.parametrize("paper", HERE, ids=IDS)
def test_every_claim_has_a_study_or_a_reason(paper: catalog.Paper) -> None:
    studied = {c for s in reproduction.load_studies(paper) for c in s.claims}
    assert {c.id for c in paper.claims if not c.reason} <= studied


@pytest.mark.parametrize("paper", HERE, ids=IDS)
def test_public_names_are_documented(paper: catalog.Paper) -> None:
    module = importlib.import_module(paper.module)
    assert module.__doc__
    for name in module.__all__:
        assert getattr(module, name).__doc__, name


@pytest.mark.parametrize("paper", HERE, ids=IDS)
def test_no_paper_names_another(paper: catalog.Paper) -> None:
    """The import contract in words: what two papers share moves down (import-linter holds it for static imports)."""
    for path in sorted(Path(paper.folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            module = getattr(node, "module", None) or ""
            if module.startswith("paperworks.papers."):
                assert module.startswith(paper.module)


@pytest.mark.parametrize("paper", HERE, ids=IDS)
def test_comparisons_have_an_interval_or_are_deterministic(paper: catalog.Paper) -> None:
    """Of every study that was measured since findings have intervals; without, a claim is only partly tested."""
    for stored in paper.results.get("findings", []):
        if stored["kind"] != "empirical" or "interval" not in stored:
            continue
        measured_bound = len(f"{float(stored['bound']):.12g}".strip("-0.").replace(".", "")) > 4
        explained = stored["baseline"] is not None or "bound" in stored["statement"] + stored["detail"] + stored["unit"]
        assert explained or not measured_bound, f"{stored['statement']}: name the baseline, or say what the bound is"
        # what has an interval may still be undecided: a few equal values
        assert stored["interval"] or not stored["untested"], f"{stored['statement']}: {stored['untested']}"


@pytest.mark.parametrize("paper", HERE, ids=IDS)
def test_a_claim_holds_where_all_of_it_was_tested_and_no_figure_is_missing(paper: catalog.Paper) -> None:
    if not paper.results:
        pytest.skip("not measured yet: paperworks reproduce")
    verdicts = paper.verdicts()
    for claim in paper.claims:
        own = [f for f in paper.findings if f["claim"] == claim.id]
        tested = bool(own) and not claim.reason and not any(f["untested"] for f in own)
        assert (verdicts[claim.id] == "holds") == (tested and all(f["holds"] for f in own)), claim.id
        if claim.reason or not own:
            assert verdicts[claim.id] in ("partly tested", "does not hold", "not tested here"), claim.id
        for missing in own:
            without = [f | {"measured": None, "interval": None, "n": None} if f is missing else f for f in own]
            assert with_findings(paper, without).verdicts()[claim.id] == "does not hold", missing["statement"]


def with_findings(paper: catalog.Paper, findings: list[dict]) -> catalog.Paper:
    """The paper as if these alone had been measured."""
    changed = dataclasses.replace(paper)
    changed.__dict__["results"] = {"findings": findings}
    return changed


@pytest.mark.parametrize("paper", HERE, ids=IDS)
def test_no_study_passes_over_a_figure_that_is_not_a_number(paper: catalog.Paper) -> None:
    """``max(0.0, nan)`` is 0.0: studies take ``runs.largest`` and ``runs.smallest`` where a figure may be NaN."""
    for path in sorted(paper.folder.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "Finding(" in source:
            assert list(passing_over(ast.parse(source))) == [], path.name


def passing_over(tree: ast.AST) -> typing.Iterator[int]:
    """Lines on which ``max`` or ``min`` of other than whole numbers is gathered in a name, or is what is measured."""
    for node in ast.walk(tree):
        found: list[ast.AST] = []
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            pairs = zip(target.elts, value.elts, strict=True) if several else [(target, value)]  # type: ignore[union-attr]
            found = [v for t, v in pairs if isinstance(v, ast.Call) and ast.unparse(t) in map(ast.unparse, v.args[:1])]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Finding"):
            measured = [*node.args[3:4], *(k.value for k in node.keywords if k.arg == "measured")]
            found = [inner for part in measured for inner in ast.walk(part)]
        for call in found:
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("max", "min") and not call.keywords:
                others = call.args[1:] or call.args
                if not all(is_whole(other) or isinstance(other, ast.Tuple) for other in others):
                    yield call.lineno


def is_whole(expression: ast.AST) -> bool:
    return any(isinstance(n, ast.Call) and ast.unparse(n.func) in ("int", "len") for n in ast.walk(expression))


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("worst = max(worst, float(x))", True),
        ("a, worst = 1, max(worst, float(x))", True),
        ("Finding('c', 's', 'exact', max(found), '<', 1)", True),
        ("runs.Finding('c', 's', 'exact', measured=min(found))", True),
        ("worst = max(worst, int(x.sum()))", False),
        ("worst = largest((worst, float(x)))", False),
        ("least = max(1, n // 2)", False),
    ],
)
def test_what_passes_over_a_figure_is_found(source: str, wrong: bool) -> None:
    assert bool(list(passing_over(ast.parse(source)))) == wrong


@pytest.mark.parametrize("paper", HERE, ids=IDS)
def test_shipped_results_make_it_work(paper: catalog.Paper) -> None:
    if not paper.results:
        pytest.skip(f"not measured yet: paperworks reproduce {paper.slug}")
    assert paper.obstacles() == []
    assert paper.results["fast"] is False
