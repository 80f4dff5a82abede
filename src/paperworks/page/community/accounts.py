"""Accounts: sign-up by mail, log-in, sessions, passwords, the end of an account.

No answer tells whether an address has an account. Signing up and forgetting a password send a mail and say the same
thing either way; a log-in checks a password of the same cost either way. An account is made only when the link in the
mail is followed, with the name and the password chosen there: nobody can prepare one for a mailbox that is not theirs.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session as OrmSession

from paperworks.errors import InputError
from paperworks.page.community.comments import delete_all_of
from paperworks.page.community.reactions import withdraw_votes
from paperworks.page.database import Session, Subscription, User, now
from paperworks.page.digest.subscriptions import normal_address
from paperworks.page.mail import read_token, signed_token
from paperworks.page.settings import Settings

SESSION_DAYS = 30
SIGN_UP_SECONDS = 24 * 3600
RESET_SECONDS = 3600
SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 256
LONGEST_NAME = 60
LOCAL_NAME = "You"
COMMON_STEMS = (
    "password passwort motdepasse qwerty qwertyuiop qwertzuiop asdfghjkl iloveyou letmein welcome administrator "
    "paperworks changeme"
)
COMMON_PASSWORDS = "1234567890 12345678910 0123456789 0987654321 1q2w3e4r5t q1w2e3r4t5 1qaz2wsx3edc"
ACCOUNTS_LOCK = 7321  # any fixed number but that of the search tables

_hasher = PasswordHasher()


def local_user(session: OrmSession) -> User:
    """The one user of a page without log-in, made at the first start."""
    user = session.scalar(select(User).where(User.email.is_(None), User.password.is_(None)).order_by(User.id).limit(1))
    if user is None:
        user = User(email=None, name=LOCAL_NAME, password=None, confirmed=now())
        session.add(user)
        session.flush()
    return user


def find_user(session: OrmSession, address: str) -> User | None:
    """The account of an address, or None. Addresses that differ in case only are one mailbox."""
    return session.scalar(select(User).where(func.lower(User.email) == address.strip().lower()))


def sign_up_mail(session: OrmSession, settings: Settings, address: str) -> EmailMessage:
    """The mail for someone who wants an account: a link to make it, or word that there is one already.

    Raises InputError for text that is no address.
    """
    email = normal_address("email", address)
    site = settings.address()
    if find_user(session, email) is None:
        link = f"{site}/sign-up/{signed_token(settings, 'sign-up', email)}"
        text = (
            f"Somebody, probably you, wants an account with this address at {site}.\n\n"
            f"Follow this link within a day to choose a name and a password:\n\n{link}\n\n"
            "If it was not you, do nothing: there is no account until the link is followed.\n"
        )
        return _mail(email, "Your account", text)
    text = (
        f"Somebody, probably you, wanted an account with this address at {site}. You have one already.\n\n"
        f"Log in: {site}/log-in\nChoose a new password: {site}/forgotten\n\n"
        "If it was not you, do nothing: nothing has changed.\n"
    )
    return _mail(email, "You have an account already", text)


def sign_up_address(settings: Settings, token: str) -> str:
    """The address that a sign-up link stands for; raises InputError for a wrong or old link."""
    return str(read_token(settings, "sign-up", token, SIGN_UP_SECONDS))


def create_user(session: OrmSession, settings: Settings, token: str, name: str, password: str) -> User:
    """Make the account of a sign-up link. Raises InputError for the link, the name, or the password."""
    email = sign_up_address(settings, token)
    _one_at_a_time(session)
    if find_user(session, email) is not None:
        raise InputError("link", "one that was followed before", "your password: log in")
    user = User(
        email=email,
        name=checked_name(session, name),
        password=_hasher.hash(checked_password(password, email)),
        confirmed=now(),
    )
    session.add(user)
    session.flush()
    return user


def check_log_in(session: OrmSession, address: str, password: str) -> User | None:
    """The user of an address and password, or None. Takes the same time whether or not the address has an account."""
    user = find_user(session, address)
    known = user.password if user is not None and user.password is not None else _nobodys_hash()
    right = _verify(known, password)
    if user is None or user.password is None or not right:
        return None
    if _hasher.check_needs_rehash(user.password):
        user.password = _hasher.hash(password)
    return user


def open_session(session: OrmSession, user: User) -> str:
    """Log a user in; returns the token for the cookie. The table holds its digest only."""
    token = secrets.token_urlsafe(32)
    moment = now()
    session.add(
        Session(
            token_hash=_token_hash(token),
            user_id=user.id,
            created=moment,
            expires=moment + timedelta(days=SESSION_DAYS),
        )
    )
    return token


def user_of_token(session: OrmSession, token: str) -> User | None:
    """The user of a session cookie, or None if it is unknown or has expired."""
    return session.scalar(
        select(User)
        .join(Session, Session.user_id == User.id)
        .where(Session.token_hash == _token_hash(token), Session.expires > now())
    )


def close_session(session: OrmSession, token: str) -> None:
    """Log out."""
    session.execute(delete(Session).where(Session.token_hash == _token_hash(token)))


def reset_mail(session: OrmSession, settings: Settings, address: str) -> EmailMessage | None:
    """The mail with a link to choose a new password, or None if the address has no account.

    Raises InputError for text that is no address.
    """
    user = find_user(session, normal_address("email", address))
    if user is None or user.email is None:
        return None
    token = signed_token(settings, "reset", [user.id, _state_of(user)])
    site = settings.address()
    text = (
        f"Somebody, probably you, forgot the password of your account at {site}.\n\n"
        f"Follow this link within an hour to choose a new one:\n\n{site}/forgotten/{token}\n\n"
        "If it was not you, do nothing: your password stays as it is.\n"
    )
    return _mail(user.email, "Choose a new password", text)


def user_of_reset(session: OrmSession, settings: Settings, token: str) -> User:
    """The user of a reset link, which counts once; raises InputError for a wrong, old or used one."""
    user_id, state = read_token(settings, "reset", token, RESET_SECONDS)
    user = session.get(User, user_id)
    if user is None or not secrets.compare_digest(state, _state_of(user)):
        raise InputError("link", "one that was used", "a newer one: ask for another mail")
    return user


def set_password(session: OrmSession, user: User, password: str, but: str | None = None) -> None:
    """Choose a new password; all log-ins end, but the one of the token ``but``."""
    user = session.merge(user)
    user.password = _hasher.hash(checked_password(password, user.email or ""))
    ended = delete(Session).where(Session.user_id == user.id)
    if but is not None:
        ended = ended.where(Session.token_hash != _token_hash(but))
    session.execute(ended)


def has_password(user: User, password: str) -> bool:
    """Whether it is the user's password."""
    return user.password is not None and _verify(user.password, password)


