"""Importing papers from outside.

base.py      what a source gives: batches of papers, with a place to go on from
client.py    a polite HTTP client: pauses, validators, back-off, limits of size, no way into a private network
arxiv.py     ids and queries through arXiv's Atom API
daily.py     a day of the Hugging Face daily papers
feeds.py     any RSS or Atom feed
lines.py     JSONL
paste.py     the text of a Daily Papers page
"""

from paperworks.page.feed.importers.client import PoliteClient, SourceUrls
from paperworks.page.feed.importers.run import import_arxiv, import_source

__all__ = ["PoliteClient", "SourceUrls", "import_arxiv", "import_source"]
