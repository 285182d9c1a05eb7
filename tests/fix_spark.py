# SPDX-License-Identifier: GPL-2.0-or-later
"""Spark for tests: a session on this machine, and a real standalone cluster of a master and two workers on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.fix_alone import unused_port

_WAIT_SECS = 90
_MEMORY = "1g"


def environment() -> dict[str, str]:
    """Return the environment of Spark's programs: nothing listens elsewhere than on loopback."""
    import pyspark

    home = str(Path(pyspark.__file__).parent)
    return os.environ | {
        "SPARK_HOME": home, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable,
        "SPARK_DAEMON_MEMORY": "256m", "SPARK_NO_DAEMONIZE": "1",
    }  # fmt: skip


@contextmanager
def session(master: str) -> Iterator[Any]:
    """Yield a session; it ends with the block, and its Java process too."""
    with warnings.catch_warnings():
        # pyspark's own, and of sockets that it leaves to the garbage collector.
        warnings.simplefilter("ignore")
        from pyspark import SparkContext
        from pyspark.sql import SparkSession

        os.environ.update(
            {name: value for name, value in environment().items() if name.startswith(("SPARK_", "PYSPARK_"))}
        )
        settings = {
            "spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.shuffle.partitions": "2", "spark.driver.memory": _MEMORY, "spark.executor.memory": _MEMORY,
            "spark.ui.showConsoleProgress": "false", "spark.sql.session.timeZone": "UTC",
        }  # fmt: skip
        builder: Any = SparkSession.builder.master(master).appName("tests")  # type: ignore[attr-defined]
        for name, value in settings.items():
            builder = builder.config(name, value)
        made = builder.getOrCreate()
        made.sparkContext.setLogLevel("ERROR")
        try:
            yield made
        finally:
            made.stop()
            gateway = SparkContext._gateway
            if gateway is not None:
                gateway.shutdown()
                gateway.proc.stdin.close()
                gateway.proc.wait(30)
                SparkContext._gateway = SparkContext._jvm = None


@contextmanager
def cluster(directory: Path, workers: int = 2) -> Iterator[str]:
    """Yield the URL of a master with workers, all of them processes of their own that end with the block."""
    port, *web = (unused_port() for _ in range(workers + 2))
    url = f"spark://127.0.0.1:{port}"
    with ExitStack() as running:
        master = ["deploy.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(web[0])]
        log = running.enter_context(_program(directory / "master.log", *master))
        _wait_for(log, "I have been elected leader")
        for n in range(workers):
            words = ["deploy.worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", "2g"]
            words += ["--webui-port", str(web[n + 1]), "--work-dir", str(directory / f"work{n}"), url]
            log = running.enter_context(_program(directory / f"worker{n}.log", *words))
            _wait_for(log, "Successfully registered with master")
        yield url


@contextmanager
def _program(log: Path, name: str, *words: str) -> Iterator[Path]:
    around = environment()
    command = [str(Path(around["SPARK_HOME"]) / "bin" / "spark-class"), f"org.apache.spark.{name}", *words]
    with log.open("wb") as output:
        # A process group of its own: spark-class and the Java that it starts end together.
        child = subprocess.Popen(
            command, env=around, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield log
        finally:
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _wait_for(log: Path, words: str) -> None:
    end = time.monotonic() + _WAIT_SECS
    while words not in log.read_text(errors="replace"):
        assert time.monotonic() < end, f"{log.name}: no '{words}' in\n{log.read_text(errors='replace')}"
        time.sleep(0.1)
