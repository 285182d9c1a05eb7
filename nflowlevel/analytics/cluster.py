# SPDX-License-Identifier: GPL-2.0-or-later
"""Spark in DuckDB's place: the relations of an archive as views of a session of its own."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from nflowlevel.analytics.databases import without_password
from nflowlevel.archive.schema import RELATIONS, Relation
from nflowlevel.errors import NotSupported, printable

#: What means more than itself in a path of Hadoop's.
_SPECIAL = re.compile(r"([\\{}\[\]*?^,])")
#: How Hadoop says that it does not know a store, or that the library for it is missing.
_NO_STORE = re.compile(r"No FileSystem for scheme|ClassNotFoundException")
_LOCAL = re.compile(r"local(\[|$)|spark://(127\.|localhost|\[::1\])")


class Spark:
    """Queries to an archive, answered by Spark."""

    name = "spark"

    def __init__(self, spark: Any, archives: Mapping[str, Sequence[str]], remote: Sequence[str] = ()) -> None:
        # Views belong to a session; two logs may be asked at the same time.
        self._session = spark.newSession()
        self._session.conf.set("spark.sql.session.timeZone", "UTC")
        for found in RELATIONS.values():
            paths = [_SPECIAL.sub(r"\\\1", path) for path in archives.get(found.name, ())]
            urls = {f"{self._for_hadoop(url)}/kind={found.name}": url for url in remote}
            there = (url for url, given in urls.items() if self._is_there(url, given))
            self._view(found, [*paths, *(_SPECIAL.sub(r"\\\1", url) for url in there)])

    def _for_hadoop(self, url: str) -> str:
        """Return a URL as Hadoop's libraries know it: theirs for s3:// is s3a://, unless a service sets its own."""
        shown = printable(without_password(url), None)
        url, _, options = url.partition("?")
        if options:
            needed = "the settings of Spark for it, such as spark.hadoop.fs.s3a.endpoint and fs.s3a.path.style.access"
            raise NotSupported(f"reading {shown} by Spark", found="options in the URL", needed=needed)
        scheme, rest = url.split("://", 1)
        known = self._session.sparkContext._jsc.hadoopConfiguration().get(f"fs.{scheme}.impl")
        return f"{'s3a' if scheme in ('s3', 's3n') and not known else scheme}://{rest.rstrip('/')}"

    def _is_there(self, url: str, given: str) -> bool:
        """Tell whether there is such a directory in an object store; NotSupported: Spark has no way to it."""
        java = self._session.sparkContext._jvm.org.apache.hadoop.fs.Path(url)
        try:
            store = java.getFileSystem(self._session.sparkContext._jsc.hadoopConfiguration())
        except Exception as error:  # py4j's, which has no types
            if not _NO_STORE.search(str(error)):
                raise
            scheme = given.partition(":")[0]
            raise NotSupported(
                f"reading {printable(without_password(given), None)} by Spark",
                found=f"no file system for {scheme}://",
                needed="that of the store, such as s3a:// with the package org.apache.hadoop:hadoop-aws in "
                "spark.jars.packages, of the version of Spark's Hadoop",
            ) from None
        return bool(store.exists(java))

    def _view(self, relation: Relation, paths: Sequence[str]) -> None:
        if paths:
            # What directories are called is no column: 007 would become a number, and hide the column of the files.
            reader = self._session.read.option("recursiveFileLookup", "true").option("mergeSchema", "true")
            frame = reader.parquet(*paths)
            frame = frame.selectExpr(*_columns(relation, set(frame.columns)))
        else:
            frame = self._session.sql(f"SELECT {', '.join(_columns(relation, set()))} WHERE 1 = 0")
        frame.createOrReplaceTempView(relation.name)

    def relation(self, text: str) -> Any:
        """Return Spark's DataFrame."""
        return self._session.sql(text)

    def columns(self, relation: Any) -> tuple[str, ...]:
        """Return the names of its columns."""
        return tuple(relation.columns)

    def rows(self, relation: Any, most: int | None = None) -> list[tuple[Any, ...]]:
        """Return its rows, or the first of them."""
        found = (relation if most is None else relation.limit(most)).collect()
        return [tuple(_plain(value) for value in row) for row in found]

    def within(self, first: int | None, behind: int | None) -> Spark:
        """Return itself: Spark reads of each file what times it has."""
        return self

    @property
    def whole(self) -> Spark:
        """The engine for all times."""
        return self

    def fetch(self, text: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.rows(self.relation(text))

    def df(self, relation: Any) -> Any:
        """Return it as a DataFrame of pandas."""
        return relation.toPandas()

    def arrow(self, relation: Any) -> Any:
        """Return it as a table of Arrow."""
        return relation.toArrow()

    def remember(self, table: str, columns: dict[str, str], rows: Sequence[Sequence[Any]]) -> None:
        """Add rows to a table that queries may name."""
        types = ", ".join(f"{name} {_TYPES.get(type_, type_)}" for name, type_ in columns.items())
        with warnings.catch_warnings():
            # Of versions of pandas, which is not used here.
            warnings.simplefilter("ignore", FutureWarning)
            added = self._session.createDataFrame([tuple(row) for row in rows], types)
        if self._session.catalog.tableExists(table):
            added = self._session.table(table).unionAll(added)
        added.createOrReplaceTempView(table)


_TYPES = {"VARCHAR": "STRING", "INTEGER": "INT", "UINTEGER": "BIGINT"}


def session(spark: Any) -> Any:
    """Return a SparkSession: the one that is given, or that of a master; NotSupported where pyspark is missing."""
    if not isinstance(spark, str):
        return spark
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        needed = "pip install 'nflowlevel[spark]' and a Java runtime"
        raise NotSupported("asking Spark", found="no Python module pyspark", needed=needed) from None
    builder: Any = SparkSession.builder
    builder = builder.master(spark).appName("nflowlevel").config("spark.ui.enabled", "false")
    # Its bars would stand between the lines of an answer.
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    if _LOCAL.match(spark):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    return builder.getOrCreate()


def _columns(relation: Relation, found: set[str]) -> Iterator[str]:
    """Yield the expressions of a relation's columns over what the files have of them."""
    for column in relation:
        source = column.name if column.name in found else "NULL"
        yield f"CAST({source} AS {column.spark}) AS {column.name}"


def _plain(value: Any) -> Any:
    """Return a value as DuckDB would give it."""
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value
