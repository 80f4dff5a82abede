"""Taking part through the browser: votes, bookmarks, followed tags, discussion, submitting."""

from __future__ import annotations

import re
import time

import httpx
import pytest
from sqlalchemy import select
from web_helpers import Browser, become_member

from paperworks.errors import InputError
from paperworks.page.community import limits
from paperworks.page.database import Comment, Entry, Submission, now
from paperworks.page.feed import ImportOutcome, IncomingPaper, submissions, upsert


def entry_of(browser: Browser, arxiv: str) -> Entry:
    with browser.page.database.reading() as session:
        entry = session.scalar(select(Entry).where(Entry.arxiv == arxiv))
    assert entry is not None
    return entry


def pressed(html: str) -> list[str]:
    return re.findall(r'aria-pressed="(\w+)"', html)


def test_a_vote_counts_once_and_is_taken_back(member: Browser, password_hash: str) -> None:
    path = "/papers/2611.00005"
    before = entry_of(member, "2611.00005")
    for _ in range(2):
        answer = member.submit(f"{path}/vote", "/?sort=date", on="1")
        assert str(answer.url).endswith("/?sort=date"), "back to the page it was sent on"
    after = entry_of(member, "2611.00005")
    assert after.upvotes == before.upvotes + 1
    assert after.trend > before.trend
    become_member(member, password_hash)
    part = member.htmx(f"{path}/vote", on="1")
    assert "<html" not in part.text
    assert pressed(part.text) == ["true"]
    assert entry_of(member, "2611.00005").upvotes == before.upvotes + 2
    assert pressed(member.htmx(f"{path}/vote", on="0").text) == ["false"]
    assert entry_of(member, "2611.00005").upvotes == before.upvotes + 1
    assert member.submit(f"{path}/vote", on="2").status_code == 422
    assert member.submit("/papers/0000.00000/vote", on="1").status_code == 404
    assert member.submit("/papers/2611.99999/vote", on="1").status_code == 404


