"""The page: a daily-papers site on which papers can be run.

settings.py    what an owner can choose; everything has a default that needs nothing
database/      the tables, the connection, the migrations
feed/          papers from the catalogue and from outside: importers, one entry per paper, trend, listing
search/        words and meaning over the entries: SQLite or PostgreSQL behind one interface
community/     accounts, votes, discussion, bookmarks, followed tags
digest/        subscriptions and the mails that go out
jobs/          runs asked for on the page: forms, uploads, the queue, the worker
web/           the application: views, the API, templates, the stylesheet
backup.py      a copy of everything while it runs, and back
"""
