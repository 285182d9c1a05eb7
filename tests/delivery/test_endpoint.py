# SPDX-License-Identifier: GPL-2.0-or-later
"""The endpoint answers whoever asks, whatever other clients do."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from nflowlevel.binding.privileges import Worker
from nflowlevel.delivery import endpoint
from nflowlevel.delivery.endpoint import Answer, Endpoint
from nflowlevel.errors import OutputError
from nflowlevel.stats import OutputStats
from tests.fix_lines import descriptors_left, no_descriptor_left, wait_for

Serve = Callable[..., Endpoint]


def hello(accept: str) -> tuple[str, bytes]:
    return "text/plain", f"hello {accept}".encode()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts endpoints; they leave neither descriptors nor threads."""
    endpoints: list[Endpoint] = []

    def started(
        answer: Answer = hello, host: str = "127.0.0.1", port: int = 0, stats: OutputStats | None = None
    ) -> Endpoint:
        endpoints.append(Endpoint(host, port, "/metrics", answer, stats))
        return endpoints[-1]

    with no_descriptor_left():
        yield started
        for each in endpoints:
            each.close()
            each.close()
        assert not [thread.name for thread in threading.enumerate() if "/metrics" in thread.name]


def connect(served: Endpoint) -> socket.socket:
    host, _, port = served.url.split("/")[2].rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), 10)


