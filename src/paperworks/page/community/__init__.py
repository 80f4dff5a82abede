"""Taking part: accounts, votes, bookmarks, followed tags, discussion, and the limits of each.

accounts.py    who someone is: sign-up by mail, log-in, sessions, passwords, the end of an account
reactions.py   votes, bookmarks, followed tags
comments.py    the discussion below a paper
markdown.py    Markdown that others may read
moderation.py  hiding, editing and removing; reports of readers; the audit trail
limits.py      how often something may be done
"""
