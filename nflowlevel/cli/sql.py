# SPDX-License-Identifier: GPL-2.0-or-later
"""`nflowlevel sql`: tables for the SQL outputs of a configuration, and whether those that are there fit.

`init` creates our tables and the ledger where they are missing, and leaves all else as it is. In a database where the
output fills a table of another name it creates the ledger alone. `check` creates nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from nflowlevel.binding.privileges import acting_as
from nflowlevel.cli import status
from nflowlevel.cli.arguments import add_action, add_config, user
from nflowlevel.cli.status import NotAvailable, WrongArgument
from nflowlevel.cli.terminal import shown, width
from nflowlevel.daemon.main import DEFAULT_CONFIG
from nflowlevel.errors import ConfigError, NflowError, NotSupported, choice, printable
from nflowlevel.options import Value, convert
from nflowlevel.outputs.sqlite3 import SQLITE3
from nflowlevel.plugin.tables import SQLOutput
from nflowlevel.records.keys import CATALOGUE
from nflowlevel.spool.sink import Moved, Refused, Unavailable
from nflowlevel.sql.check import Comparison, compare, statements
from nflowlevel.sql.columns import Column, Members, match
from nflowlevel.sql.database import Database, schema
from nflowlevel.sql.options import statement
from nflowlevel.stacks.config import parse_all
from nflowlevel.stacks.registry import find_plugin
from nflowlevel.stacks.stack import build

_STATUS = f"""What does not fit is followed by the statements that make room: wider columns, and in ulogd2's schemas the
views and functions before them. They change nothing until you run them, for example
    nflowlevel sql check -c ulogd.conf --print > widen.sql; psql firewall < widen.sql

Status 0: everything that is stored fits. Status {status.FAILED}: something does not, or rows
may come twice because there is no ledger.

