"""The catalogue: what a folder says is checked, and whether a paper works is computed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import paperworks
from installed_paper import write_paper
from paperworks import catalog
from paperworks.errors import InputError

PAPERS = catalog.papers()


def test_every_folder_with_an_entry_is_a_paper() -> None:
    folders = {path.parent for path in (Path(paperworks.__file__).parent / "papers").glob("*/paper.toml")}
    assert {p.folder for p in PAPERS} >= folders
    assert [p.slug for p in PAPERS] == sorted({p.slug for p in PAPERS})


@pytest.mark.parametrize("paper", PAPERS, ids=[p.slug for p in PAPERS])
def test_entry(paper: catalog.Paper) -> None:
    assert paper.folder.name == paper.slug.replace("-", "_")
    assert paper.title
    assert len(paper.purpose) <= 120
    assert 2 <= sum(paper.summary.count(mark) for mark in (". ", "? ", "! ")) + 1 <= 5
    assert paper.authors or paper.organisation
    assert paper.repository == "" or paper.repository.startswith("https://github.com/")
    assert paper.claims
    assert all(c.value and c.source for c in paper.claims)
    assert paper.date[:2] == "20"
    assert len(paper.author_names) == (paper.authors or 0)
    assert not paper.figure or 40 <= len(paper.figure_alt) <= 200


def write_results(folder: Path, findings: list[dict]) -> None:
    (folder / "results.json").write_text(
        json.dumps({"paper": "tiny-paper", "measured": "2026-01-01", "findings": findings})
    )


def finding(claim: str, kind: str, measured: float) -> dict:
    return {
        "claim": claim,
        "statement": f"{claim} is small",
        "kind": kind,
        "measured": measured,
        "relation": "<",
        "bound": 1.0,
        "holds": True,
    }


def test_works_is_computed(tiny_paper: Path) -> None:
    def tiny() -> catalog.Paper:
        return catalog.find("tiny-paper")

    assert not tiny().works
    assert tiny().obstacles() == ["claims with neither a finding nor a reason: counts, fast"]
    write_results(tiny_paper, [finding("counts", "exact", 0), finding("fast", "empirical", 0)])
    assert tiny().works
    assert tiny().verdicts() == {"counts": "holds", "fast": "partly tested", "huge": "not tested here"}
    steady = finding("fast", "empirical", 0) | {"deterministic": "one clock"}
    write_results(tiny_paper, [finding("counts", "exact", 0), steady])
    assert tiny().claims_held == 2
    # An empirical claim that fails is shown and hides nothing; the stored verdict is not believed.
    write_results(tiny_paper, [finding("counts", "exact", 0), finding("fast", "empirical", 5)])
    assert tiny().works
    assert tiny().verdicts() == {"counts": "holds", "fast": "does not hold", "huge": "not tested here"}
    # A reason is not forgotten once there is a finding, nor that a figure has no interval.
    write_results(tiny_paper, [finding("counts", "exact", 0), finding("huge", "exact", 0)])
    assert tiny().verdicts()["huge"] == "partly tested"
    assert tiny().untested_parts(tiny().claims[2]) == ["a trillion does not fit here"]
    write_results(tiny_paper, [finding("counts", "exact", 0), finding("fast", "empirical", 0) | {"baseline": 1.0}])
    assert tiny().verdicts()["fast"] == "partly tested"
    assert tiny().claims_held == 1
    # An exact one that fails does.
    write_results(tiny_paper, [finding("counts", "exact", 5), finding("fast", "empirical", 0)])
    assert tiny().obstacles() == ["an exact finding does not hold: counts is small"]
    write_results(tiny_paper, [finding("counts", "exact", 0), finding("counts", "exact", 0)])
    assert tiny().obstacles() == ["claims with neither a finding nor a reason: fast"]
    (tiny_paper / "recipe.py").unlink()
    assert tiny().obstacles() == ["it has no recipe: not here yet"]


def test_another_package_adds_a_paper(tiny_paper: Path) -> None:
    assert {p.slug for p in catalog.papers()} == {p.slug for p in PAPERS} | {"tiny-paper"}
    assert [p.slug for p in catalog.papers(tag="testing")] == ["tiny-paper"]
    assert paperworks.tiny_paper.ANSWER == 42
    assert "tiny_paper" in dir(paperworks)


def test_a_package_that_comes_or_goes_while_this_process_runs_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    known = {p.slug for p in catalog.papers()}
    write_paper(tmp_path, name="a_late_paper")
    assert {p.slug for p in catalog.papers()} - known == {"tiny-paper"}
    shutil.rmtree(tmp_path / "a_late_paper-1.0.dist-info")
    assert {p.slug for p in catalog.papers()} == known


def test_filters(tiny_paper: Path) -> None:
    slugs = {p.slug for p in catalog.papers()}
    works, rest = ({p.slug for p in catalog.papers(works=works)} for works in (True, False))
    assert works | rest == slugs
    assert not works & rest
    assert "tiny-paper" in rest
    assert [p.slug for p in catalog.papers(tag="testing")] == ["tiny-paper"]
    with pytest.raises(InputError, match="did you mean 'testing'"):
        catalog.papers(tag="tseting")


def test_find_suggests_the_nearest(tiny_paper: Path) -> None:
    assert catalog.find("tiny_paper").slug == "tiny-paper"
    assert catalog.find("0001.00001").slug == "tiny-paper"
    with pytest.raises(InputError, match="did you mean 'tiny-paper'"):
        catalog.find("tiny-papre")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "A tiny paper"', "", "title: found nothing"),
        ('id = "fast"', 'id = "counts"', "an id twice"),
        ('statement = "It is fast"', "", "statement: found nothing"),
        ('value = "n"', 'valeu = "n"', "found valeu"),
        ("authors = 2", "authors = ", "valid TOML"),
        ('slug = "tiny-paper"', f'slug = "{PAPERS[0].slug}"', "one folder per slug"),
    ],
)
def test_a_bad_entry_names_the_file_and_the_field(tiny_paper: Path, old: str, new: str, message: str) -> None:
    path = tiny_paper / "paper.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        catalog.papers()


def test_a_changed_entry_is_read_again_and_papers_share_nothing(tiny_paper: Path) -> None:
    first = catalog.read_paper(tiny_paper, "tiny_paper")
    first.other["added"] = 1
    again = catalog.read_paper(tiny_paper, "tiny_paper")
    assert again is not first
    assert "added" not in again.other
    text = (tiny_paper / "paper.toml").read_text()
    (tiny_paper / "paper.toml").write_text(text.replace(first.title, first.title[::-1]))  # of the same size
    assert catalog.read_paper(tiny_paper, "tiny_paper").title == first.title[::-1]


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute or paper 'sliced_bread'"):
        _ = paperworks.sliced_bread


def test_import_is_light() -> None:
    code = (
        "import sys, paperworks; from paperworks import catalog; catalog.papers();"
        "heavy = {'torch', 'transformers', 'pandas', 'sklearn', 'matplotlib', 'numba', 'scipy', 'pydantic'};"
        "heavy &= set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_papers_own_words_find_it() -> None:
    for paper in PAPERS:
        found, method = catalog.search(paper.purpose, limit=3)
        assert paper.slug in [p.slug for p, _ in found]
        assert method == "BM25"
        scores = [s for _, s in found]
        assert scores == sorted(scores, reverse=True)


def test_search_by_meaning(tiny_paper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that shares no word with an entry finds it by its vector."""

    def encoder(required: bool) -> Callable[[Sequence[str]], np.ndarray]:
        assert required
        near, far = [1.0, 0.0], [0.0, 1.0]
        return lambda texts: np.array([near if "Counts things" in t or t == "xyzzy" else far for t in texts])

    monkeypatch.setattr("paperworks.embedding.sentence_encoder", encoder)
    assert catalog.search("xyzzy")[0] == []
    found, method = catalog.search("xyzzy", meaning=True)
    assert method == "BM25 and sentence embeddings"
    assert found[0][0].slug == "tiny-paper"


@pytest.mark.parametrize(("query", "limit", "message"), [("  ", 3, "query"), ("rules", 0, "limit")])
def test_bad_searches(query: str, limit: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        catalog.search(query, limit=limit)


def test_no_word_in_common_finds_nothing() -> None:
    assert catalog.search("xyzzy plugh")[0] == []
