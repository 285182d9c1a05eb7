# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Chromium without a window, driven over its debugging pipe (Chrome DevTools Protocol).

Every page that is opened is watched: requests, what its Content-Security-Policy forbids, and errors of its scripts.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_ANSWER_SECS = 30.0


class Chromium:
    """A browser with one page."""

    def __init__(self, directory: Path) -> None:
        # It is told by descriptor 3 and answers on 4.
        told, self._tell = os.pipe()
        self._hear, said = os.pipe()
        flags = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", f"--user-data-dir={directory}",
            "--remote-debugging-pipe", "--window-size=1200,1000",
        ]  # fmt: skip
        shell = f'exec 3<&{told} 4>&{said}; exec chromium "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "chromium", *flags], pass_fds=(told, said), stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, start_new_session=True, env={**os.environ, "HOME": str(directory)},
        )  # fmt: skip
        os.close(told)
        os.close(said)
        self._numbers = itertools.count(1)
        self._rest = b""
        #: What happened: URLs that were asked for, violations of the policy, errors.
        self.requests: list[str] = []
        self.violations: list[str] = []
        self.errors: list[str] = []
        target = self._send("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")

    # -- the protocol -------------------------------------------------------------------------------------------------

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the page."""
        return self._send(method, parameters, session=self._session)

    def _send(self, method: str, parameters: dict[str, Any], session: str = "") -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._tell, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _ANSWER_SECS
        while True:
            answer = self._next(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._hear], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            data = os.read(self._hear, 1 << 20)
            assert data, "Chromium has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event["method"] == "Log.entryAdded":
            entry = parameters["entry"]
            (self.violations if "Content Security Policy" in entry["text"] else self.errors).append(entry["text"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"]))

    # -- a page -------------------------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""
        self.call("Page.navigate", url=url)
        self.until(lambda: self.run("document.readyState") == "complete", "the page is loaded")

    def run(self, script: str) -> Any:
        """Return what an expression is; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: Callable[[], bool], what: str, secs: float = _ANSWER_SECS) -> None:
        """Wait for something."""
        deadline = time.monotonic() + secs
        while not condition():
            assert time.monotonic() < deadline, f"it took too long until {what}; errors: {self.errors}"
            time.sleep(0.02)

    def place(self, script: str) -> tuple[float, float, float, float]:
        """Return where an element is that an expression finds, scrolled into view: left, top, width, height."""
        box = f"(e => (e.scrollIntoView({{block: 'center'}}), e.getBoundingClientRect().toJSON()))({script})"
        found = self.run(box)
        return found["left"], found["top"], found["width"], found["height"]

    def click(self, script: str, *, shift: bool = False) -> None:
        """Click the middle of an element with the mouse."""
        left, top, width, height = self.place(script)
        at = {"x": left + width / 2, "y": top + height / 2, "modifiers": 8 * shift}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, buttons=1, **at)

    def phone(self, width: int = 360) -> None:
        """Be a phone, which has no mouse and no keys; `tap` touches it."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=740, deviceScaleFactor=2, mobile=True)
        self.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)

    def tap(self, script: str) -> None:
        """Touch the middle of an element with a finger."""
        left, top, width, height = self.place(script)
        at = {"x": left + width / 2, "y": top + height / 2}
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[at])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def swipe(self, script: str, start: float, end: float) -> None:
        """Draw a finger over an element from one part of its width to another."""
        left, top, width, height = self.place(script)
        points = [{"x": left + width * each, "y": top + height / 2} for each in (start, (start + end) / 2, end)]
        for kind, point in zip(("touchStart", "touchMove", "touchMove"), points, strict=True):
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[point])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def drag(self, script: str, start: float, end: float) -> None:
        """Drag over an element from one part of its width to another."""
        left, top, width, height = self.place(script)
        y = top + height / 2
        steps = [start + (end - start) * step / 5 for step in range(6)]
        self.call("Input.dispatchMouseEvent", type="mousePressed", button="left", buttons=1, clickCount=1,
                  x=left + width * start, y=y)  # fmt: skip
        for each in steps:
            self.call(
                "Input.dispatchMouseEvent", type="mouseMoved", button="left", buttons=1, x=left + width * each, y=y
            )
        self.call("Input.dispatchMouseEvent", type="mouseReleased", button="left", buttons=0, clickCount=1,
                  x=left + width * end, y=y)  # fmt: skip

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key."""
        codes = {"Enter": 13, "Tab": 9}
        common = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": 8 * shift}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def picture(self, path: Path) -> Path:
        """Write what is seen to a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        return path

    def close(self) -> None:
        """End the browser, with all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._tell)
        os.close(self._hear)


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    """A browser; it has asked for nothing yet."""
    assert shutil.which("chromium"), "the Debian package chromium is not installed"
    browser = Chromium(tmp_path / "browser")
    try:
        yield browser
    finally:
        browser.close()
