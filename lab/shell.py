"""A developer's terminal on a guest's console."""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import sys
import termios
import threading
import tty
from pathlib import Path

from lab.agentlink import AgentLink
from lab.table import LabError

_LEAVE = b"\x1d"
_DAY_S = 86_400.0


def interact(agent: AgentLink, console: Path) -> int:
    """Run a shell in the guest until it exits, or until Ctrl-] is typed; the exit code.

    Without a terminal, what comes on standard input is typed into it, and then an exit.
    """
    wire = socket.socket(socket.AF_UNIX)
    folder = os.open(console.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        wire.connect(f"/proc/self/fd/{folder}/{console.name}")
    finally:
        os.close(folder)
    on_terminal = sys.stdin.isatty()
    size = shutil.get_terminal_size()
    ended: list[int] = []
    done_read, done_write = os.pipe()

    def wait_for_the_end() -> None:
        try:
            answer = agent.call(
                "shell",
                timeout_s=_DAY_S,
                argv=["bash", "-i"] if on_terminal else ["bash"],
                rows=size.lines,
                columns=size.columns,
                term=os.environ.get("TERM", "linux"),
                echo=on_terminal,
            )
            ended.append(int(answer["code"]))
        except LabError as error:
            sys.stderr.write(f"\r\n{error}\r\n")
        finally:
            os.write(done_write, b".")

    before = termios.tcgetattr(sys.stdin) if on_terminal else None
    waiter = threading.Thread(target=wait_for_the_end, daemon=True)
    waiter.start()
    try:
        if on_terminal:
            sys.stderr.write("a shell in the guest; Ctrl-] leaves it\r\n")
            tty.setraw(sys.stdin)
        _relay(wire, done_read)
    finally:
        if before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        wire.close()
        os.close(done_read)
    return ended[0] if ended else 0


def _relay(wire: socket.socket, done: int) -> None:
    with selectors.DefaultSelector() as selector:
        for source in (wire, sys.stdin, done):
            try:
                selector.register(source, selectors.EVENT_READ)
            except PermissionError:
                # A plain file is always ready, and can't be waited for.
                wire.sendall(sys.stdin.buffer.read() + b"\nexit\n")
        over = False
        while True:
            # When the shell is over, only what it still wrote is wanted.
            ready = selector.select(0.3 if over else None)
            if over and not any(key.fileobj is wire for key, _ in ready):
                return
            for key, _ in ready:
                if key.fileobj is wire:
                    data = wire.recv(1 << 16)
                    if not data:
                        return
                    os.write(sys.stdout.fileno(), data)
                elif key.fileobj == done:
                    over = True
                    selector.unregister(done)
                else:
                    typed = os.read(sys.stdin.fileno(), 1 << 12)
                    if _LEAVE in typed and sys.stdin.isatty():
                        return
                    if not typed:
                        typed = b"exit\n"
                        selector.unregister(sys.stdin)
                    wire.sendall(typed)
