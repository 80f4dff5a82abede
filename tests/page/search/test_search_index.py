"""Search on every database: what is found, in which order, with which filters, and how the index follows."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event, text

from paperworks.errors import InputError
from paperworks.page.database import Database, Entry, changes, open_database
from paperworks.page.feed import IncomingPaper, upsert
from paperworks.page.loops import run_loop
from paperworks.page.search import SearchIndex, open_search
from paperworks.page.search import index as index_module
from paperworks.page.search.postgres import PostgresVectors
from paperworks.page.search.ranking import FUSION_CONSTANT


@pytest.fixture
def search(database: Database, papers: list[int], encoder) -> SearchIndex:
    search = open_search(database, encoder)
    assert search.refresh() == len(papers)
    return search


def ids(search: SearchIndex, query: str, **options) -> list[int]:
    return [hit.entry_id for hit in search.search(query, **options)]


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
    keep = partial(_keep_statement, seen)
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


def _keep_statement(seen: list, connection, cursor, statement, parameters, context, many) -> None:
    seen.append((statement, parameters))


@pytest.mark.parametrize("anew", [True, False])
def test_changes_are_followed(
    search: SearchIndex, papers: list[int], database: Database, encoder, anew: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not anew:
        monkeypatch.setattr(index_module, "READ_ANEW_BELOW", 0)
    assert search.refresh() == 0
    encoder.encoded.clear()
    with database.session() as session:
        upsert(session, IncomingPaper("Racing a car on ice", "Now about glaciers alone.", source="arxiv"))
        assert upsert(session, IncomingPaper("A new one on volcanoes", "Lava and more lava.")) == "added"
        session.delete(session.get(Entry, papers[1]))
    assert search.refresh() == 3
    assert len(encoder.encoded) == 2  # nothing else is encoded again
    assert ids(search, "glacier", mode="words") == [papers[0]]
    assert ids(search, "tyres", mode="words") == []
    assert ids(search, "lava", mode="words") == [7]
    assert papers[1] not in ids(search, "kitten feline")
    fresh = open_search(database, encoder)
    for query in ("lava ice", "car boat", "forest glaciers"):
        if anew:
            assert fresh.search(query, mode="words") == search.search(query, mode="words")
            assert ids(fresh, query) == ids(search, query)
        else:  # lengths and frequencies are still those of before
            assert set(ids(fresh, query)) == set(ids(search, query))


def test_entries_that_are_gone_do_not_count(
    search: SearchIndex, papers: list[int], database: Database, encoder
) -> None:
    with database.session() as session:
        session.delete(session.get(Entry, papers[5]))  # one of three about ice
    assert search.refresh() == 1
    assert search.search("ice", mode="words") == open_search(database, encoder).search("ice", mode="words")


def test_another_process_is_followed(database: Database, papers: list[int], encoder, monkeypatch) -> None:
    monkeypatch.setattr(index_module, "LOOK_SECONDS", 0.0)
    reader = open_search(database, encoder)
    assert ids(reader, "snow") == []
    open_search(database, encoder).refresh()
    assert ids(reader, "snow", mode="words") == [papers[5]]


def test_a_refresh_that_is_stopped_goes_on(database: Database, papers: list[int], encoder, monkeypatch) -> None:
    monkeypatch.setattr(index_module, "PER_CHUNK", 2)

    def stop_after_two(iterable, description, total=None):
        for number, item in enumerate(iterable):
            if number == 2:
                raise KeyboardInterrupt
            yield item

    search = open_search(database, encoder)
    with pytest.raises(KeyboardInterrupt):
        search.refresh(stop_after_two)
    assert len(encoder.encoded) - encoder.encoded.count("width") == 4
    assert search.refresh() == 2
    assert ids(search, "snow", mode="words") == [papers[5]]


def test_similar(search: SearchIndex, papers: list[int]) -> None:
    vectors = search.vectors(papers)
    cosines = vectors @ vectors.T
    for row, paper in enumerate(papers):
        found = search.similar(paper, limit=3)
        others = sorted((-cosines[row, i], papers[i]) for i in range(len(papers)) if i != row)
        assert [c for _, c in found] == pytest.approx([-c for c, _ in others[:3]], abs=2e-3)
        assert paper not in [i for i, _ in found]
    assert search.similar(9999) == []


def test_vectors_keep_the_order_and_encode_what_is_missing(database: Database, papers: list[int], encoder) -> None:
    search = open_search(database, encoder)
    before = search.vectors(papers[::-1])
    search.refresh()
    np.testing.assert_allclose(search.vectors(papers)[::-1], before, rtol=1e-6)
    assert before.dtype == np.float32
    with pytest.raises(InputError, match="id of an entry"):
        search.vectors([12345])


def test_without_an_encoder_words_answer(database: Database, papers: list[int]) -> None:
    search = open_search(database, None)
    search.refresh()
    for mode in ("words", "meaning", "hybrid"):
        assert ids(search, "snow", mode=mode) == [papers[5]]
    assert search.similar(papers[0]) == []
    with pytest.raises(InputError, match="paperworks"):
        search.vectors(papers)


def test_another_encoder_replaces_the_vectors(database: Database, papers: list[int], encoder) -> None:
    open_search(database, encoder).refresh()

    class Other(type(encoder)):
        name = "other"

    other = Other()
    search = open_search(database, other)
    assert search.refresh() == len(papers)
    assert len(other.encoded) == len(papers)
    assert search.refresh() == 0


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


def test_readers_while_it_is_refreshed(search: SearchIndex, database: Database) -> None:
    errors: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                assert ids(search, "ice snow")
        except BaseException as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for i in range(5):
        with database.session() as session:
            upsert(session, IncomingPaper(f"One more paper about ships {i}", "Ship."))
        search.refresh()
    done.set()
    for reader in readers:
        reader.join()
    assert not errors


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


def test_kept_files_are_only_a_copy(tmp_path: Path, encoder, monkeypatch) -> None:
    monkeypatch.setattr(index_module, "MOST_CHANGES", 1)
    file = tmp_path / "page.sqlite"
    database = open_database(f"sqlite:///{file}")
    with database.session() as session:
        for word in ("car", "cat", "ship", "forest"):
            upsert(session, IncomingPaper(f"All about a {word} and more", f"{word} again"))
    first = open_search(database, encoder)
    first.refresh()
    expected = {q: [(h.entry_id, h.score) for h in first.search(q)] for q in ("car", "kitten more", "forest again")}
    (kept,) = Path(f"{file}.search").rglob("words.npz")
    assert {q: [(h.entry_id, h.score) for h in open_search(database, encoder).search(q)] for q in expected} == expected
    kept.write_bytes(kept.read_bytes()[:100])
    (kept.parent / "vectors.faiss").write_bytes(b"nothing")
    assert {q: [(h.entry_id, h.score) for h in open_search(database, encoder).search(q)] for q in expected} == expected
    with database.session() as session:  # a change after the copy was made
        upsert(session, IncomingPaper("All about a song and more", "song again"))
    open_search(database, encoder).refresh()
    assert 5 in [h.entry_id for h in open_search(database, encoder).search("song")]
    database.close()


def test_a_lost_copy_is_kept_again(tmp_path: Path, encoder, monkeypatch) -> None:
    monkeypatch.setattr(index_module, "MOST_CHANGES", 1)
    file = tmp_path / "page.sqlite"
    database = open_database(f"sqlite:///{file}")
    with database.session() as session:
        for word in ("car", "cat"):
            upsert(session, IncomingPaper(f"All about a {word} and more", f"{word} again"))
    open_search(database, encoder).refresh()
    shutil.rmtree(f"{file}.search")
    again = open_search(database, encoder)
    assert again.refresh() == 0
    (kept,) = Path(f"{file}.search").rglob("words.npz")
    written = kept.stat().st_mtime_ns
    again.refresh()
    assert [p.stat().st_mtime_ns for p in Path(f"{file}.search").rglob("words.npz")] == [written]
    database.close()


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


IMPORT = """
import sys
from paperworks.page.database import open_database
from paperworks.page.feed import IncomingPaper, upsert
from paperworks.page.loops import run_loop
database = open_database(sys.argv[1])
with database.session() as session:
    upsert(session, IncomingPaper("Glaciers that were imported meanwhile", "Lava, and a kitten."))
    upsert(session, IncomingPaper("The feline mind", "What a kitten learns of zebras.", source="arxiv"))
