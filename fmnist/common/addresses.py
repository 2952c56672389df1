"""Addresses of stores, `SCHEME://USER:PASSWORD@HOST/…`, and the secrets in them."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from sqlalchemy import URL

PASSWORD = re.compile(r"://([^:/@]*):([^?]*|[^@]*)@")
"""User and password, up to the last @ before a query: people forget to quote what is in them."""

SECRET_KEY = re.compile("passw|pwd|secret|token", re.IGNORECASE)  # of a query: ?password=…


def parsed(uri: str) -> "URL | None":
    """Return the parts of an address; None if it is none."""
    if "://" not in uri:
        return None
    from sqlalchemy import make_url  # only now: it takes a third of a second
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(PASSWORD.sub(_quoted, uri))
    except (ArgumentError, ValueError):
        return None


def secrets_of(uri: str) -> Iterator[str]:
    """Yield the passwords in an address."""
    url = parsed(uri)
    if url is None:
        yield from (password for _, password in PASSWORD.findall(uri))
        return
    if url.password:
        yield str(url.password)
    for key, values in url.normalized_query.items():
        if SECRET_KEY.search(key):
            yield from values


def without_password(uri: str) -> str:
    """Return `uri` without user name and passwords."""
    url = parsed(uri)
    if url is None:
        return re.sub("(?<=://).*@", "", uri)
    if not (url.username or any(secrets_of(uri))):
        return uri  # as it was written
    query = {key: value for key, value in url.query.items() if not SECRET_KEY.search(key)}
    shown = url.create(
        url.drivername, host=url.host, port=url.port, database=url.database, query=query
    )
    return shown.render_as_string()


def _quoted(found: re.Match[str]) -> str:
    user, password = found.groups()
    return f"://{user}:{quote(unquote(password), safe='')}@"
