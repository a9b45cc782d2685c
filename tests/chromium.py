"""Chromium without a window, driven by the DevTools protocol over two pipes; needs no library."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 120  # a busy machine is slow; only a browser that hangs takes longer

# No sandbox: it cannot be had as root, and the pages are ours.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-extensions"),
    *("--remote-debugging-pipe", "--hide-scrollbars"),
)


def executable() -> str | None:
    """The browser's path, where there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Failed(Exception):
    """The browser refused, or a script threw."""


class Chromium:
    """One browser; `page` opens a tab. Messages are JSON that ends with a zero byte."""

    def __init__(self, program: str, profile: Path):
        # The browser reads from descriptor 3 and writes to 4; here, no pipe may have these.
        ours = [_high(end) for _ in range(2) for end in os.pipe()]
        theirs_in, self._out, self._in, theirs_out = ours[0], ours[1], ours[2], ours[3]

        def three_and_four() -> None:
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=three_and_four,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._last, self._rest = 0, b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        os.close(self._out)  # with its pipe gone the browser ends
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The protocol's answer; events that come before it are kept."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._last:
            self.events.append(answer)
        if "error" in answer:
            raise Failed(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], PATIENCE_S)
            more = os.read(self._in, 1 << 20) if ready else b""
            if not more:
                raise Failed("the browser hangs" if not ready else "the browser has gone")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        read: dict[str, Any] = json.loads(message)
        return read

    @contextmanager
    def page(
        self, file: Path, width: int = 1280, height: int = 900, dark: bool = False
    ) -> Iterator["Page"]:
        """A file in a tab of its own, as a screen of that size (CSS pixels) shows it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.navigate", url=file.resolve().as_uri())
        page.until("document.readyState === 'complete' && location.protocol === 'file:'")
        try:
            yield page
        finally:
            self.call("Target.closeTarget", targetId=target)


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str):
        self._browser, self._session = browser, session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def evaluate(self, script: str) -> Any:
        """The script's last value, as JSON; a promise is waited for."""
        answer = self.call(
            "Runtime.evaluate",
            expression=script,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise Failed(thrown.get("exception", {}).get("description", thrown["text"]))
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Waits until the expression is true."""
        end = time.monotonic() + PATIENCE_S
        while not self.evaluate(condition):
            if time.monotonic() > end:
                raise Failed(f"never came true: {condition}")
            time.sleep(0.02)

    def key(self, key: str, code: int, text: str = "") -> None:
        """Presses and releases a key; `code` is its Windows virtual key code."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call(
            "Input.dispatchKeyEvent", type="keyDown", **named, **({"text": text} if text else {})
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def events(self, method: str) -> list[dict[str, Any]]:
        """The parameters of the events of this kind so far."""
        self.evaluate("0")  # what came before the answer has been read
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] == method
        ]

    def complaints(self) -> list[str]:
        """Exceptions, and what the console and the browser's log hold as warning or error."""
        thrown = [x["exceptionDetails"]["text"] for x in self.events("Runtime.exceptionThrown")]
        said = [
            str([arg.get("value") or arg.get("description") for arg in x["args"]])
            for x in self.events("Runtime.consoleAPICalled")
            if x["type"] in ("error", "warning", "assert")
        ]
        logged = [x["entry"]["text"] for x in self.events("Log.entryAdded")]
        return [*thrown, *said, *logged]

    def requests(self) -> list[str]:
        """Every address that was asked for."""
        return [x["request"]["url"] for x in self.events("Network.requestWillBeSent")]

    def screenshot(self, file: Path, whole: bool = False) -> None:
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(answer["data"]))


def _high(descriptor: int) -> int:
    """The same pipe with a number from 10 on, closed in other children."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return copy
