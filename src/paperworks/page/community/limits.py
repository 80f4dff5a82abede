"""How often something may be done: fixed windows of time, counted in the database, so that all processes agree."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from paperworks.errors import PaperworksError
from paperworks.page.database import RateCount


@dataclass(frozen=True)
class Limit:
    """At most ``count`` times in ``seconds``. ``what`` is shown to who reaches it: "tries to log in"."""

    name: str
    count: int
    seconds: int
    what: str


LOG_IN_FROM = Limit("log-in-from", 30, 900, "tries to log in")
LOG_IN_TO = Limit("log-in-to", 10, 900, "tries to log in")
SIGN_UP_FROM = Limit("sign-up-from", 10, 3600, "sign-ups")
MAIL_TO = Limit("mail-to", 3, 3600, "mails")
MAIL_FROM = Limit("mail-from", 20, 3600, "mails")
COMMENTS = Limit("comments", 30, 3600, "comments")
REACTIONS = Limit("reactions", 600, 3600, "votes and bookmarks")
REPORTS = Limit("reports", 20, 3600, "reports")
SUBMISSIONS = Limit("submissions", 20, 3600, "submissions")
PASSWORDS = Limit("passwords", 10, 900, "tries with a password")


class LimitReached(PaperworksError):
    """Something was done too often. ``wait``: seconds until it may be done again."""

    def __init__(self, limit: Limit, wait: int) -> None:
        self.limit, self.wait = limit, wait
        super().__init__(f"too many {limit.what}; try again in {_words(wait)}")


def hit(session: Session, key: bytes, limit: Limit, who: str, moment: float | None = None) -> int | None:
    """Count one use; returns None if it is within the limit, else the seconds to wait.

    ``who`` (an address, an id) is stored as a keyed digest only. Uses beyond the limit are counted too, so that the
    count is one statement and never read and written apart.
    """
    at = time.time() if moment is None else moment
    window = int(at // limit.seconds) * limit.seconds
    digest = hmac.new(key, f"{limit.name}\0{who}".encode(), hashlib.sha256).hexdigest()
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = (
        insert(RateCount)
        .values(key=f"{limit.name}:{digest}", window=window, count=1)
        .on_conflict_do_update(index_elements=["key", "window"], set_={"count": RateCount.count + 1})
        .returning(RateCount.count)
    )
    count = session.execute(statement).scalar_one()
    return None if count <= limit.count else max(1, window + limit.seconds - int(at))


def _words(seconds: int) -> str:
    if seconds < 90:
        return f"{seconds} seconds"
    return f"{round(seconds / 60)} minutes"
