# SPDX-License-Identifier: GPL-2.0-or-later
"""The notebook docs/investigation.ipynb: its cells, the log that they ask, and what they answer.

`python docs/investigation.py` writes it. The log is made here, always the same one: it has what "Investigation on an
attack tool used in China" describes, among the traffic of others. A test executes the cells and compares.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
NOTEBOOK = ROOT / "docs" / "investigation.ipynb"

#: The attacker of the article that came back.
ATTACKER = "218.2.22.118"
SERVER = "192.0.2.19"
#: 2026-11-23T00:00:00Z.
_BEGIN = 1_795_392_000
_DAY = 86_400
_WINDOWS = (64240, 64240, 64240, 65535, 65535, 29200, 8192, 1024)
_PORTS = (443, 443, 443, 80, 80, 25, 22, 445, 23, 3389)

#: Text, then code, and so on.
CELLS = (
    """# Investigation of an attack tool

This notebook follows "Investigation on an attack tool used in China" on a log of nflowlevel: from a histogram of TCP
windows to one attacker. `ulogd.json` is what the output JSON writes; any other log that `nfl.read` takes would do.""",
    """import nflowlevel as nfl

log = nfl.read("ulogd.json")
log""",
    "Systems choose few TCP windows for their SYNs. Which are there?",
    """log.syn.count("tcp_window")""",
    "16384 is none of a system of today. What do these packets want?",
    """odd = log.syn.where(tcp_window=16384)
odd.count("dest_port")""",
    "Only SSH. From where do they come, and from which port?",
    """odd.count("src_ip", geo="country")""",
    """odd.count("src_port", "ip_totlen", "ip_id")""",
    """Always source port 6000, 40 bytes and the same IP id: no TCP stack does that. The tool makes its packets itself.
The RST that follows is of the kernel of its machine, or of another one: its TTL differs.""",
    """log.find("crafted_rst")""",
    """log.find("fixed_port")""",
    "Does one of them come back? A scan, and within an hour a brute force with another window:",
    """found = log.find("scan_then_brute", within="1h")
found.dicts()""",
    "All that is known of that host, also what sshd said:",
    """attacker = found.dicts()[0]["src_ip"]
log.host(attacker, auth="auth.log", every="5m")""",
    "Each answer is an SQL query, and may be taken further:",
    """print(odd.count("src_ip", top=3).sql)
odd.count("src_ip", top=3).rows()""",
)


def write_logs(directory: Path) -> None:
    """Write `ulogd.json` and `auth.log`: two days of a firewall before a server."""
    draw = random.Random(20140131)
    records = sorted([*_usual(draw), *_attack(draw)], key=lambda record: record["us"])
    with (directory / "ulogd.json").open("w") as file:
        file.writelines(json.dumps(_line(record)) + "\n" for record in records)
    with (directory / "auth.log").open("w") as file:
        for record in records:
            if record["src"] == ATTACKER and record["window"] != 16384 and record["syn"]:
                stamp = _iso(record["us"] + 900_000)
                words = f"Failed password for root from {ATTACKER} port {record['sport']} ssh2"
                file.write(f"{stamp} server sshd[{record['sport']}]: {words}\n")


def _packet(us: int, src: str, sport: int, dport: int, window: int, **more: Any) -> dict[str, Any]:
    usual = {"ttl": 52, "length": 60, "id": us % 65_521, "syn": 1, "rst": 0}
    return {"us": us, "src": src, "sport": sport, "dport": dport, "window": window, **usual, **more}


def _usual(draw: random.Random) -> Iterator[dict[str, Any]]:
    """Yield what clients of all kinds send."""
    for _ in range(6000):
        us = _BEGIN * 10**6 + draw.randrange(2 * _DAY * 10**6)
        source = f"203.0.113.{draw.randrange(1, 255)}"
        yield _packet(us, source, draw.randrange(32768, 61000), draw.choice(_PORTS), draw.choice(_WINDOWS))


def _attack(draw: random.Random) -> Iterator[dict[str, Any]]:
    """Yield twelve scanners' packets; one of them guesses passwords an eighth of an hour later."""
    for number in range(12):
        source = ATTACKER if not number else f"218.2.{draw.randrange(30, 60)}.{draw.randrange(1, 255)}"
        begin = (_BEGIN + draw.randrange(_DAY)) * 10**6
        for each in range(12):
            us = begin + each * 1_300_000
            yield _packet(us, source, 6000, 22, 16384, ttl=105, length=40, id=256)
            yield _packet(us + 240_000, source, 6000, 22, 0, ttl=47, length=40, id=0, syn=0, rst=1)
        if source == ATTACKER:
            for each in range(60):
                us = begin + 450 * 10**6 + each * 2_100_000
                yield _packet(us, source, 34_000 + each * 7, 22, 14600, ttl=47)


def _line(record: dict[str, Any]) -> dict[str, Any]:
    second, fraction = divmod(record["us"], 10**6)
    return {
        "timestamp": _iso(record["us"]), "dvc": "fw1", "oob.prefix": "in: ", "oob.time.sec": second,
        "oob.time.usec": fraction, "oob.in": "eth0", "raw.label": 1, "ip.protocol": 6, "ip.ttl": record["ttl"],
        "ip.totlen": record["length"], "ip.id": record["id"], "src_ip": record["src"], "dest_ip": SERVER,
        "src_port": record["sport"], "dest_port": record["dport"], "tcp.window": record["window"],
        "tcp.syn": record["syn"], "tcp.ack": 0, "tcp.rst": record["rst"], "tcp.fin": 0, "tcp.psh": 0, "tcp.urg": 0,
    }  # fmt: skip


def _iso(us: int) -> str:
    from datetime import UTC, datetime

    second, fraction = divmod(us, 10**6)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:06}+00:00"


def executed(cells: tuple[str, ...] = CELLS) -> Iterator[tuple[str, str]]:
    """Yield the cells with code, each with what it prints and what its last line is, as a notebook would show it."""
    names: dict[str, Any] = {}
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="investigation-") as directory:
        write_logs(Path(directory))
        os.chdir(directory)
        try:
            for cell in filter(is_code, cells):
                yield cell, _run(cell, names)
        finally:
            os.chdir(before)
            if "log" in names:
                names["log"].close()


def _run(cell: str, names: dict[str, Any]) -> str:
    body = ast.parse(cell).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
        value = (
            eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if isinstance(last, ast.Expr) else None
        )
    return printed.getvalue() + (repr(value) if value is not None else "")


def is_code(cell: str) -> bool:
    """Tell whether a cell has code; the others are text."""
    return cell.startswith(("import ", "log", "odd", "found", "attacker", "print("))


def notebook() -> str:
    """Return the text of the notebook, with what its cells answer."""
    answers = dict(executed())
    cells: list[dict[str, Any]] = []
    for number, cell in enumerate(CELLS):
        source = cell.splitlines(keepends=True)
        common = {"id": f"cell-{number:02}", "metadata": {}, "source": source}
        if not is_code(cell):
            cells.append({"cell_type": "markdown", **common})
            continue
        count = sum(map(is_code, CELLS[: number + 1]))
        shown = {"text/plain": answers[cell].splitlines(keepends=True)}
        output = {"data": shown, "execution_count": count, "metadata": {}, "output_type": "execute_result"}
        cells.append({"cell_type": "code", "execution_count": count, "outputs": [output], **common})
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    whole = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook())
