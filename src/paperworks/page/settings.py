"""What the owner of a page can choose. Every field has a default that needs no configuration on one's own machine."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from email.errors import HeaderParseError
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from paperworks.errors import InputError, nearest
from paperworks.runs.files import new_file
from paperworks.runs.store import home

ENVIRONMENT_PREFIX = "PAPERWORKS_PAGE_"
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
SHORTEST_SECRET = 32
LEAST_DIFFERENT = 10
"""Different characters that a secret key has at least: one of a random generator has about 20 in 32."""
PUBLIC_KEEP_DAYS = 30
PUBLIC_ACCOUNT_BYTES = 5 * 2**30
HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.I)
MOST_BY_DEFAULT = 4


class Settings(BaseModel):
    """The page's settings: frozen, checked at the start.

    Sources, later ones first: keyword arguments (the command line's flags), ``PAPERWORKS_PAGE_<FIELD>`` in the
    environment, the defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    folder: Path = Field(default_factory=lambda: home() / "page", description="where the page keeps its data")
    database: str = Field("", description="SQLAlchemy URL; by default an SQLite file in the folder")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    public: bool = Field(False, description="accounts and log-in, for a page that others can reach")
    secret_key: SecretStr = Field(SecretStr(""), description="signs cookies and mailed links; required when public")
    allowed_hosts: tuple[str, ...] = Field((), description="host names under which the page is reached")
    asks_token: bool = Field(
        True, description="a page without accounts asks its owner's browser once for the token of the printed link"
    )
    trusted_proxies: tuple[str, ...] = Field(
        ("127.0.0.1", "::1"), description="addresses of proxies whose word about a reader's address is taken"
    )
    connections_per_address: int = Field(
        128, ge=0, description="connections that one address may hold to one web server process; 0 for any number"
    )
    base_url: str = Field("", description="the page's address in mails, feeds and the sitemap")
    uploads: bool | None = Field(None, description="runs on uploaded files; by default yes, unless public")
    upload_bytes: int = Field(200 * 2**20, gt=0, description="largest upload, bytes")
    unconfined_uploads: bool = Field(
        False, description="take uploads on a public page where their runs cannot be kept away from the machine"
    )
    account_bytes: int | None = Field(
        None, gt=0, description="what an account's uploads and runs may take, bytes; by default 5 GiB when public"
    )
    total_bytes: int = Field(50 * 2**30, gt=0, description="what all uploads and runs may take together, bytes")
    keep_days: int | None = Field(
        None, ge=0, description="days after which runs and uploads are removed, 0 for never; by default 30 when public"
    )
    run_seconds: float = Field(1800, gt=0, description="time limit of one run, seconds")
    run_memory_bytes: int = Field(8 * 2**30, gt=0, description="memory limit of one run, bytes")
    run_disk_bytes: int = Field(4 * 2**30, gt=0, description="disk limit of one run, bytes")
    workers: int | None = Field(
        None, ge=1, le=64, description="web server processes; by default one, when public one per core (at most 4)"
    )
    run_workers: int = Field(1, ge=0, le=64, description="processes that execute runs, started with the page")
    ray_address: str = Field(
        "", description="HOST:PORT of a Ray cluster on which the workers execute runs; by default on this machine"
    )
    smtp_url: SecretStr = Field(
        SecretStr(""), description="smtp://user:password@host:port (STARTTLS if offered) or smtps://"
    )
    mail_from: str = Field("", description="sender of mails")
    no_mail: bool = Field(False, description="a public page that sends no mail, and on which nobody can sign up")
    digest_hour: int = Field(6, ge=0, le=23, description="hour, UTC, after which the day's digests are sent")
    digest_weekday: int = Field(1, ge=1, le=7, description="day of the week (1 is Monday) of the weekly digests")
    moderators: tuple[str, ...] = Field(
        (), description="e-mail addresses of the accounts that may hide, edit and remove papers and comments"
    )
    contact: str = Field("", description="address that importers tell the sites they read")

    @property
    def database_url(self) -> str:
        """The URL of the database that is used."""
        return self.database or f"sqlite:///{self.folder / 'page.sqlite'}"

    @property
    def uploads_allowed(self) -> bool:
        """Whether a reader may run papers on files of their own."""
        return (not self.public) if self.uploads is None else self.uploads

    @property
    def bytes_per_account(self) -> int:
        """What the uploads and runs of one account may take, bytes."""
        if self.account_bytes is None:
            return PUBLIC_ACCOUNT_BYTES if self.public else self.total_bytes
        return self.account_bytes

    @property
    def days_kept(self) -> int:
        """Days after which runs and uploads are removed; 0 for never."""
        if self.keep_days is None:
            return PUBLIC_KEEP_DAYS if self.public else 0
        return self.keep_days

    @property
    def web_processes(self) -> int:
        """How many processes serve the page. Where no two can listen on one port, it is one."""
        if not hasattr(socket, "SO_REUSEPORT"):
            return 1
        return self.workers or (min(os.cpu_count() or 1, MOST_BY_DEFAULT) if self.public else 1)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Values of the Host header (without port) that are answered."""
        own = urlsplit(self.base_url).hostname
        named = (*self.allowed_hosts, *((own,) if own else ()))
        return named if self.public else (*LOOPBACK_HOSTS, *named)

    def address(self) -> str:
        """The page's base address, without a slash at its end."""
        if self.base_url:
            return self.base_url.rstrip("/")
        if self.public:
            return f"https://{self.allowed_hosts[0]}"
        return f"http://{self.host}:{self.port}"

    def signing_key(self) -> bytes:
        """The key of signatures: the owner's, or one made once and kept in the folder with mode 0600."""
        given = self.secret_key.get_secret_value()
        if given:
            return given.encode()
        path = self.folder / "secret-key"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make_key(path)
        return path.read_text(encoding="utf-8").strip().encode()


def _make_key(path: Path) -> None:
    """Of several threads or processes that begin together one makes the key; all of them read that one."""
    with suppress(InputError), new_file(path) as aside:  # the error says that another was first
        aside.touch(0o600)
        aside.write_text(secrets.token_urlsafe(48), encoding="utf-8")


def load_settings(**given: Any) -> Settings:
    """Settings from flags and the environment; raises InputError naming the field."""
    values = _from_environment(os.environ) | {k: v for k, v in given.items() if v is not None}
    try:
        settings = Settings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        found = "a value" if name in ("secret_key", "smtp_url") else repr(first["input"])
        raise InputError(name, found, first["msg"]) from None
    _check(settings)
    return settings


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, text in environment.items():
        if not key.startswith(ENVIRONMENT_PREFIX):
            continue
        name = key.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name not in Settings.model_fields:
            raise InputError(
                key,
                "a setting that the page does not have",
                f"one of {', '.join(Settings.model_fields)}" + nearest(name, Settings.model_fields),
            )
        several = name in ("allowed_hosts", "trusted_proxies", "moderators")
        values[name] = tuple(part.strip() for part in text.split(",") if part.strip()) if several else text
    return values


def _check(settings: Settings) -> None:
    for host in settings.allowed_hosts:
        if not (HOST_NAME.fullmatch(host) or _is_address(host.strip("[]"))):
            raise InputError(
                "allowed_hosts",
                repr(host),
                "names as they stand in an address, without scheme, port and path: papers.example.org",
            )
    for proxy in settings.trusted_proxies:
        if not _is_network(proxy):
            raise InputError("trusted_proxies", repr(proxy), "IP addresses or networks, for example 10.0.0.0/8")
    if settings.public:
        key = settings.secret_key.get_secret_value()
        if len(key) < SHORTEST_SECRET:
            raise InputError(
                "secret_key",
                f"{len(key)} characters" if key else "nothing",
                f"at least {SHORTEST_SECRET} characters of a random secret for a public page "
                f"({ENVIRONMENT_PREFIX}SECRET_KEY), for example what secrets.token_urlsafe(48) of Python returns",
            )
        if len(set(key)) < LEAST_DIFFERENT:
            raise InputError(
                "secret_key",
                f"only {len(set(key))} different characters",
                "a random secret, for example what secrets.token_urlsafe(48) of Python returns",
            )
        if not settings.allowed_hosts:
            raise InputError(
                "allowed_hosts", "nothing", f"the host names of a public page ({ENVIRONMENT_PREFIX}ALLOWED_HOSTS)"
            )
    elif settings.host not in ("127.0.0.1", "localhost", "::1"):
        raise InputError(
            "host", repr(settings.host), "127.0.0.1, or --public for a page that other machines reach (it has accounts)"
        )
    if settings.base_url and not _is_base(settings.base_url):
        raise InputError("base_url", repr(settings.base_url), "an address like https://papers.example.org")
    if settings.mail_from and not _is_sender(settings.mail_from):
        raise InputError(
            "mail_from", repr(settings.mail_from), "an address, with a name or without: Papers <papers@example.org>"
        )
    smtp = settings.smtp_url.get_secret_value()
    if smtp and (urlsplit(smtp).scheme not in ("smtp", "smtps") or not urlsplit(smtp).hostname):
        raise InputError("smtp_url", "something else", "smtp://host:port or smtps://host:port")


def _is_base(text: str) -> bool:
    """Whether text is http(s)://host[:port] and nothing else: links are made of it, and paths begin at the root."""
    if re.search(r"[\s\x00-\x1f\\]", text):
        return False
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.path.strip("/"))
    return parts.scheme in ("http", "https") and plain and bool(HOST_NAME.fullmatch(host) or _is_address(host))


def _is_sender(text: str) -> bool:
    """Whether text is one mailbox, as a From header holds it."""
    if re.search(r"[\r\n\x00]", text):
        return False
    try:
        message = EmailMessage()
        message["From"] = text
        (mailbox,) = message["From"].addresses
        return bool(mailbox.username) and bool(HOST_NAME.fullmatch(mailbox.domain)) and not message["From"].defects
    except (ValueError, IndexError, HeaderParseError):
        return False


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as the environment variables that ``load_settings`` reads: secrets never stand in a command line."""
    values = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if value is None:
            continue
        if hasattr(value, "get_secret_value"):
            value = value.get_secret_value()
        values[f"{ENVIRONMENT_PREFIX}{name.upper()}"] = ",".join(value) if isinstance(value, tuple) else str(value)
    return values
