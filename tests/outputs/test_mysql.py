# SPDX-License-Identifier: GPL-2.0-or-later
"""MYSQL: packets become rows in a real MariaDB, each once; its options. The connection: tests/sql/test_mysql.py."""

from __future__ import annotations

import contextlib
from pathlib import Path

from nflowlevel.options import Value, convert
from nflowlevel.outputs.mysql import MYSQL, MYSQLOptions
from tests.corpus import by_name
from tests.fix_decoder import decode
from tests.fix_lines import wait_for
from tests.fix_mariadb import MariaDB, MariaDBDatabase, mariadb, mariadb_db
from tests.messages import message_of
from tests.sql.test_mysql import MEMBERS, PREFIXES, options_for, texts

__all__ = ["mariadb", "mariadb_db"]


def test_options_are_ulogds() -> None:
    given = {"db": "ulogd", "host": "localhost", "user": "ulog", "pass": "x y", "table": "ulog", "port": "3307"}
    given |= {"procedure": "INSERT_PACKET_FULL"}
    read = convert(
        MYSQLOptions, {name: Value(text, 1) for name, text in given.items()}, plugin="MYSQL", instance="mysql1"
    )
    assert (read.pass_, read.port, read.db) == ("x y", 3307, "ulogd")


def test_packets_become_rows(mariadb_db: MariaDBDatabase, tmp_path: Path) -> None:
    """From messages of the kernel to the shipped schema, by way of IP2BIN."""
    mariadb_db.load_shipped("full")
    options = options_for(
        mariadb_db, table="ulog", procedure="INSERT_PACKET_FULL", spool_directory=str(tmp_path), reconnect=1
    )
    output = MYSQL("mysql1", options)
    output.bind(MEMBERS)
    with contextlib.closing(output):
        output.open()
        output.write(decode([message_of(by_name("udp4"), prefix=b"p\xff")]).batch)
        wait_for(lambda: output.stats.written == 1, [output.stats])
    assert mariadb_db.rows("select bin_to_ipv6(ip_saddr_bin), ip_protocol, oob_prefix from ulog") == [
        ("::ffff:10.77.0.2", 17, "p\ufffd")
    ]


def test_each_packet_is_one_row_though_the_server_is_killed(
    mariadb: MariaDB, mariadb_db: MariaDBDatabase, tmp_path: Path
) -> None:
    mariadb_db.execute(f"{PREFIXES}ip_id int) engine=innodb")
    output = MYSQL("mysql1", options_for(mariadb_db, spool_directory=str(tmp_path), reconnect=1))
    output.bind(MEMBERS)
    with contextlib.closing(output):
        output.open()
        for number in range(23):
            output.write(
                decode([message_of(by_name("udp4"), prefix=b"%d" % (number * 50 + i)) for i in range(50)]).batch
            )
            if number == 7:
                wait_for(lambda: output.stats.written, [output.stats])
                mariadb.stop("kill")
            if number == 15:
                mariadb.start()
        wait_for(lambda: output.stats.written == 23 * 50, [output.stats])
    assert texts(mariadb_db) == [str(number) for number in range(23 * 50)]