def set_name(session: OrmSession, user: User, name: str) -> None:
    """Choose a new name; raises InputError."""
    _one_at_a_time(session)
    session.execute(update(User).where(User.id == user.id).values(name=checked_name(session, name, user.id)))


def delete_account(session: OrmSession, user: User) -> None:
    """End an account with all that hangs on it, but its uploads and their runs: see ``remove_account_files``.

    Votes and bookmarks go, comments lose their text, runs of bundled input stay without a name, the mailed digest ends.
    """
    withdraw_votes(session, user.id)
    delete_all_of(session, user.id)
    if user.email is not None:
        session.execute(
            update(Subscription)
            .where(func.lower(Subscription.email) == user.email.lower(), Subscription.ended.is_(None))
            .values(ended=now())
        )
    session.execute(delete(User).where(User.id == user.id))


def _one_at_a_time(session: OrmSession) -> None:
    """Wait for others who take an address or a name, until the transaction ends: what is free here stays free.

    On SQLite the transaction itself is the only one that writes.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(ACCOUNTS_LOCK)))


def checked_name(session: OrmSession, name: str, own_id: int | None = None) -> str:
    """A name that can be shown and that nobody else has (differences of case do not count); raises InputError."""
    plain = " ".join(unicodedata.normalize("NFKC", name).split())
    if not 2 <= len(plain) <= LONGEST_NAME or not re.search(r"\w", plain):
        raise InputError("name", repr(plain[:LONGEST_NAME]), f"2 to {LONGEST_NAME} characters")
    if any(unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp") for c in plain):
        raise InputError("name", "characters that cannot be seen", "letters, digits and spaces")
    taken = session.scalar(select(User.id).where(func.lower(User.name) == plain.lower(), User.id != (own_id or 0)))
    if taken is not None:
        raise InputError("name", repr(plain), "a name that nobody here has yet")
    return plain


def checked_password(password: str, email: str = "") -> str:
    """A password that is not the first to be guessed; raises InputError, which never holds the password."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise InputError("password", f"{len(password)} characters", f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD}")
    folded = password.casefold()
    if len(set(folded)) < 4 or folded in (email.casefold(), email.partition("@")[0].casefold()) or _is_common(folded):
        raise InputError("password", "one that is guessed first", "another: three or four words, for example")
    return password


def _is_common(folded: str) -> bool:
    stem = re.sub(r"[\W\d_]+$", "", folded)
    return stem in COMMON_STEMS.split() or folded in COMMON_PASSWORDS.split()


def _verify(known: str, password: str) -> bool:
    try:
        return _hasher.verify(known, password[: LONGEST_PASSWORD + 1])
    except (VerificationError, InvalidHashError):
        return False


@lru_cache(maxsize=1)
def _nobodys_hash() -> str:
    return _hasher.hash(secrets.token_urlsafe(16))


def _token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _state_of(user: User) -> str:
    """Changes with the password: a link that was used no longer fits."""
    return hashlib.sha256(f"{user.id}\0{user.password}".encode()).hexdigest()[:32]


def _mail(email: str, subject: str, text: str) -> EmailMessage:
    message = EmailMessage()
    local, _, domain = email.rpartition("@")
    message["To"] = Address(username=local, domain=domain)
    message["Subject"] = subject
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    return message
