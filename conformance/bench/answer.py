"""Reads HTTP/1.1 answers off a connection's bytes; no sockets here.

Source: RFC 9112, sections 6 and 7. Only what an answer to one request at a time needs: a length, chunks, or no body.
"""

from __future__ import annotations

HEAD_BYTES_MAX = 64 << 10
_USUAL_HEAD_BYTES = 2048
"""So much is copied in search of a head's end before all is."""
_LINE_BYTES_MAX = 4096
_HEX = b"0123456789abcdefABCDEF"
_NOTHING = memoryview(b"")
_BODILESS = (204, 304)


class AnswerBroken(Exception):
    """These bytes are no answer, or more than one."""


class Answer:
    """One answer at a time: `begin`, then `feed` until `complete`."""

    __slots__ = (
        *("_body_left", "_chunked", "_for_head", "_lower", "_partial", "_until_close"),
        *("complete", "head", "status"),
    )

    def __init__(self) -> None:
        self.begin(for_head=False)

    def begin(self, *, for_head: bool) -> None:
        """For the next answer; one to HEAD has no body, whatever length it tells."""
        self._for_head = for_head
        self._partial = b""
        self._body_left = 0
        self._chunked: _Chunks | None = None
        self._until_close = False
        self.status = 0
        """0 until the head is there."""
        self.head = b""
        self._lower = b""
        self.complete = False

    @property
    def begun(self) -> bool:
        """Something of it has come."""
        return bool(self.status or self._partial)

    @property
    def closes(self) -> bool:
        """The server will take no other request on this connection."""
        if self._until_close:
            return True
        return b"\r\nconnection:" in self._lower and self.header(b"connection").lower() == b"close"

    def header(self, name: bytes) -> bytes:
        """The value of the first header called `name` (in lower case); empty when there is none."""
        at = self._lower.find(b"\r\n" + name + b":")
        if at < 0:
            return b""
        end = self.head.find(b"\r\n", at + 2)
        return self.head[at + len(name) + 3 : end if end >= 0 else None].strip()

    def feed(self, data: memoryview) -> memoryview | bytes:
        """What of the body these bytes are. Raises AnswerBroken."""
        if not self.status:
            data = self._take_head(data)
            if not self.status:
                return _NOTHING
        if self._chunked is not None:
            body = self._chunked.feed(data)
            self.complete = self._chunked.complete
            return body
        if self._until_close:
            return data
        self._body_left -= len(data)
        if self._body_left < 0:
            raise AnswerBroken("more came back than was announced")
        self.complete = self._body_left == 0
        return data

    def end(self) -> bool:
        """The connection has ended: whether the answer is complete by that."""
        self.complete = self.complete or (self._until_close and bool(self.status))
        return self.complete

    def _take_head(self, data: memoryview) -> memoryview:
        """Reads the head once it is whole; what follows it."""
        if self._partial:
            data = memoryview(self._partial + data)
        gathered = bytes(data[:_USUAL_HEAD_BYTES])
        head_end = gathered.find(b"\r\n\r\n")
        if head_end < 0 and len(data) > _USUAL_HEAD_BYTES:
            gathered = bytes(data[:HEAD_BYTES_MAX])
            head_end = gathered.find(b"\r\n\r\n")
        if head_end < 0:
            if len(data) >= HEAD_BYTES_MAX:
                raise AnswerBroken("endless headers")
            self._partial = gathered
            return _NOTHING
        self._partial = b""
        self.head = gathered[:head_end]
        self._lower = self.head.lower()
        if not (self.head.startswith(b"HTTP/1.") and self.head[9:12].isdigit()):
            raise AnswerBroken(f"no HTTP answer: {self.head[:60]!r}")
        rest = data[head_end + 4 :]
        status = int(self.head[9:12])
        if status < 200:  # "100 Continue" and the like: the answer itself follows
            self.head = b""
            return self._take_head(rest) if rest else _NOTHING
        self.status = status
        self._read_framing()
        return rest

    def _read_framing(self) -> None:
        if self._for_head or self.status in _BODILESS:
            return
        if (
            b"\r\ntransfer-encoding:" in self._lower
            and self.header(b"transfer-encoding").lower() == b"chunked"
        ):
            self._chunked = _Chunks()
            return
        length = self.header(b"content-length")
        if not length:
            self._until_close = True
            return
        if not length.isdigit():
            raise AnswerBroken(f"Content-Length: {length[:60]!r}")
        self._body_left = int(length)


class _Chunks:
    """A body in chunks: size in hexadecimal, line end, bytes, line end; a size of 0, trailers and an empty line end
    it."""

    __slots__ = ("_left", "_line", "_state", "complete")

    def __init__(self) -> None:
        self._state = "size"
        self._line = b""
        self._left = 0
        self.complete = False

    def feed(self, data: memoryview) -> bytes:
        pieces = []
        while data:
            if self.complete:
                raise AnswerBroken("more came back than the last chunk")
            if self._state == "data":
                pieces.append(bytes(data[: self._left]))
                taken = len(pieces[-1])
                self._left -= taken
                data = data[taken:]
                if not self._left:
                    self._state = "data end"
                continue
            line, data = self._take_line(data)
            if line is not None:
                self._end_line(line)
        return b"".join(pieces)

    def _take_line(self, data: memoryview) -> tuple[bytes | None, memoryview]:
        """A whole line without its end, or None when there is more to come; and what follows."""
        earlier = len(self._line)
        gathered = self._line + bytes(data[:_LINE_BYTES_MAX])
        end = gathered.find(b"\r\n")
        if end < 0:
            if len(gathered) >= _LINE_BYTES_MAX:
                raise AnswerBroken("an endless line between chunks")
            self._line = gathered
            return None, _NOTHING
        self._line = b""
        return gathered[:end], data[end + 2 - earlier :]

    def _end_line(self, line: bytes) -> None:
        if self._state == "size":
            digits = line.partition(b";")[0].strip()
            if not digits or digits.strip(_HEX):
                raise AnswerBroken(f"chunk size {line[:60]!r}")
            self._left = int(digits, 16)
            self._state = "data" if self._left else "trailers"
        elif self._state == "data end":
            if line:
                raise AnswerBroken("a chunk is longer than it says")
            self._state = "size"
        else:
            self.complete = not line
