"""Papers of the feed: one entry per paper whatever its sources, their trend, and lists of them.

entries.py     what a source says of a paper, and the one entry that it becomes
seed.py        the catalogue in the feed
keys.py        the names under which papers are recognised again
submissions.py papers that readers submit
trend.py       the formula by which the feed is sorted
listing.py     days, weeks and months of entries, filtered, sorted, by cursor
importers/     arXiv, daily papers, RSS and Atom, JSONL, pasted pages
"""

from paperworks.page.feed.entries import ImportOutcome, IncomingPaper, upsert
from paperworks.page.feed.listing import (
    FeedPage,
    FeedQuery,
    Period,
    list_entries,
    newly_working,
    organisations,
    periods,
    tag_counts,
)
from paperworks.page.feed.seed import seed_catalogue
from paperworks.page.feed.trend import refresh_trends, trend_score

__all__ = [
    "FeedPage",
    "FeedQuery",
    "ImportOutcome",
    "IncomingPaper",
    "Period",
    "list_entries",
    "newly_working",
    "organisations",
    "periods",
    "refresh_trends",
    "seed_catalogue",
    "tag_counts",
    "trend_score",
    "upsert",
]
