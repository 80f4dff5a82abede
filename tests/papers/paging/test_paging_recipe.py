"""The recipe on files of the user's, and the studies in small."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks import catalog, reproduction
from paperworks.errors import InputError
from paperworks.papers.paging import BitPredictor, belady, read_trace
from paperworks.papers.paging import recipe as paging
from paperworks.runs import Run, build_config


@pytest.fixture
def trace_file(tmp_path):
    ids = np.random.default_rng(0).zipf(1.3, 3000) % 200
    path = tmp_path / "t.csv"
    path.write_text("time,page,op\n" + "".join(f"{t},p{i},get\n" for t, i in enumerate(ids)))
    return path


def run_recipe(tmp_path, **options):
    config = build_config(paging.Config, {"runs": 2, "policies": ("lru", "flush"), "noise": (0.0, 0.1), **options})
    run = Run(tmp_path / "run")
    return paging.run(config, run), run


def test_recipe_on_a_csv(tmp_path, trace_file):
    trace = read_trace(trace_file)
    k = 15
    np.save(tmp_path / "bits.npy", belady(trace, k).discard_labels)
    report, run = run_recipe(
        tmp_path, trace=trace_file, id_column="page", op_column="op", k=k, bits=tmp_path / "bits.npy", sizes=(5, 15)
    )
    opt = belady(trace, k).misses
    assert report.metrics["opt_misses"] == report.metrics["misses_flush"] == report.metrics["misses_mark0"] == opt
    assert f"{opt:,}" in report.headline
    tables = {t.title.split(",")[0]: t for t in report.tables}
    own = next(t for t in report.tables if t.title == "Your discard bits")
    assert own.rows[0][:2] == ["flush", opt]
    assert "0 wrong keep" in own.note
    sweep = tables["Flipped bits"]
    assert all(row[4] <= row[7] * 1.05 for row in sweep.rows if row[7] is not None)
    for file in report.files:
        assert (run.files / file.path).is_file()
    assert np.load(run.files / "discard_bits.npy").sum() == opt - k
    assert BitPredictor.load(run.files / "discard_predictor.joblib").k_ == k
    assert len(report.figures) == 2
    report.save(tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_a_run_taken_up_again_gives_the_same_report(tmp_path, trace_file):
    first, run = run_recipe(tmp_path, trace=trace_file, k=15, sizes=(5, 15))
    assert {p.stem for p in run.state.glob("*.json")} == {"others", "sweep", "learned", "curves"}
    again, _ = run_recipe(tmp_path, trace=trace_file, k=15, sizes=(5, 15))
    assert again.to_dict() == first.to_dict()
    other, _ = run_recipe(tmp_path, trace=trace_file, k=16, sizes=(5, 15))
    assert other.metrics["opt_misses"] == belady(read_trace(trace_file), 16).misses


def test_sets_and_a_part(tmp_path):
    report, _ = run_recipe(tmp_path, skip=1000, limit=4000, k=4, sets=16, curves=False)
    assert report.metrics["misses_flush"] == report.metrics["opt_misses"]
    assert any("16 sets" in n for n in report.notes)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"k": 0}, "k: found"),
        ({"policies": ("lru", "lfu")}, "policies: found 'lfu'"),
        ({"noise": (0.1, 2.0)}, "noise"),
        ({"sizes": (4, 0)}, "sizes"),
        ({"op_column": "op"}, "op_column: found 'op' alone; .* id_column"),
    ],
)
def test_bad_options(options, found):
    with pytest.raises(InputError, match=found):
        build_config(paging.Config, options)


def test_sizes_above_the_pages_of_the_trace(tmp_path, trace_file):
    for options, found in (
        ({"k": 99_999_999}, "k: found 99,999,999"),
        ({"k": 2, "sets": 50_000}, "sets: found 50,000, which makes 100,000 slots"),
        ({"sizes": (5, 10**9)}, "sizes: found 1,000,000,000"),
    ):
        with pytest.raises(InputError, match=rf"{found}; expected at most \d+, the pages"):
            run_recipe(tmp_path, trace=trace_file, **options)


def test_first_lines_of_the_report_say_what_was_read(tmp_path):
    path = tmp_path / "t.tr"
    path.write_text("0 1 10\n1 2 10\n2 1 10\n3 2 10\n4 1 10\n5 3 10\n")
    report, _ = run_recipe(tmp_path / "1", trace=path, k=2, sizes=(1, 2), learn=False)
    assert report.metrics["opt_misses"] == 3
    assert "column 2 of 3 as page id" in report.lead[0]
    assert "misses, best policy with true one-bit predictions" in " ".join(report.labels.values())
    path.write_text("".join(f"{i} {i * 7} 1\n" for i in range(20)))
    once, _ = run_recipe(tmp_path / "2", trace=path, k=2, sizes=(1, 2), learn=False)
    assert any("No page is requested twice" in line and "--id-column" in line for line in once.lead)


def test_bad_bits(tmp_path, trace_file):
    for text, found in (("0\n1\n", "shape"), ("0\n2\n", "entry 2")):
        (tmp_path / "bits.txt").write_text(text)
        with pytest.raises(InputError, match=found):
            run_recipe(tmp_path, trace=trace_file, bits=tmp_path / "bits.txt", curves=False, learn=False)
    with pytest.raises(InputError, match="skip"):
        run_recipe(tmp_path, skip=10**7)


@pytest.mark.parametrize("study", reproduction.load_studies(catalog.find("paging")), ids=lambda study: study.name)
def test_studies_in_small(tmp_path, study):
    """Every study measures its claims, and what must hold holds."""
    findings = list(study(Run(tmp_path), True))
    assert {finding.claim for finding in findings} == set(study.claims)
    for finding in findings:
        assert finding.kind == "empirical" or finding.holds, finding
