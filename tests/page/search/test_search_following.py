"""The index follows the database: changes, other processes, kept files, and vectors of another encoder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from search_helpers import ids, keep_statement
from sqlalchemy import event

from paperworks.errors import InputError
from paperworks.page.database import Database, Entry, changes, open_database
from paperworks.page.feed import IncomingPaper, upsert
from paperworks.page.loops import run_loop
from paperworks.page.search import SearchIndex, open_search
from paperworks.page.search import index as index_module


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


def test_vectors_keep_the_order_and_encode_what_is_missing(database: Database, papers: list[int], encoder) -> None:
    search = open_search(database, encoder)
    before = search.vectors(papers[::-1])
    search.refresh()
    np.testing.assert_allclose(search.vectors(papers)[::-1], before, rtol=1e-6)
    assert before.dtype == np.float32
    with pytest.raises(InputError, match="id of an entry"):
        search.vectors([12345])


def test_another_encoder_replaces_the_vectors(database: Database, papers: list[int], encoder) -> None:
    open_search(database, encoder).refresh()

    class Other(type(encoder)):
        name = "other"

    other = Other()
    search = open_search(database, other)
    assert search.refresh() == len(papers)
    assert len(other.encoded) == len(papers)
    assert search.refresh() == 0


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
    keep = partial(keep_statement, seen)
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