{status.listed()}"""
_EXAMPLES = """Without a configuration: nflowlevel sql init SQLITE3 db=packets.db
                         nflowlevel sql init --print PGSQL"""

#: Plugins that can be named instead of an output of the configuration, and the file of each one's schema.
_PLUGINS = {"PGSQL": "pgsql", "MYSQL": "mysql", "SQLITE3": "sqlite3"}
#: Our own tables: for packets, for accounting, and for flows.
_TABLES = ("packets", "sums", "flows")
#: For MySQL too, which wants a statement for each table.
_GRANTS = """\
-- If the output uses another user than the one who executes this, that user (here: ulog) needs:
--     GRANT INSERT ON packets TO ulog;
--     GRANT INSERT ON sums TO ulog;
--     GRANT INSERT ON flows TO ulog;
--     GRANT SELECT, INSERT, UPDATE ON nflowlevel_ledger TO ulog;"""
#: What a table of ours cannot know beforehand.
_ADDED = "to store what a filter adds"
#: The ledger's entry that a check asks for; nobody has it.
_NOBODY = "nflowlevel sql check"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    init = _add(commands, "init", _init, "create nflowlevel's tables and the ledger if they are missing", _EXAMPLES)
    init.add_argument(
        "-p", "--print", action="store_true", help="only print the statements, for a user with the necessary rights"
    )
    init.add_argument("output", nargs="?", metavar="INSTANCE", help="only this output; or PGSQL, MYSQL or SQLITE3")
    init.add_argument("options", nargs="*", metavar="OPTION=VALUE", help="options of PGSQL, MYSQL or SQLITE3")
    init.add_argument(
        "--owner", metavar="USER", type=user, help="make a file of SQLite as this user, the one of the daemon's -u"
    )
    check = _add(commands, "check", _check, "compare tables with the stacks that fill them; creates nothing", _STATUS)
    check.add_argument(
        "-p", "--print", action="store_true", help="print only the statements that make fit what does not"
    )
    check.add_argument("output", nargs="?", metavar="INSTANCE", help="only this output")


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[argparse.Namespace], int],
    purpose: str,
    more: str,
) -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = add_action(commands, name, act, purpose, epilog=more, formatter_class=form)
    add_config(parser, default=DEFAULT_CONFIG, what="configuration")
    return parser


def run(options: argparse.Namespace) -> int:
    """Create, or compare."""
    try:
        return int(options.act(options))
    except Unavailable as error:
        raise NotAvailable(str(error)) from None


# -- which output -----------------------------------------------------------------------------------------------------


def _outputs(file: str, wanted: str | None) -> list[SQLOutput[Any]]:
    """Return the SQL outputs of a configuration, or the wanted one: with the keys of all stacks that end in it."""
    every = dict.fromkeys(stack.output for stack in build(parse_all(file)))
    found = [output for output in every if isinstance(output, SQLOutput)]
    if not found:
        raise ConfigError("no stack ends with an SQL output", file=file)
    chosen = [output for output in found if wanted in (None, output.instance)]
    if not chosen:
        names = sorted({output.instance for output in found})
        said = f"unknown SQL output '{printable(wanted or '')}'{choice(wanted or '', names)}"
        raise ConfigError(said, file=file)
    return chosen


def _alone(name: str, words: Sequence[str]) -> SQLOutput[Any]:
    """Return an output made from words like those of a section, without a configuration."""
    plugin = find_plugin(name)
    values = {}
    for word in words:
        option, equals, text = word.partition("=")
        if not equals:
            raise WrongArgument(f"'{printable(word)}' is not of the form OPTION=VALUE")
        values[option] = Value(text, 0)
    values.setdefault("table", Value(_TABLES[0], 0))
    options: Any = convert(plugin.Options, values, plugin=name, instance=name.lower())
    return plugin(name.lower(), options)  # type: ignore[return-value]


# -- init -------------------------------------------------------------------------------------------------------------


def _init(options: argparse.Namespace) -> int:
    if options.output in _PLUGINS and options.print and not options.options:
        print(_script(_PLUGINS[options.output]), end="")
        return 0
    if options.output in _PLUGINS:
        outputs = [_alone(options.output, options.options)]
    elif options.options:
        raise WrongArgument(
            f"OPTION=VALUE may only follow {', '.join(_PLUGINS)}; the options of an instance are in the configuration"
        )
    else:
        outputs = _outputs(options.config, options.output)
    if options.owner and os.geteuid() not in (0, options.owner.pw_uid):
        raise WrongArgument("--owner: only root can make files of other users")
    for output in outputs:
        if options.print:
            _print(output, output.members)
            continue
        if isinstance(output, SQLITE3):
            _create_file(output, options.owner)
        else:
            _create(output, output.members)
    return 0


def _create_file(output: SQLITE3, owner: pwd.struct_passwd | None) -> None:
    """Create a file of SQLite as its owner; tell root of one that the daemon's user may not be able to open."""
    path = output.options.db
    was_there = os.path.exists(path)
    with acting_as(owner) if owner else contextlib.nullcontext():
        _create(output, output.members)
    if not was_there and os.stat(path).st_uid == 0:
        _say("note", [f"the file is root's; a daemon with -u USER needs: chown USER {path} (or --owner USER here)"])


def _script(dialect: str) -> str:
    return schema(f"{dialect}.sql") + "\n" + schema(f"{dialect}-ledger.sql")


def _print(output: SQLOutput[Any], members: Members) -> None:
    database = output.database()
    print(f"-- For [{output.instance}], {database.shown}")
    if database.dialect != "sqlite3":
        print(_GRANTS)
    if getattr(output.options, "schema", "public") != "public":
        print("SET search_path = " + '"' + output.options.schema.replace('"', '""') + '", public;')
    print(_script(database.dialect), end="")
    for line in statements((), members, output.options.table, database.dialect):
        print(f"-- To store what a filter adds: {line}")


def _create(output: SQLOutput[Any], members: Members) -> None:
    """Create what the output needs: in a database with a table of somebody else's no tables of ours."""
    database, table = output.database(), output.options.table
    try:
        database.connect()
        if table not in _TABLES and _columns(database):
            database.run(schema(f"{database.dialect}-ledger.sql"))
            print(f"[{output.instance}] {database.shown}: the ledger exists, next to the table {table}")
            return
        database.run(_script(database.dialect))
        ours = f"the tables {', '.join(_TABLES)} and the ledger exist"
        columns = _columns(database)
        if not columns:
            raise NflowError(f"[{output.instance}] {database.shown}: {ours}, but no table {table}: name one of them")
        print(f"[{output.instance}] {database.shown}: {ours}")
        _say(_ADDED, statements(columns, members, table, database.dialect))
    finally:
        database.close()