def get(served: Endpoint, path: str = "/metrics", method: str = "GET", **headers: str) -> tuple[int, bytes, str | None]:
    host, _, port = served.url.split("/")[2].rpartition(":")
    client = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=10)
    with contextlib.closing(client):
        client.request(method, path, headers=headers)
        with client.getresponse() as response:
            return response.status, response.read(), response.headers["Content-Type"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_page(serve: Serve, host: str) -> None:
    served = serve(host=host)
    with urllib.request.urlopen(served.url, timeout=10) as response:
        assert (response.read(), response.headers["Server"]) == (b"hello ", "nflowlevel")
    assert get(served, "/metrics?x=1", Accept="text/x") == (200, b"hello text/x", "text/plain")
    assert get(served, method="HEAD") == (200, b"", "text/plain")


def test_other_paths_and_methods(serve: Serve) -> None:
    served = serve()
    status, text, _ = get(served, "/")
    assert status == 404
    assert b"see /metrics" in text
    assert get(served, method="POST")[0] == 501


def test_who_asks_without_pause_does_not_take_the_processor(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """After what a client has cost, the next one waits for three times that."""
    rests: list[float] = []

    def rest(server: endpoint._Server) -> float:
        rests.append(real(server))
        return rests[-1]

    def dear(accept: str) -> tuple[str, bytes]:
        end = time.thread_time() + 0.03
        while time.thread_time() < end:
            pass
        return hello(accept)

    real = endpoint._Server.rest
    monkeypatch.setattr(endpoint._Server, "rest", rest)
    served = serve(dear)
    for _ in range(6):
        assert get(served)[0] == 200
    # The last ones may not have been counted yet.
    assert sum(rests) > 3 * 0.03 * 4
    assert max(rests) <= endpoint._PAUSE_SECS


def test_answer_that_fails(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    fails = True

    def answer(accept: str) -> tuple[str, bytes]:
        if fails:
            raise ValueError("no counters today")
        return hello(accept)

    served = serve(answer)
    assert get(served)[0] == 500
    assert "no counters today" in caplog.text
    fails = False
    assert get(served)[0] == 200


def test_silent_clients_give_way_to_new_ones(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve()
    silent = [connect(served) for _ in range(20)]
    assert get(served)[0] == 200
    assert [sock.recv(1) for sock in silent[:12]] == [b""] * 12
    for sock in silent:
        sock.close()


def test_client_that_does_not_read_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(lambda _: ("text/plain", bytes(64 << 20)))
    host, _, port = served.url.split("/")[2].rpartition(":")
    with socket.socket() as slow:
        slow.bind((host, 0))
        address, setup = slow.getsockname(), endpoint._Handler.setup

        def impatient(self: endpoint._Handler) -> None:
            # Of the slow one only: on a busy machine the other may take long for so much.
            self.timeout = 0.2 if self.client_address == address else 60
            setup(self)

        monkeypatch.setattr(endpoint._Handler, "setup", impatient)
        slow.connect((host, int(port)))
        slow.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert len(get(served)[1]) == 64 << 20
        wait_for(lambda: not served._server._clients)


def test_clients_that_break_off(serve: Serve) -> None:
    served = serve(lambda _: ("text/plain", bytes(1 << 20)))
    for request in (b"", b"GET /metrics HTTP/1.0\r\n\r\n", b"\xff\n\n", b"GET " + b"x" * 70000 + b" HTTP/1.0\r\n\r\n"):
        with connect(served) as client, contextlib.suppress(OSError):
            client.sendall(request)
    assert get(served)[0] == 200


def test_close_cuts_clients_off(serve: Serve) -> None:
    served = serve()
    with connect(served) as client:
        wait_for(lambda: served._server._clients)
        served.close()
        assert client.recv(1) == b""


def test_address_that_cannot_be_listened_on(serve: Serve) -> None:
    served = serve()
    port = int(served.url.split("/")[2].rpartition(":")[2])
    with pytest.raises(OutputError, match=rf"listen on 127.0.0.1:{port}: Address already in use — choose another port"):
        Endpoint("127.0.0.1", port, "/metrics", hello)
    with pytest.raises(OutputError, match=r"listen on 192.0.2.1:1: Cannot assign"):
        Endpoint("192.0.2.1", 1, "/metrics", hello)
    with pytest.raises(OutputError, match=r"listen on no host:1"):
        Endpoint("no host", 1, "/metrics", hello)


def test_without_a_descriptor_clients_wait(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel keeps the client, and the socket stays readable: to try at once would take a whole processor."""
    monkeypatch.setattr(endpoint, "_PAUSE_SECS", 0.1)
    stats = OutputStats()
    served = serve(stats=stats)
    host, _, port = served.url.split("/")[2].rpartition(":")
    client = http.client.HTTPConnection(host, int(port), timeout=10)
    client.sock = socket.socket()
    with contextlib.closing(client):
        with descriptors_left(0):
            client.sock.connect((host, int(port)))
            client.request("GET", "/metrics")
            wait_for(lambda: stats.errors >= 3)
            began, before = time.monotonic(), (stats.errors, time.process_time())
            wait_for(lambda: stats.errors >= before[0] + 5)
            assert time.monotonic() - began > 0.3
            assert time.process_time() - before[1] < 5 * (time.monotonic() - began)
        with client.getresponse() as response:
            assert response.read() == b"hello "
    (message,) = [message for message in caplog.messages if "take a client" in message]
    assert message == (
        "serve /metrics: take a client: Too many open files — raise the limit of open files (LimitNOFILE=, ulimit -n), "
        "or find what holds so many; trying again"
    )


def test_without_a_descriptor_it_can_be_closed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = OutputStats()
    served = serve(stats=stats)
    host, _, port = served.url.split("/")[2].rpartition(":")
    with socket.socket() as client, descriptors_left(0):
        client.connect((host, int(port)))
        wait_for(lambda: stats.errors)
        began = time.monotonic()
        served.close()
        assert time.monotonic() - began < endpoint._PAUSE_SECS / 2


@pytest.mark.parametrize("left", [0, 1])
def test_listening_without_a_descriptor_says_what_to_do(serve: Serve, left: int) -> None:
    with descriptors_left(left), pytest.raises(OutputError, match="Too many open files — raise the limit of open"):
        Endpoint("127.0.0.1", 0, "/metrics", hello)


def test_without_a_thread_a_client_is_turned_away(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(endpoint, "_PAUSE_SECS", 0.01)
    stats = OutputStats()
    served = serve(stats=stats)
    start = Worker.start

    def fails(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Worker, "start", fails)
    with connect(served) as client:
        assert client.recv(1) == b""
    assert stats.errors == 1
    assert "start a thread for a client: can't start new thread — raise the limit of tasks" in caplog.text
    assert not served._server._clients
    monkeypatch.setattr(Worker, "start", start)
    assert get(served)[0] == 200
