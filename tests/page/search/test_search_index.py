"""Search on every database: what is found, in which order, with which filters, and how the index follows."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from search_helpers import ids, keep_statement
from sqlalchemy import event, text

from paperworks.errors import InputError
from paperworks.page.database import Database, Entry
from paperworks.page.feed import IncomingPaper, upsert
from paperworks.page.search import SearchIndex, open_search
from paperworks.page.search.postgres import PostgresVectors
from paperworks.page.search.ranking import FUSION_CONSTANT


def test_words_and_stems(search: SearchIndex, papers: list[int]) -> None:
    assert ids(search, "snow", mode="words") == [papers[5]]
    assert ids(search, "layer", mode="words") == [papers[5]]  # "Layers"
    assert ids(search, "kittens", mode="words") == [papers[1]]
    assert set(ids(search, "ice", mode="words")) == {papers[0], papers[2], papers[5]}  # title, title, tag
    assert ids(search, "zebra", mode="words") == []


def test_all_words_rank_above_one(search: SearchIndex, papers: list[int]) -> None:
    assert ids(search, "ice snow summers", mode="words")[0] == papers[5]
    assert set(ids(search, "ice snow summers", mode="words")) == {papers[0], papers[2], papers[5]}


def test_pages_are_pages_of_one_order(search: SearchIndex, papers: list[int], database: Database) -> None:
    for mode in ("hybrid", "words", "meaning"):
        whole = ids(search, "ice music of a car cat tree", mode=mode, limit=200)
        assert len(whole) > 2
        pages, after = [], None
        while page := ids(search, "ice music of a car cat tree", mode=mode, limit=2, after=after):
            pages += page
            after = (len(pages) - 1, page[-1])
        assert pages == whole
    # The entry counts, and not its place, unless it is gone.
    assert ids(search, "ice music of a car cat tree", mode="meaning", after=(0, whole[2])) == whole[3:]
    assert ids(search, "ice music of a car cat tree", mode="meaning", after=(1, 999)) == whole[2:]
    assert ids(search, "ice music of a car cat tree", after=(10_000, 999)) == []


def test_an_answer_that_is_remembered_is_still_right(
    search: SearchIndex, database: Database, papers: list[int]
) -> None:
    before = ids(search, "ice")
    assert ids(search, "ice") == before
    with database.session() as session:
        session.execute(text("UPDATE entries SET hidden = true WHERE id = :id"), {"id": before[0]})
    assert ids(search, "ice") == before[1:]  # at once, without a refresh
    with database.session() as session:
        upsert(session, IncomingPaper("Ice on the moon", "Ice and more ice."))
    search.refresh()
    assert len(ids(search, "ice")) == len(before)
    assert search.search("ice", limit=1)[0].entry_id == max(ids(search, "ice"))


def test_title_counts_more(database: Database, encoder) -> None:
    with database.session() as session:
        upsert(session, IncomingPaper("Walking in the long and quiet hills", "Of lamps and other things entirely."))
        upsert(session, IncomingPaper("Lamps of the long and quiet hills", "Of walking and other things entirely."))
    search = open_search(database, encoder)
    search.refresh()
    assert ids(search, "lamp", mode="words") == [2, 1]


def test_meaning_finds_other_words(search: SearchIndex, papers: list[int]) -> None:
    assert ids(search, "vehicle", mode="words") == []
    assert ids(search, "vehicle", mode="meaning")[0] == papers[0]
    hit = search.search("vehicle")[0]
    assert (hit.entry_id, hit.matched_by) == (papers[0], ("meaning",))


def test_hybrid_is_the_reciprocal_rank_fusion(search: SearchIndex) -> None:
    for query in ("ice ship", "music of a cat", "forest and tree"):
        words, meaning = ids(search, query, mode="words"), ids(search, query, mode="meaning")
        scores: dict[int, float] = {}
        for ranking in (words, meaning):
            for rank, entry in enumerate(ranking, 1):
                scores[entry] = scores.get(entry, 0) + 1 / (FUSION_CONSTANT + rank)
        hits = search.search(query)
        assert [h.entry_id for h in hits] == sorted(scores, key=lambda i: (-scores[i], i))
        for hit in hits:
            assert hit.score == pytest.approx(scores[hit.entry_id])
            expected = [n for n, r in (("words", words), ("meaning", meaning)) if hit.entry_id in r]
            assert list(hit.matched_by) == expected


def test_phrases_must_be_there(search: SearchIndex, papers: list[int]) -> None:
    assert ids(search, '"first weeks"') == [papers[1]]
    assert ids(search, '"weeks first"') == []
    assert ids(search, '"first weeks" ice') == [papers[1]]
    assert ids(search, '"') == []


def test_filters(search: SearchIndex, papers: list[int], database: Database) -> None:
    with database.session() as session:
        session.execute(text("UPDATE entries SET works = :t WHERE id = :i"), {"t": True, "i": papers[2]})
    for mode in ("words", "meaning", "hybrid"):
        assert set(ids(search, "ice ship car tree", tags=["ice"], mode=mode)) <= {papers[0], papers[2], papers[5]}
        assert ids(search, "ice ship car", tags=["ice", "boats"], mode=mode) == [papers[2]]
        assert ids(search, "ice ship car", works=True, mode=mode) == [papers[2]]
        assert set(ids(search, "ice ship tree car", organisation="ETH", mode=mode)) == {papers[0], papers[3]}
        assert ids(search, "ice", tags=["no such tag"], mode=mode) == []
    assert papers[2] not in ids(search, "ice ship", works=False)


def test_a_filter_reaches_beyond_the_first_hundred(database: Database, encoder) -> None:
    with database.session() as session:
        for i in range(150):
            upsert(session, IncomingPaper(f"Ship ship ship number {i} of many", "Ship."))
        upsert(session, IncomingPaper("A long story which mentions a ship once, near its end", "Boat.", tags=["rare"]))
    search = open_search(database, encoder)
    search.refresh()
    for mode in ("words", "meaning"):
        assert ids(search, "ship", tags=["rare"], mode=mode) == [151]


def test_hidden_entries_are_never_shown(search: SearchIndex, papers: list[int], database: Database) -> None:
    with database.session() as session:
        session.execute(text("UPDATE entries SET hidden = :t WHERE id = :i"), {"t": True, "i": papers[5]})
    for mode in ("words", "meaning", "hybrid"):
        assert papers[5] not in ids(search, "ice snow", mode=mode)
    assert papers[5] not in [i for i, _ in search.similar(papers[0], 10)]


def test_entries_of_known_ids_are_looked_up_by_them(search: SearchIndex, database: Database) -> None:
    """SQLite's plan names no index: it would be that of all visible entries, or of none."""
    if not database.is_sqlite:
        pytest.skip("a plan of SQLite")
    seen: list[tuple[str, object]] = []
    keep = partial(keep_statement, seen)
    event.listen(database.engine, "before_cursor_execute", keep)
    search.search("pruning of language models")
    search.search("pruning of language models")  # remembered
    search.similar(1)
    event.remove(database.engine, "before_cursor_execute", keep)
    with database.engine.connect() as connection:
        plans = [
            str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given).all())
            for statement, given in seen
            if "FROM entries" in statement and "entries.id IN" in statement
        ]
    assert len(plans) == 3
    assert all("USING INTEGER PRIMARY KEY" in plan for plan in plans), plans