def test_without_a_log_in_a_vote_leads_to_it(visitor: Browser) -> None:
    token = visitor.token("/log-in")
    answer = visitor.post("/papers/2611.00005/vote", data={"csrf": token, "on": "1"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/log-in?next=%2F")
    headers = {"HX-Request": "true", "X-CSRF-Token": token}
    answer = visitor.post("/papers/2611.00005/vote", data={"on": "1"}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["hx-redirect"].startswith("/log-in")


def test_bookmarks_are_ones_own(member: Browser, password_hash: str) -> None:
    title = entry_of(member, "2611.00007").title
    assert "Nothing is bookmarked" in member.get("/bookmarks").text
    assert pressed(member.htmx("/papers/2611.00007/bookmark", on="1").text) == ["true"]
    assert title in member.get("/bookmarks").text
    mine = member.cookies
    become_member(member, password_hash)
    assert title not in member.get("/bookmarks").text
    assert mine is member.cookies
    member.submit("/papers/2611.00007/bookmark", "/bookmarks", on="1")
    member.submit("/papers/2611.00007/bookmark", "/bookmarks", on="0")
    assert title not in member.get("/bookmarks").text


def test_followed_tags_gather_their_papers(member: Browser) -> None:
    assert "You follow no tag" in member.get("/following").text
    assert "Following" in member.htmx("/tags/bed-2/follow", "/tags", on="1").text
    member.submit("/tags/rules/follow", "/tags", on="1")
    html = member.get("/following").text
    assert "Imported paper number 2 of interest" in html
    assert "FOLD-SE" in html
    assert "number 3 of interest" not in html
    member.submit("/tags/bed-2/follow", "/following", on="0")
    assert "number 2 of interest" not in member.get("/following").text
    assert member.submit("/tags/no-such-tag/follow", "/tags", on="1").status_code == 422


def test_a_discussion(member: Browser, password_hash: str) -> None:
    path = "/papers/2611.00008"
    answer = member.submit(f"{path}/comments", path, text="**Bold** and <b>raw</b>\n\n- [a link](https://example.org)")
    assert re.search(r"/papers/2611\.00008(#comment-\d+)?$", str(answer.url))
    html = answer.text
    assert "<strong>Bold</strong>" in html
    assert "&lt;b&gt;raw&lt;/b&gt;" in html
    assert '<a href="https://example.org" rel="nofollow ugc noopener">' in html
    first = int(re.findall(r'id="comment-(\d+)"', html)[0])
    assert entry_of(member, "2611.00008").comments == 1

    become_member(member, password_hash)
    part = member.htmx(f"{path}/comments", path, text="I answer", parent=str(first)).text
    assert part.startswith('<section id="discussion"')
    assert re.search(r'<div class="answers">.*I answer', part, re.DOTALL)
    second = max(map(int, re.findall(r'id="comment-(\d+)"', part)))
    nested = member.htmx(f"{path}/comments", path, text="and again", parent=str(second)).text
    assert nested.count('class="answers"') == 1, "answers to answers stand beside them"

    for change in (f"/comments/{first}", f"/comments/{first}/delete", "/comments/999999", "/comments/99999999999"):
        assert member.submit(change, path, text="not mine").status_code == 404
    assert member.submit(f"/comments/{second}", path, text="I answer otherwise").status_code == 200
    html = member.get(path).text
    assert "I answer otherwise" in html
    assert "edited" in html
    assert entry_of(member, "2611.00008").comments == 3
    member.submit(f"/comments/{second}/delete", path)
    html = member.get(path).text
    assert "I answer otherwise" not in html
    assert entry_of(member, "2611.00008").comments == 2
    with member.page.database.reading() as session:
        assert session.get_one(Comment, second).text == ""


def test_a_deleted_comment_keeps_its_place_while_it_has_answers(member: Browser) -> None:
    path = "/papers/2611.00010"
    member.submit(f"{path}/comments", path, text="the beginning")
    first = re.findall(r'id="comment-(\d+)"', member.get(path).text)[0]
    member.submit(f"{path}/comments", path, text="an answer", parent=first)
    member.submit(f"/comments/{first}/delete", path)
    html = member.get(path).text
    assert "This comment was deleted" in html
    assert "an answer" in html
    assert member.submit(f"{path}/comments", path, text="late", parent=first).status_code == 422
    second = max(re.findall(r'id="comment-(\d+)"', html), key=int)
    member.submit(f"/comments/{second}/delete", path)
    assert "Nobody has said anything yet" in member.get(path).text


@pytest.mark.parametrize(
    "fields",
    [
        {"text": ""},
        {"text": "  \n "},
        {"text": "x" * 10_001},
        {"text": "x", "parent": "1x"},
        {"text": "x", "parent": "9"},
    ],
)
def test_what_is_no_comment_is_refused(member: Browser, fields: dict[str, str]) -> None:
    answer = member.submit("/papers/2611.00011/comments", "/papers/2611.00011", **fields)
    assert answer.status_code == 422
    assert entry_of(member, "2611.00011").comments == 0


def test_an_answer_belongs_to_its_paper(member: Browser) -> None:
    member.submit("/papers/2611.00013/comments", text="here")
    other = re.findall(r'id="comment-(\d+)"', member.get("/papers/2611.00013").text)[0]
    assert member.submit("/papers/2611.00011/comments", text="there", parent=other).status_code == 422


def test_comments_are_limited(member: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMMENTS", limits.Limit("few", 2, 3600, "comments"))
    answers = [member.submit("/papers/2611.00014/comments", text=f"{n}") for n in range(3)]
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert "Too many comments; try again in" in answers[-1].text
    assert entry_of(member, "2611.00014").comments == 2
    part = member.htmx("/papers/2611.00014/comments", text="more")
    assert part.status_code == 429
    assert "<html" not in part.text


@pytest.fixture
def arxiv(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Stands for the importer: what it does is set by the test; what it was asked is counted."""
    seen: dict[str, object] = {"asked": [], "does": None}

    def import_source(database: object, source: str, settings: object) -> ImportOutcome:
        seen["asked"].append(source)  # type: ignore[attr-defined]
        if isinstance(seen["does"], Exception):
            raise seen["does"]
        if isinstance(seen["does"], float):
            time.sleep(seen["does"])
        outcome = ImportOutcome()
        if seen["does"] is None:
            outcome.skipped.append((source, "arXiv has no paper of this id"))
        elif not isinstance(seen["does"], float):
            with database.session() as session:  # type: ignore[attr-defined]
                outcome.count(upsert(session, seen["does"]))  # type: ignore[arg-type]
        return outcome

    monkeypatch.setattr(submissions, "import_once", import_source)
    return seen


def test_a_submitted_paper_is_there_at_once_and_found(member: Browser, arxiv: dict) -> None:  # type: ignore[type-arg]
    arxiv["does"] = IncomingPaper(
        "A submitted paper on walruses", abstract="Walruses.", arxiv="2501.01234", source="arxiv"
    )
    answer = member.submit("/submit", "/submit", paper="https://arxiv.org/abs/2501.01234v3")
    assert str(answer.url).endswith("/papers/2501.01234")
    assert arxiv["asked"] == ["2501.01234"]
    entry = entry_of(member, "2501.01234")
    assert entry.submitted_by is not None
    assert "walruses" in member.get("/search?q=walruses&mode=words").text
    member.submit("/submit", "/submit", paper="2501.01234")
    assert arxiv["asked"] == ["2501.01234"], "a paper that is here is not asked for again"
    listed = member.get("/api/daily_papers?limit=100").json()
    submitters = {p["paper"]["id"]: p["submittedBy"] for p in listed if p["submittedBy"]}
    assert set(submitters) == {"2501.01234"}
    name = submitters["2501.01234"]["user"]
    assert [p["paper"]["id"] for p in member.get("/api/daily_papers", params={"submitter": name}).json()] == [
        "2501.01234"
    ]


def test_a_paper_that_arxiv_does_not_have(member: Browser, arxiv: dict) -> None:  # type: ignore[type-arg]
    answer = member.submit("/submit", "/submit", paper="2501.09999")
    assert answer.status_code == 422
    assert "arXiv has no paper of this id" in answer.text
    assert 'value="2501.09999"' in answer.text


@pytest.mark.parametrize(
    "problem", [httpx.ConnectError("refused"), InputError("arXiv", "status 503", "an answer"), 0.6], ids=str
)
def test_a_paper_that_does_not_come_soon_is_queued(
    member: Browser,
    arxiv: dict,  # type: ignore[type-arg]
    problem: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submissions.submit_paper, "__defaults__", (None, 0.2))
    database, settings = member.page.database, member.page.settings
    name = f"2502.0{1000 + len(str(problem))}"
    arxiv["does"] = problem
    begin = time.monotonic()
    answer = member.submit("/submit", "/submit", paper=name)
    assert time.monotonic() - begin < 5
    assert answer.status_code == 200
    assert f"The paper {name} is in the queue" in answer.text
    assert "waiting" in answer.text
    assert submissions.import_submissions(database, settings) == 0, "it is not due yet"
    with database.session() as session:
        session.get(Submission, name).due = now()
    if isinstance(problem, Exception):
        assert submissions.import_submissions(database, settings) == 0, "it does not answer yet"
    arxiv["does"] = IncomingPaper(f"A paper that came late {name}", arxiv=name, source="arxiv")
    with database.session() as session:
        if row := session.get(Submission, name):
            assert row.ended is None
            row.due = now()
            row.attempts = 3
    assert submissions.import_submissions(database, settings) == 1
    assert entry_of(member, name).submitted_by is not None
    assert name not in member.get("/submit").text


def test_a_submission_is_given_up_in_the_end(member: Browser, arxiv: dict) -> None:  # type: ignore[type-arg]
    database, settings = member.page.database, member.page.settings
    arxiv["does"] = httpx.ConnectError("refused")
    with database.session() as session:
        session.add(Submission(arxiv="2503.00001", attempts=submissions.ATTEMPTS - 1))
    assert submissions.import_submissions(database, settings) == 0
    with database.reading() as session:
        row = session.get(Submission, "2503.00001")
    assert row.ended is not None
    assert "refused" in row.error


@pytest.mark.parametrize("text", ["", "a-paper", "http://127.0.0.1/2501.01234", "file:///etc/passwd", "hf:2026-11-20"])
def test_only_arxiv_papers_are_submitted(member: Browser, arxiv: dict, text: str) -> None:  # type: ignore[type-arg]
    assert member.submit("/submit", "/submit", paper=text).status_code == 422
    assert arxiv["asked"] == []