def _columns(database: Database) -> list[Column]:
    """Return the columns of the output's table; none where there is no table."""
    try:
        return database.columns()
    except Unavailable:
        return []


# -- check ------------------------------------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    check = _print_widening if options.print else _check_one
    return max([check(output) for output in _outputs(options.config, options.output)])


def _print_widening(output: SQLOutput[Any]) -> int:
    """Print the statements that make the stack's values fit, and as comments what they do not do; the exit status."""
    database = output.database()
    try:
        database.connect()
        wide = database.widening(database.columns(), output.members)
    finally:
        database.close()
    for text in (f"For [{output.instance}], {database.shown}", *wide.remarks):
        print(f"-- {printable(text, None)}")
    for line in wide.statements:
        print(shown(line))
    return status.FAILED if wide.remarks else 0


def _check_one(output: SQLOutput[Any]) -> int:
    """Print what is to say about an output; the exit status."""
    database = output.database()
    print(f"[{output.instance}] {database.shown}, table {output.options.table}")
    try:
        columns, compared = _compare(output, database)
        if compared.stored:
            database.prepare(columns)
        wide = database.widening(database.columns(), output.members)
        lacking = statements(database.columns(), output.members, output.options.table, database.dialect)
    except (NotSupported, Unavailable, Refused) as error:
        _say("unavailable", [str(error)])
        return status.UNAVAILABLE
    else:
        no_ledger = _no_ledger(database)
    finally:
        database.close()
    _say("stored", [f"{len(compared.stored)} of the stack's {len(output.members)} keys have a column"])
    _say("keys without a column", compared.without_column, ", ")
    _say(_ADDED, lacking)
    _say("columns without a key", [_with_plugin(name) for name in compared.without_key], ", ")
    _say("note", compared.remarks)
    misplaced = [f"{found.text}; {found.remedy}" for found in output.misplaced()]
    problems = [*dict.fromkeys((*misplaced, *compared.problems, *wide.problems))]
    _say("does not fit", problems)
    _say("not changed by these statements", wide.remarks)
    if wide.statements:
        print("  to make it fit, as the owner of the tables, then restart the daemon (--print prints this alone):")
        print(*(f"    {line}" for text in wide.statements for line in shown(text).split("\n")), sep="\n")
    _say(
        "no ledger yet; the daemon creates it if it may; otherwise run `sql init` as a user who may",
        no_ledger,
    )
    return status.FAILED if problems or no_ledger or not compared.stored else 0


def _with_plugin(column: str) -> str:
    """Return a column's name, with the plugin that would have to be in the stack to fill it."""
    names = [key.plugin for key in CATALOGUE if key.name.replace(".", "_") == column.lower()]
    return f"{column} ({names[0]} fills it)" if names else column


def _compare(output: SQLOutput[Any], database: Database) -> tuple[list[Column], Comparison]:
    """Return the columns that are written, and what is to say about them."""
    arguments = statement(output.options.procedure, output.options.table).form in ("select", "call")
    database.connect()
    columns = database.columns()
    return match(columns, output.members, arguments=arguments), compare(columns, output.members)


def _no_ledger(database: Database) -> list[str]:
    """Return why there is no ledger, or nothing: whoever may move an entry that is not there may move his own."""
    try:
        database.skip(0, _NOBODY, 0)
    except Moved:
        return []
    except Unavailable as error:
        return [str(error)]
    return []


def _say(what: str, texts: Sequence[str], between: str = "") -> None:
    """Print texts after what they are, one a line, or all in one that is broken where the terminal ends."""
    for text in [between.join(texts)] if between and texts else texts:
        line = f"  {what}: {printable(text, None)}"
        print(
            textwrap.fill(
                line, width() or len(line) + 1, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
            )
        )
