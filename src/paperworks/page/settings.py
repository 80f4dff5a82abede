"""What the owner of a page can choose. Every field has a default that needs no configuration on one's own machine."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
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
    base_url: str = Field("", description="the page's address in mails, feeds and the sitemap")
    uploads: bool | None = Field(None, description="runs on uploaded files; by default yes, unless public")
    upload_bytes: int = Field(200 * 2**20, gt=0, description="largest upload, bytes")
    run_seconds: float = Field(1800, gt=0, description="time limit of one run, seconds")
    run_memory_bytes: int = Field(8 * 2**30, gt=0, description="memory limit of one run, bytes")
    run_disk_bytes: int = Field(4 * 2**30, gt=0, description="disk limit of one run, bytes")
    workers: int | None = Field(
        None, ge=1, le=64, description="web server processes; by default one, when public one per core (at most 4)"
    )
    run_workers: int = Field(1, ge=0, le=64, description="processes that execute runs, started with the page")
    smtp_url: SecretStr = Field(
        SecretStr(""), description="smtp://user:password@host:port (STARTTLS if offered) or smtps://"
    )
    mail_from: str = Field("", description="sender of mails")
    no_mail: bool = Field(False, description="a public page that sends no mail, and on which nobody can sign up")
    digest_hour: int = Field(6, ge=0, le=23, description="hour, UTC, after which the day's digests are sent")
    digest_weekday: int = Field(1, ge=1, le=7, description="day of the week (1 is Monday) of the weekly digests")
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
        values[name] = tuple(h.strip() for h in text.split(",") if h.strip()) if name == "allowed_hosts" else text
    return values


def _check(settings: Settings) -> None:
    if settings.public:
        key = settings.secret_key.get_secret_value()
        if len(key) < SHORTEST_SECRET:
            raise InputError(
                "secret_key",
                f"{len(key)} characters" if key else "nothing",
                f"at least {SHORTEST_SECRET} characters of a random secret for a public page "
                f"({ENVIRONMENT_PREFIX}SECRET_KEY), for example what secrets.token_urlsafe(48) of Python returns",
            )
        if not settings.allowed_hosts:
            raise InputError(
                "allowed_hosts", "nothing", f"the host names of a public page ({ENVIRONMENT_PREFIX}ALLOWED_HOSTS)"
            )
    elif settings.host not in ("127.0.0.1", "localhost", "::1"):
        raise InputError(
            "host", repr(settings.host), "127.0.0.1, or --public for a page that other machines reach (it has accounts)"
        )
    if settings.base_url and urlsplit(settings.base_url).scheme not in ("http", "https"):
        raise InputError("base_url", repr(settings.base_url), "an address that starts with http:// or https://")
    smtp = settings.smtp_url.get_secret_value()
    if smtp and (urlsplit(smtp).scheme not in ("smtp", "smtps") or not urlsplit(smtp).hostname):
        raise InputError("smtp_url", "something else", "smtp://host:port or smtps://host:port")


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
