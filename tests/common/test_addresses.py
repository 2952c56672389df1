"""Passwords are found in an address wherever they stand, also if nobody quoted them."""

import pytest

from fmnist.common.addresses import secrets_of, without_password


@pytest.mark.parametrize(
    ("uri", "shown", "secret"),
    [
        ("http://me:secret@host:5000/x", "http://host:5000/x", "secret"),
        ("http://me:se/cret@host:5000/", "http://host:5000/", "se/cret"),
        ("postgresql://me:a/b@host/db", "postgresql://host/db", "a/b"),
        ("postgresql://me:p%2Fq@host:5/db?sslmode=x", "postgresql://host:5/db?sslmode=x", "p/q"),
        ("postgresql://me:p@s/s@host/db", "postgresql://host/db", "p@s/s"),
        ("postgresql://me:?x#@host/db", "postgresql://host/db", "?x#"),
        ("postgresql://me@host/db?password=secret", "postgresql://host/db", "secret"),
        ("mysql+pymysql://me:x@host/db?passwd=y&a=b", "mysql+pymysql://host/db?a=b", "x"),
        ("http://me:secret@[::1", "http://[::1", "secret"),
    ],
)
def test_a_password_is_not_shown(uri, shown, secret):
    assert without_password(uri) == shown
    assert next(iter(secrets_of(uri))) == secret


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////a/b@c:d@/b.db",
        "sqlite:////a b/{c}.db",
        "http://host:5000/x",
        "databricks",
        "/a:b@c",
    ],
)
def test_an_address_without_one_stays_as_it_is(uri):
    assert without_password(uri) == uri and not [*secrets_of(uri)]
