"""The first case: how many of the page's own result sets an index of d dimensions can return.

    python benchmarks/embedding_limits_page.py [--top 3] [--csv result_sets.csv]

The catalogue's papers are put into a page's index, as when a page starts. Queries are the statements of all claims and
all tags. Two questions: do all result sets of the page's search (the first ``top`` hits, by words, by meaning and by
both) fit into d dimensions; and does the paper that a claim belongs to come first, beside what vectors fitted to those
answers reach. ``--csv`` keeps the result sets by both, for ``paperworks run embedding-limits --data result_sets.csv``.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
from scipy import sparse
from sqlalchemy import select

from paperworks import catalog
from paperworks.page.database import Entry, open_database
from paperworks.page.feed.entries import seed_catalogue
from paperworks.page.search import SearchIndex, open_search
from paperworks.papers.embedding_limits import capacity_report, qrel_stats, result_set_ceiling

MODES = ("words", "meaning", "hybrid")
DIMS = (2, 4, 8, 16, 32)


def result_sets(search: SearchIndex, queries: list[str], mode: str, top: int) -> list[list[int]]:
    """Ids of the first hits of each query."""
    return [[hit.entry_id for hit in search.search(q, limit=top, mode=mode)] for q in queries]  # type: ignore[arg-type]


def matrix(sets: list[list[int]], ids: list[int]) -> sparse.csr_array:
    """Relevance of the queries that have hits [queries, entries]."""
    column = {identity: j for j, identity in enumerate(ids)}
    kept = [some for some in sets if some]
    cells = np.array([(i, column[e]) for i, some in enumerate(kept) for e in some]).T
    return sparse.csr_array((np.ones(cells.shape[1], bool), (cells[0], cells[1])), shape=(len(kept), len(ids)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--top", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    papers = catalog.papers()
    claims = [(paper.slug, claim.statement) for paper in papers for claim in paper.claims]
    queries = [statement for _, statement in claims] + sorted({tag for paper in papers for tag in paper.tags})
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{folder}/page.sqlite")
        seed_catalogue(database)
        search = open_search(database)
        search.refresh()
        with database.reading() as session:
            slugs = {i: str(slug) for i, slug in session.execute(select(Entry.id, Entry.slug)).all()}
        ids = list(slugs)
        width = search.vectors(ids).shape[1]
        print(f"{len(ids)} papers, {len(queries)} queries; the page's vectors have {width} dimensions")
        for mode in MODES:
            sets = result_sets(search, queries, mode, given.top)
            qrels = matrix(sets, ids)
            stats, capacity = qrel_stats(qrels), capacity_report(qrels)
            found = result_set_ceiling(qrels, DIMS, n_init=2)
            shares = ", ".join(
                f"{int(d)}: {share:.1f} %"
                for d, share in zip(found.table["dimensions"], found.table["of all (%)"], strict=True)
            )
            print(
                f"first {given.top} by {mode}: {qrels.shape[0]} result sets, {stats.distinct_sets} different, "
                f"density {stats.density_queries:.4f}, strength {stats.query_strength:.2f}; returned by "
                f"dimensions {shares}; all in {found.least} (fitted), in {capacity.enough} (proved, tiny gaps)"
            )
            if mode == "hybrid" and given.csv is not None:
                with given.csv.open("x", newline="", encoding="utf-8") as out:
                    writer = csv.writer(out)
                    writer.writerow(["query_id", "doc_id"])
                    writer.writerows((q, slugs[e]) for q, some in zip(queries, sets, strict=True) for e in some)
        entry = {slug: identity for identity, slug in slugs.items()}
        answers = matrix([[entry[slug]] for slug, _ in claims], ids)
        least = result_set_ceiling(answers, DIMS).least
        statements, own = [statement for _, statement in claims], [[entry[slug]] for slug, _ in claims]
        firsts = {
            mode: np.mean([a == b for a, b in zip(own, result_sets(search, statements, mode, 1), strict=True)])
            for mode in MODES
        }
        shown = ", ".join(f"{mode} {100 * share:.1f} %" for mode, share in firsts.items())
        print(
            f"a claim's own paper first, {len(claims)} claims: {shown}"
            f"; vectors fitted to the answers return all in {least} dimensions"
        )


if __name__ == "__main__":
    main()
