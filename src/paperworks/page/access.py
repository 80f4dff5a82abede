"""Who is the owner of a page without accounts: the browser that showed the token of the printed link once.

Everybody on a machine reaches its address 127.0.0.1. They may read papers; what acts as the owner, or shows what is the
owner's, asks for the token.
"""

from __future__ import annotations

import hashlib
import hmac

from paperworks.page.settings import Settings


def access_token(key: bytes) -> str:
    """The secret in the link that the owner of a page without accounts opens once in each browser."""
    return hmac.new(key, b"paperworks.access", hashlib.sha256).hexdigest()[:40]


def owner_cookie(key: bytes) -> str:
    """What a browser keeps after it showed the access token."""
    return hmac.new(key, b"paperworks.owner", hashlib.sha256).hexdigest()


def access_link(settings: Settings, address: str) -> str:
    """The link that a page without accounts prints for its owner: with the token, unless it asks for none."""
    if not settings.asks_token:
        return address
    return f"{address}/log-in?token={access_token(settings.signing_key())}"
