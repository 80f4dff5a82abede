"""Dates as pages of papers write them: with a year, without one, or as so many days ago.

A date without a year is the latest such day that is not after the page's own day, and that is the latest one up to
tomorrow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

YEARS_BACK = 9
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_MONTH = (
    r"(?:(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    r"(?:uary|ruary|ch|il|e|y|ust|t|tember|ober|ember)?\.?)"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:(?P<year>(?:, ?| )(?:19|20)\d\d|, ?\d{4}))"  # "Jan 26 1200" is a day with 1200 comments
_BEFORE_DATE = r"(?:(?:published|submitted|posted|updated|listed)(?: on)?:? )?"
_WEEKDAY = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?,? )?"
_DATES = [
    re.compile(rf"{_BEFORE_DATE}{_WEEKDAY}{pattern}", re.IGNORECASE)
    for pattern in (
        rf"{_MONTH} {_DAY}{_YEAR}?",
        rf"{_DAY} {_MONTH}{_YEAR}?",
        r"(?P<year>\d{4})-(?P<number>\d{2})-(?P<day>\d{2})",
    )
]
_RELATIVE = re.compile(
    rf"{_BEFORE_DATE}(?:about |over |almost )?"
    r"(?:(?P<word>today|yesterday)|(?P<count>\d+|an?) (?P<unit>minute|hour|day|week|month)s? ago)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class WrittenDay:
    """A date as it is written: with a year or without one, or as so many days before the page's day."""

    month: int = 0
    day: int = 0
    year: int | None = None
    days_ago: int | None = None

    def resolve(self, bound: date) -> date | None:
        """The day. Without a year the latest up to ``bound``; None for one that no year has."""
        if self.days_ago is not None:
            return bound - timedelta(days=self.days_ago)
        years = [self.year] if self.year else range(bound.year, bound.year - YEARS_BACK, -1)
        for year in years:
            try:
                found = date(year, self.month, self.day)
            except ValueError:  # no such day, or not in this year
                continue
            if self.year or found <= bound:
                return found
        return None


def written_day(text: str) -> WrittenDay | None:
    """The date that a text consists of, which may be one that no calendar has; None for anything else."""
    for pattern in _DATES:
        match = pattern.fullmatch(text)
        if match:
            parts = match.groupdict()
            month = int(parts["number"]) if parts.get("number") else MONTHS.index(parts["month"].lower()) + 1
            year = (parts.get("year") or "").lstrip(", ")
            return WrittenDay(month, int(parts["day"]), int(year) if year else None)
    match = _RELATIVE.fullmatch(text)
    if match is None:
        return None
    if match["word"]:
        return WrittenDay(days_ago=int(match["word"].lower() == "yesterday"))
    count = 1 if match["count"].lower() in ("a", "an") else int(match["count"])
    days = {"minute": 0, "hour": 0, "day": 1, "week": 7, "month": 30}[match["unit"].lower()]
    return WrittenDay(days_ago=min(count * days, 36_500))


def read_date(text: str, today: date) -> date | None:
    """The date that a text consists of, or None. Without a year: the latest such day up to tomorrow."""
    written = written_day(text)
    if written is None:
        return None
    return written.resolve(today if written.days_ago is not None else today + timedelta(days=1))
