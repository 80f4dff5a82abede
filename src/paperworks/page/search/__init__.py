"""Search over the entries by words and by meaning, on SQLite or PostgreSQL behind one interface.

index.py      the interface: refresh, search, similar, vectors
ranking.py    from a question to its hits
query_batcher.py  queries of many threads, answered in batches
text.py       what is searched of an entry, words of a query, highlighted matches
sqlite.py     words on SQLite: FTS5, ranked by BM25
postgres.py   words (tsvector) and vectors (pgvector) on PostgreSQL
lock.py       many readers or one writer
snapshots.py  copies of the index beside the database, for a quick start
vectors.py    vectors beside the database, where it has no index for them

What these make is derived from the entries: it can be deleted at any time, and ``refresh`` makes it again.
"""

from paperworks.page.search.index import Hit, SearchIndex, open_search

__all__ = ["Hit", "SearchIndex", "open_search"]
