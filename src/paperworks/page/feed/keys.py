"""The names of a paper by which it is recognised whatever the source: arXiv id, DOI, address, title."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from urllib.parse import urlsplit

ARXIV_NEW = r"\d{4}\.\d{4,5}"
ARXIV_OLD = r"[a-z][a-z-]*(?:\.[A-Za-z]{2})?/\d{7}"
_ARXIV = re.compile(rf"({ARXIV_NEW}|{ARXIV_OLD})(?:v\d+)?")
# arXiv's own hosts and mirrors, and sites whose addresses hold the id of the paper that they show.
_ARXIV_HOSTS = (
    r"(?:[\w-]+\.)*arxiv\.org|xxx\.(?:lanl\.gov|itp\.ac\.cn|uni-augsburg\.de)|(?:www\.)?ar5iv\.(?:org|labs\.arxiv\.org)"
)
_OTHER_HOSTS = (
    r"(?:www\.)?(?:alphaxiv\.org|huggingface\.co|hf\.co|scirate\.com|papers\.cool|arxiv-vanity\.com|emergentmind\.com)"
)
_ARXIV_ADDRESS = re.compile(
    rf"(?:https?://)?(?:(?:{_ARXIV_HOSTS})/(?:abs|pdf|html|format|ps|src|e-print|tb)"
    rf"|{_OTHER_HOSTS}/(?:\w\w/)?(?:abs|pdf|html|overview|resources|audio|papers|arxiv|paper))/"
    rf"(?:arxiv[:.])?({ARXIV_NEW}|{ARXIV_OLD})(?:v\d+)?(?:\.pdf|\.md)?/?(?:[?#/].*)?",
    re.IGNORECASE,
)
_ARXIV_DOI = re.compile(rf"10\.48550/arxiv\.({ARXIV_NEW}|{ARXIV_OLD})(?:v\d+)?", re.IGNORECASE)
SHORTEST_TITLE = 12
"""Letters and digits that a title needs to join sources: shorter ones name a paper only where nothing else does."""
LONGEST_KEY = 400


def arxiv_id(text: str) -> str | None:
    """The arXiv id, without its version, that a text consists of: ``2401.15024v2``, ``arXiv:...``, an address, a DOI.

    None if the text is anything else.
    """
    stripped = text.strip()
    if stripped.lower().startswith("arxiv:"):
        stripped = stripped[6:].strip()
    for pattern in (_ARXIV, _ARXIV_ADDRESS, _ARXIV_DOI):
        match = pattern.fullmatch(stripped)
        if match:
            return match[1].lower() if "/" not in match[1] else match[1]
    doi = normal_doi(stripped)
    if doi:
        match = _ARXIV_DOI.fullmatch(doi)
        return match[1] if match else None
    return None


def normal_doi(text: str) -> str | None:
    """A DOI in lower case without ``doi:`` or an address before it; None if the text is not a DOI."""
    stripped = re.sub(r"^(?:https?://(?:dx\.)?doi\.org/|doi:\s*)", "", text.strip(), flags=re.IGNORECASE)
    return stripped.lower() if re.fullmatch(r"10\.\d{4,9}/\S+", stripped) else None


def normal_address(text: str) -> str | None:
    """An http(s) address without scheme, ``www.``, fragment and last slash; None if it is not one."""
    try:
        parts = urlsplit(text.strip())
        host = (parts.hostname or "").removeprefix("www.")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host:
        return None
    told = "&".join(p for p in parts.query.split("&") if p and not p.lower().startswith("utm_"))  # who sent the reader
    query = f"?{told}" if told else ""
    return f"{host}{port}{parts.path.rstrip('/')}{query}"


def normal_title(text: str) -> str:
    """Letters and digits of a title, case-folded, in any script; differences of punctuation and accents are gone."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if c.isalnum())


def same_place(one: str, other: str) -> bool:
    """Whether two keys ``url:...`` are addresses of one host."""
    return one.removeprefix("url:").partition("/")[0] == other.removeprefix("url:").partition("/")[0]


def paper_keys(arxiv: str | None, doi: str | None, url: str, title: str) -> list[str]:
    """All keys of a paper, the strongest first. Longer ones than the table holds are replaced by their digest."""
    found = []
    if arxiv:
        found.append(f"arxiv:{arxiv}")
    if doi and not _ARXIV_DOI.fullmatch(doi):
        found.append(f"doi:{doi}")
    address = normal_address(url) if url and not arxiv_id(url) else None
    if address and ("/" in address or "?" in address):  # a bare host names a site, not a paper
        found.append(f"url:{address}")
    name = normal_title(title)
    if len(name) >= SHORTEST_TITLE or not found:
        found.append(f"title:{name}")
    return [_fit(key) for key in found]


def _fit(key: str) -> str:
    if len(key) <= LONGEST_KEY:
        return key
    kind = key.partition(":")[0]
    return f"{kind}:sha256:{hashlib.sha256(key.encode()).hexdigest()}"
