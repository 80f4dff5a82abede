"""What the tests of the index share."""

from __future__ import annotations

from paperworks.page.search import SearchIndex


def ids(search: SearchIndex, query: str, **options) -> list[int]:
    return [hit.entry_id for hit in search.search(query, **options)]


def keep_statement(seen: list, connection, cursor, statement, parameters, context, many) -> None:
    seen.append((statement, parameters))
