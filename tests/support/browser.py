"""Headless Chromium for tests of pages: started per test session, driven by the DevTools protocol over a pair of pipes.

No port is opened and no driver program is needed: Chromium reads commands from descriptor 3 and answers on 4, in JSON
that ends with a zero byte. Keys and clicks go in as a person's would, and not as calls of the page's functions.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)

# Windows key codes, which Chromium wants beside the name of a key that writes nothing.
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
_WRITES = {"Enter": "\r"}


class BrowserError(Exception):
    """The browser refused a command, ended, or did not answer in time."""


def chromium() -> str | None:
    """The browser's program, or None where there is none."""
    return shutil.which("chromium")


class Browser:
    """A browser with one page. Use it as a context manager; ``profile`` must be a new, empty folder."""

    def __init__(self, profile: Path, *, timeout_s: float = 60) -> None:
        program = chromium()
        if program is None:
            raise BrowserError("no chromium: tools/bootstrap --tests installs it")
        self._timeout_s = timeout_s
        self._number = 0
        self._pending = b""
        self._events: list[dict[str, Any]] = []
        self._stderr = (profile.parent / f"{profile.name}.stderr").open("wb")
        # The shell moves the pipes from 0 and 1 to where Chromium wants them.
        self._process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null', "sh", program, *_FLAGS,
             f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "HOME": str(profile)},
        )  # fmt: skip
        self._session = ""
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        """Speak with the page that the browser opens with."""
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and wait for it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._session = ""
        try:
            self._call("Browser.close")
        except (BrowserError, OSError):
            self._process.kill()
        try:
            self._process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._stderr.close()

    # ---- the protocol

    def _call(self, method: str, **parameters: object) -> dict[str, Any]:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        deadline = time.monotonic() + self._timeout_s
        while True:
            answer = self._read(deadline, method)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return answer.get("result", {})  # type: ignore[no-any-return]
            self._events.append(answer)

    def _read(self, deadline: float, what: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\0" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise BrowserError(f"{what}: no answer in {self._timeout_s:g} s")
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                raise BrowserError(f"{what}: the browser ended, see {self._stderr.name}")
            self._pending += chunk
        message, self._pending = self._pending.split(b"\0", 1)
        return json.loads(message)  # type: ignore[no-any-return]

    def _await(self, method: str) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout_s
        while True:
            for event in self._events:
                if event.get("method") == method:
                    self._events.remove(event)
                    return event["params"]  # type: ignore[no-any-return]
            self._events.append(self._read(deadline, method))

    # ---- what a person does

    def open(self, url: str) -> None:
        """Load a page and wait until it has loaded. A change of the part after ``#`` alone loads nothing anew."""
        self._call("Page.navigate", url="about:blank")
        self._await("Page.loadEventFired")
        self._events.clear()
        self._call("Page.navigate", url=url)
        self._await("Page.loadEventFired")

    def window(self, width: int, height: int = 900, *, phone: bool = False) -> None:
        """The window's size in CSS pixels; ``phone`` makes it one whose page honours its viewport element."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def media(self, kind: str = "", *, scheme: str = "light") -> None:
        """Show the page as in ``print`` although nothing is printed, or to a user who prefers ``dark``."""
        self._call(
            "Emulation.setEmulatedMedia", media=kind, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def scripts(self, *, allowed: bool) -> None:
        """Whether pages that are opened from now on may run scripts."""
        self._call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other: ``Tab``, ``Enter``, ``Escape``, arrows, or a character."""
        for key in keys:
            text = _WRITES.get(key, key if len(key) == 1 else "")
            code = _KEYS.get(key) or (ord(key.upper()) if text else 0)
            common = {"key": key, "windowsVirtualKeyCode": code}
            self._call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
            self._call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Write text where the focus is."""
        self.press(*text)

    def click(self, selector: str) -> None:
        """Scroll the first such element into view and click on its middle; what covers it gets the click."""
        where = self.evaluate(
            "(selector) => { const found = document.querySelector(selector); if (!found) return null;"
            " found.scrollIntoView({block: 'center', behavior: 'instant'}); const box = found.getBoundingClientRect();"
            " return {x: box.x + box.width / 2, y: box.y + box.height / 2, seen: box.width > 0 && box.height > 0}; }",
            selector,
        )
        if not where or not where["seen"]:
            raise BrowserError(f"click: nothing to be seen at {selector!r}")
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=where["x"], y=where["y"], button="left", clickCount=1)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a select element, as its list does."""
        self.evaluate(
            "(selector, value) => { const found = document.querySelector(selector); found.value = value;"
            " found.dispatchEvent(new Event('change', {bubbles: true})); }",
            selector,
            value,
        )

    # ---- what a person sees

    def evaluate(self, function: str, *arguments: object) -> Any:
        """The result of a JavaScript function, called in the page."""
        answer = self._call(
            "Runtime.evaluate",
            expression=f"({function})({', '.join(map(json.dumps, arguments))})",
            returnByValue=True,
            awaitPromise=True,
        )
        if "exceptionDetails" in answer:
            raise BrowserError(json.dumps(answer["exceptionDetails"].get("exception", answer["exceptionDetails"])))
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """What the page has thrown, logged or asked of the network since it was opened."""
        self._call("Runtime.evaluate", expression="0")
        found = []
        for event in self._events:
            parameters: Mapping[str, Any] = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    found.append(json.dumps(parameters["exceptionDetails"]))
                case "Runtime.consoleAPICalled":
                    found.append(json.dumps(parameters["args"]))
                case "Log.entryAdded":
                    found.append(parameters["entry"]["text"])
                case "Network.requestWillBeSent" if not parameters["request"]["url"].startswith("file:"):
                    found.append(parameters["request"]["url"])
                case "Page.javascriptDialogOpening":
                    found.append(f"dialog: {parameters['message']}")
        return found

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        answer = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def pdf(self, path: Path) -> None:
        """Print the page, on the paper that its style asks for."""
        answer = self._call("Page.printToPDF", printBackground=False, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(answer["data"]))
