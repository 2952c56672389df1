"""Addresses that are no tracking store, each refused in one line that shows no password."""

import pytest

from fmnist.common.errors import FmnistError, one_line
from fmnist.config.schema import Tracking
from fmnist.tracking.store import open_store

STORES = [
    ("nosuch://x", "tracking store nosuch://x: Model registry functionality is unavailable"),
    ("sqlite:///HERE/nowhere/mlflow.db", "HERE/nowhere/mlflow.db: no such folder"),
    ("sqlite:///HERE", "tracking store sqlite:///HERE: is a folder"),
    ("sqlite:////proc/x.db", "tracking store sqlite:////proc/x.db: [Errno 2] No such file"),
    ("sqlite://", "tracking store sqlite://: in-memory SQLite is not supported"),
    ("sqlite:///:memory:", "tracking store sqlite:///:memory:: in-memory SQLite is not supported"),
    ("sqlite:", "Could not parse SQLAlchemy URL"),
    ("databricks", "tracking store databricks: Reading Databricks credential"),
    ("file:///HERE/mlruns", "HERE/mlruns: The filesystem tracking backend"),
    ("http://127.0.0.1:9", "tracking store http://127.0.0.1:9: [Errno 111] Connection refused"),
    ("http://127.0.0.1:99999", "tracking store http://127.0.0.1:99999: Failed to parse"),
    ("http://[::1", "tracking store http://[::1: is not a URL"),
    ("http://user:geheim@127.0.0.1:9", "tracking.uri: no password here"),
    ("postgresql://user:geh/geheim@127.0.0.1:9/x", "tracking.uri: no password here"),
    ("postgresql://user@127.0.0.1:9/x?password=geheim", "tracking.uri: no password here"),
    ("postgresql://user:ge@geheim@127.0.0.1:9/x", "tracking.uri: no password here"),
    ("http://user:geh/geheim@127.0.0.1:9", "tracking.uri: no password here"),
    ("postgres://nobody@127.0.0.1:9/x", "postgres://127.0.0.1:9/x: no such scheme; write postgre"),
    ("postgresql://nobody@127.0.0.1:9/x", "port 9 failed: Connection refused"),
    ("mysql://nobody@127.0.0.1:9/x", "No module named 'MySQLdb'"),
    ("mssql+nosuch://x", "Can't load plugin: sqlalchemy.dialects:mssql.nosuch"),
    ("sqlite:///HERE/a\nb/mlflow.db", "HERE/a b/mlflow.db: no such folder"),
]


@pytest.mark.parametrize("by", ["option", "variable"])
@pytest.mark.parametrize(("uri", "words"), STORES)
def test_one_line_says_why_it_is_none(tmp_path, monkeypatch, uri, words, by):
    filled = uri.replace("HERE", str(tmp_path))
    if by == "variable":
        if "no password here" in words:
            words = "as %40" if "ge@" in uri else "Connection refused"
        for name in ("USERNAME", "PASSWORD"):  # which it may set
            monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", filled)
    with pytest.raises(FmnistError) as refused:
        open_store(Tracking(filled if by == "option" else None, "fmnist", 1))
    line = one_line(refused.value)
    assert words.replace("HERE", str(tmp_path)) in line
    assert "\n" not in line and "geheim" not in line
    assert list(tmp_path.iterdir()) == []