def test_similar(search: SearchIndex, papers: list[int]) -> None:
    vectors = search.vectors(papers)
    cosines = vectors @ vectors.T
    for row, paper in enumerate(papers):
        found = search.similar(paper, limit=3)
        others = sorted((-cosines[row, i], papers[i]) for i in range(len(papers)) if i != row)
        assert [c for _, c in found] == pytest.approx([-c for c, _ in others[:3]], abs=2e-3)
        assert paper not in [i for i, _ in found]
    assert search.similar(9999) == []


def test_without_an_encoder_words_answer(database: Database, papers: list[int]) -> None:
    search = open_search(database, None)
    search.refresh()
    for mode in ("words", "meaning", "hybrid"):
        assert ids(search, "snow", mode=mode) == [papers[5]]
    assert search.similar(papers[0]) == []
    with pytest.raises(InputError, match="paperworks"):
        search.vectors(papers)


@pytest.mark.parametrize("query", ["", "   ", "!?*", "\x00", '""', "-", "()"])
def test_nothing_to_look_for(search: SearchIndex, query: str) -> None:
    assert search.search(query) == []


def test_any_text_is_a_query(search: SearchIndex) -> None:
    for query in (
        "a OR b AND (c",
        "NEAR(x y)",
        "title:car",
        "car*",
        "^car",
        "'; DROP TABLE entries; --",
        "x" * 10_000,
        "& | !",
        "ice:* <-> !",
        "\ud800 ice",
        "ice \x00 car",
        '"unfinished phrase',
        "%_\\",
        "{ice}",
        "ice - -",
        "日本語 氷",
    ):
        search.search(query)
    assert ids(search, "ice")


def test_bad_options(search: SearchIndex) -> None:
    with pytest.raises(InputError, match="mode"):
        search.search("ice", mode="magic")  # type: ignore[arg-type]
    for limit in (0, 201):
        with pytest.raises(InputError, match="limit"):
            search.search("ice", limit=limit)
    assert len(search.search("ice car ship tree", limit=2)) == 2


def test_snippets_are_escaped_and_marked(search: SearchIndex, papers: list[int]) -> None:
    (hit,) = [h for h in search.search("waves ocean") if h.entry_id == papers[2]]
    assert "&lt;b&gt;<mark>waves</mark>&lt;/b&gt; &amp; wind" in hit.snippet_html_safe
    assert "<mark>ocean</mark>" in hit.snippet_html_safe


def test_pgvector_is_used_where_it_is(search: SearchIndex, database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("PostgreSQL only")
    with database.session() as session:
        there = PostgresVectors.available(session)
    assert isinstance(search._vectors, PostgresVectors) == there


def test_queries_may_be_encoded_otherwise_than_entries(database: Database, papers: list[int], encoder) -> None:
    class WithQueries(type(encoder)):
        def queries(self, texts):
            asked.extend(texts)
            return self(texts)

    asked: list[str] = []
    search = open_search(database, WithQueries())
    search.refresh()
    assert ids(search, "vehicle", mode="meaning")[0] == papers[0]
    assert asked == ["vehicle"]


def test_times_are_compared_as_the_database_keeps_them(search: SearchIndex, database: Database) -> None:
    with database.session() as session:
        entry = session.get(Entry, 1)
        entry.updated += timedelta(microseconds=1)
    assert search.refresh() == 1
    assert search.refresh() == 0
