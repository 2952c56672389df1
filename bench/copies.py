"""Copies of one real study in a tracking store, row by row: for bench/scale.py and the tests."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow.store.db.base_sql_model import Base
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelAlias
from mlflow.store.tracking.dbmodels import models
from sqlalchemy import Table, create_engine, insert, select, update

Row = dict[str, Any]
Rows = Mapping[Table, Sequence[Row]]

APART = 60_000  # milliseconds between the beginnings of two studies
AT_ONCE = 10  # studies in one transaction
TAGS = models.SqlTag.__table__
VERSIONED = {"champion": 1, "version": 1, "replaced": 0}
"""Tags of a decision that name a version: the one of its own study, or of the study before."""


@dataclass(frozen=True)
class Original:
    """The rows of a store that has one study and one decision on it.

    Attributes:
        common: of what all studies share: experiment, data sets, registered model, decision log.
        own: of what each has for itself.
        names: of runs, models, inputs and the folder of the study.
    """

    common: Rows
    own: Rows
    names: frozenset[str]

    @classmethod
    def of(cls, uri: str) -> "Original":
        """Read a store."""
        with create_engine(uri).connect() as connection:
            rows = {
                table: [dict(row) for row in connection.execute(select(table)).mappings()]
                for table in Base.metadata.sorted_tables
            }
        names = _names({table.name: there for table, there in rows.items()})
        own = {t: [row for row in there if _is_own(t, row, names)] for t, there in rows.items()}
        common = {
            t: [row for row in there if row not in own[t] and not _is_of_any_store(row)]
            for t, there in rows.items()
        }
        return cls(common, own, names)

    def copy(self, number: int) -> Rows:
        """Return the rows of a copy; number 0 is the study itself."""
        copied = {
            table: [self._copied(table.name, row, number) for row in rows]
            for table, rows in self.own.items()
        }
        if number:
            copied[TAGS] += [
                row | {"key": "replaced", "value": str(number)}
                for row in copied[TAGS]
                if row["key"] == "champion"
            ]
        return copied

    def _copied(self, table: str, row: Row, number: int) -> Row:
        new: Row = {k: renamed(v, number) if v in self.names else v for k, v in row.items()}
        if table == "runs":
            new["start_time"] += APART * number
        elif table == "params" and new["key"] == place(0):
            new["key"] = place(number)
        elif table == "tags" and new["key"] in VERSIONED:
            new["value"] = str(number + VERSIONED[new["key"]])
        elif table.startswith("model_version"):
            new["version"] = number + 1
        return new


def _names(rows: Mapping[str, Sequence[Row]]) -> frozenset[str]:
    log_run = {row["run_uuid"] for row in rows["params"] if row["key"] == place(0)}
    columns = {"runs": "run_uuid", "logged_models": "model_id", "inputs": "input_uuid"}
    found = {row[column] for table, column in columns.items() for row in rows[table]}
    found |= {row["value"] for row in rows["tags"] if row["key"] == "sweep"}
    return frozenset(found - log_run)


def _is_own(table: Table, row: Row, names: frozenset[str]) -> bool:
    return table.name.startswith("model_version") or not names.isdisjoint(row.values())


def _is_of_any_store(row: Row) -> bool:
    """Tell whether MLflow itself adds a row to each new store: its experiment and workspace."""
    return row.get("experiment_id") == 0 or row.get("name") == "default"


def place(number: int) -> str:
    """Return the param of the decision log that names the decision on a copy."""
    return f"{number + 1:06d}"


def renamed(name: str, number: int) -> str:
    """Return what a run, a model, an input or a folder of the study is called in a copy."""
    return f"{name[:-6]}{number:06x}" if number else name


def fill(uri: str, original: Original, studies: range) -> None:
    """Write copies of a study into a store that has all those of lower numbers.

    Artifacts are not copied: those of the study serve all copies.
    """
    mlflow.MlflowClient(uri).search_experiments()  # sets up a new one
    engine = create_engine(uri)

    def write(rows: Iterable[tuple[Table, Sequence[Row]]]) -> None:
        with engine.begin() as connection:
            for table, new in rows:
                if new:
                    connection.execute(insert(table), new)

    if not studies.start:
        write(original.common.items())
    for first in studies[::AT_ONCE]:
        copies = [original.copy(n) for n in studies if first <= n < first + AT_ONCE]
        write((table, [row for copy in copies for row in copy[table]]) for table in original.own)
    with engine.begin() as connection:
        connection.execute(update(SqlRegisteredModelAlias).values(version=studies.stop))
        if engine.dialect.name == "postgresql":  # in time it does so itself; SQLite never does
            connection.exec_driver_sql("ANALYZE")
    engine.dispose()