"""


def test_what_another_process_imports_is_found_in_every_process(
    search: SearchIndex, papers: list[int], database: Database, encoder, tmp_path: Path
) -> None:
    """One server follows the feed; another only answers. Neither is told of the import."""
    other = open_search(database, encoder)
    stop = threading.Event()
    loop = threading.Thread(target=run_loop, args=("index", lambda: search.follow(256), stop, 0.2), daemon=True)
    loop.start()
    url = database.engine.url.render_as_string(hide_password=False)
    subprocess.run([sys.executable, "-c", IMPORT, url], check=True, timeout=120)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = [ids(one, query, mode="words") for one in (search, other) for query in ("glacier lava", "zebra")]
        if all(found):
            break
        time.sleep(0.1)
    stop.set()
    loop.join(timeout=20)
    assert found == [[7], [papers[1]]] * 2
    for one in (search, other):
        assert 7 in ids(one, "cat", mode="meaning")


def test_following_reads_one_number_where_nothing_changed(
    search: SearchIndex, database: Database, papers: list[int]
) -> None:
    assert search.follow(10) is False
    seen: list[tuple[str, object]] = []
    keep = partial(_keep_statement, seen)
    event.listen(database.engine, "before_cursor_execute", keep)
    assert search.follow(10) is False
    event.remove(database.engine, "before_cursor_execute", keep)
    assert [s for s, _ in seen if "SELECT" in str(s)] == [s for s, _ in seen if "feed_changes" in str(s)]
    with database.session() as session:  # a vote is no change of what is searched
        session.get(Entry, papers[0]).upvotes += 1
    with database.reading() as session:
        number = changes(session)
    with database.session() as session:
        session.delete(session.get(Entry, papers[0]))
    with database.reading() as session:
        assert changes(session) == number + 1
    assert search.follow(10) is False
    assert papers[0] not in ids(search, "ice")


def test_many_are_found_by_words_before_they_are_by_meaning(database: Database, encoder, monkeypatch) -> None:
    monkeypatch.setattr(index_module, "PER_CHUNK", 4)
    monkeypatch.setattr(index_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(index_module, "LOADING_PART", 0.0)
    search = open_search(database, encoder)
    with database.session() as session:
        for n in range(20):
            upsert(session, IncomingPaper(f"The imported paper with number {n}", f"About word{n}."))
    assert search.follow(5) is True
    assert [ids(search, f"word{n}", mode="words") for n in range(20)] == [[n + 1] for n in range(20)]
    assert set(ids(search, "imported", mode="meaning", limit=100)) == {16, 17, 18, 19, 20}  # the newest first
    while search.follow(5):
        pass
    assert len(ids(search, "imported", mode="meaning", limit=100)) == 20
    with database.session() as session:  # a text that changes among many: its old vector is not kept
        for n in range(20):
            upsert(session, IncomingPaper(f"The imported paper with number {n}", f"Now of a cat{n}.", source="arxiv"))
    encoder.encoded.clear()
    while search.follow(5):
        pass
    assert len(encoder.encoded) == 20
