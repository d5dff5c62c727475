"""What a container says, as lines of JSON in a file: the format of the json-file log driver, byte for byte.

    {"log":"hello\\n","stream":"stdout","time":"2026-11-23T17:08:10.248931322Z"}

Lines are cut at 16 KiB; a piece that is not the end of its line has no "\\n". Escapes are those of the reference
engine's encoder: more than JSON needs (``<``, ``>``, ``&``, U+2028, U+2029, every control character but \\n and \\r as
\\u00xx), and \\ufffd for each byte that is not UTF-8.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib

from pyker.libcontainer.spec import LogSpec

MAX_LINE_BYTES = 16384
STREAM_NAMES = {1: "stdout", 2: "stderr"}

_ESCAPES: dict[int, str] = {
    **{code: f"\\u{code:04x}" for code in (*range(0x20), ord("<"), ord(">"), ord("&"), 0x2028, 0x2029)},
    # What bytes.decode's surrogateescape makes of a byte that is not UTF-8.
    **dict.fromkeys(range(0xDC80, 0xDD00), "\\ufffd"),
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord('"'): '\\"',
    ord("\\"): "\\\\",
}


def escape(data: bytes) -> str:
    """``data`` as the inside of a JSON string."""
    return data.decode("utf-8", "surrogateescape").translate(_ESCAPES)


def timestamp(time_ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 in UTC, without trailing zeros. Source: Go time.RFC3339Nano."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{whole}{fraction}Z"


class JsonFileLog:
    """One container's log file, appended to. Only the monitor writes it; readers follow the file.

    A failing disk never stops the container: lines that cannot be written are lost, whole, and ``lost`` counts them.
    A file that cannot be opened is tried again with every line.
    ``held`` is what another has ``left`` behind.
    """

    def __init__(self, spec: LogSpec, held: dict[int, tuple[int, bytes]] | None = None) -> None:
        self._path = spec.path
        self._max_size_bytes = spec.max_size_bytes
        self._max_files = max(spec.max_files, 1)
        self._compress = spec.compress
        self._attributes = _attributes(spec.attributes)
        self._partial: dict[int, bytes] = {}
        self._partial_since_ns: dict[int, int] = {}
        for stream, (since_ns, rest) in (held or {}).items():
            self._partial[stream] = rest
            self._partial_since_ns[stream] = since_ns
        self._compressor = 0
        self.lost = 0
        self._fd = -1
        self._size_bytes = 0
        self._try_to_open()

    def _try_to_open(self) -> bool:
        if self._fd < 0:
            try:
                self._fd = self._open()
            except OSError:
                return False
            self._size_bytes = os.fstat(self._fd).st_size
        return True

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def write(self, stream: int, data: bytes, time_ns: int) -> None:
        """Take what the process wrote on ``stream`` (1 or 2); whole lines, and pieces of 16 KiB, go to the file."""
        rest = self._partial.pop(stream, b"")
        begun_ns = self._partial_since_ns.pop(stream, time_ns)
        if rest:
            data = rest + data
        tail = f'","stream":"{STREAM_NAMES[stream]}"{self._attributes},"time":"'
        out: list[str] = []
        size = 0
        start, end = 0, len(data)
        while start < end:
            newline = data.find(b"\n", start, start + MAX_LINE_BYTES)
            if newline >= 0:
                stop = newline + 1
            elif end - start >= MAX_LINE_BYTES:
                stop = start + MAX_LINE_BYTES
            else:
                self._partial[stream] = data[start:]
                self._partial_since_ns[stream] = begun_ns
                break
            line = f'{{"log":"{escape(data[start:stop])}{tail}{timestamp(begun_ns)}"}}\n'
            out.append(line)
            size += len(line)
            if 0 <= self._max_size_bytes <= self._size_bytes + size:
                self._append("".join(out))
                out, size = [], 0
            # Lines that came together still get times that sort in their order.
            time_ns += 1
            if data[stop - 1 : stop] == b"\n":
                begun_ns = time_ns
            start = stop
        if out:
            self._append("".join(out))

    def mark(self) -> tuple[int, int]:
        """The current file's inode (0 while there is none), and up to where it is written."""
        return os.fstat(self._fd).st_ino if self._try_to_open() else 0, self._size_bytes

    def unfinished(self) -> dict[int, bytes]:
        """What was said on each stream since its last whole line, and is not in the file yet."""
        return dict(self._partial)

    @property
    def resting(self) -> bool:
        """Whether no compression is under way."""
        if self._compressor > 0 and os.waitpid(self._compressor, os.WNOHANG)[0]:
            self._compressor = 0
        return self._compressor == 0

    def leave(self) -> dict[int, tuple[int, bytes]]:
        """Close the file, and give what is not in it yet to whoever opens it next: by stream, since when and what."""
        self._close()
        return {stream: (self._partial_since_ns[stream], rest) for stream, rest in self._partial.items()}

    def flush(self) -> None:
        """Write what is left without a newline; the streams have ended."""
        for stream, rest in self._partial.items():
            tail = f'","stream":"{STREAM_NAMES[stream]}"{self._attributes},"time":"'
            self._append(f'{{"log":"{escape(rest)}{tail}{timestamp(self._partial_since_ns[stream])}"}}\n')
        self._partial.clear()
        self._partial_since_ns.clear()

    def close(self) -> None:
        """Flush, and wait for a rotated file's compression to end."""
        self.flush()
        self._close()
        self._reap()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def _append(self, text: str) -> None:
        raw = text.encode()
        if not self._try_to_open():
            self.lost += 1
            return
        if 0 <= self._max_size_bytes <= self._size_bytes:
            try:
                self._rotate()
            except OSError:
                self.lost += 1
        try:
            written = os.write(self._fd, raw)
            while written < len(raw):
                written += os.write(self._fd, raw[written:])
        except OSError:
            self.lost += 1
            # A disk that is full may have taken a part: without it the next line begins where it should.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size_bytes)
            return
        self._size_bytes += len(raw)

    def _rotate(self) -> None:
        """Shift ``x.1`` to ``x.2`` and so on, the current file to ``x.1``, and begin a new one."""
        self._reap()
        if self._max_files == 1:
            os.ftruncate(self._fd, 0)
            self._size_bytes = 0
            return
        suffix = ".gz" if self._compress else ""
        for number in range(self._max_files - 1, 1, -1):
            try:
                os.rename(f"{self._path}.{number - 1}{suffix}", f"{self._path}.{number}{suffix}")
            except FileNotFoundError:
                continue
        os.rename(self._path, f"{self._path}.1")
        fresh = self._open()
        os.dup2(fresh, self._fd, inheritable=False)
        os.close(fresh)
        self._size_bytes = 0
        if self._compress:
            # In a child: the container's output must not wait for it.
            self._compressor = os.fork()
            if self._compressor == 0:
                code = 1
                try:
                    compress_file(f"{self._path}.1")
                    code = 0
                finally:
                    os._exit(code)

    def _reap(self) -> None:
        if self._compressor > 0:
            os.waitpid(self._compressor, 0)
            self._compressor = 0


def _attributes(attributes: dict[str, str]) -> str:
    if not attributes:
        return ""
    pairs = ",".join(
        f'"{escape(key.encode("utf-8", "surrogateescape"))}":"{escape(value.encode("utf-8", "surrogateescape"))}"'
        for key, value in sorted(attributes.items())
    )
    return f',"attrs":{{{pairs}}}'


def compress_file(path: str) -> None:
    """Replace ``path`` by ``path.gz``, whole or not at all. Source: RFC 1952."""
    temporary = f"{path}.gz.tmp"
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    with open(path, "rb", buffering=0) as source, open(temporary, "wb") as target:
        while piece := source.read(1 << 18):
            target.write(packer.compress(piece))
        target.write(packer.flush())
    os.rename(temporary, f"{path}.gz")
    os.unlink(path)
