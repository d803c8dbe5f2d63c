"""HTTP/1.1 messages: how a request is written, and how httptools reads the answer."""

from __future__ import annotations

from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

# Twenty values of 64 KiB, each byte escaped as \u00XX, and room for what is around them.
_MAX_BODY: Final = 16 * 2**20
_MAX_HEAD: Final = 64 * 2**10


class Request:
    """What is sent; no repr shows it."""

    __slots__ = ("body", "headers", "method", "target")

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body


class Response:
    """What came back; no repr shows it. Header names are in lower case."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Answer:
    """What has come of the answer to one request: the callbacks of httptools' parser, and what they make of it.

    Values are locals only here, where nothing is awaited and no traceback that is shown has its frames.
    """

    __slots__ = ("_body", "_headers", "_parser", "_received", "_status", "is_broken", "is_complete", "is_last")

    def __init__(self) -> None:
        self._parser: Any = HttpResponseParser(self)
        # What the SDK's HTTP client takes from servers that are careless: lines that end with LF alone, folded headers.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._received = 0
        self._headers: dict[str, str] = {}
        #: 0 until the headers are complete.
        self._status = 0
        self._body = bytearray()
        self.is_complete = False
        #: Whether no more will come of it, for what came is no HTTP, or too much.
        self.is_broken = False
        #: Whether its connection can't be used any more.
        self.is_last = False

    @property
    def has_begun(self) -> bool:
        """Whether anything has come."""
        return self._received > 0

    def response(self) -> Response:
        """Return what it was, once it is complete."""
        return Response(self._status, self._headers, bytes(self._body))

    def close(self) -> None:
        """Part from the parser, which has the callbacks: they would keep each other until the collector runs."""
        self._parser = None

    def feed(self, data: bytes) -> None:
        """Take in what has arrived."""
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            # Behind the end it is but a reason not to use the connection again.
            self.is_broken = self.is_last = True
        # Behind a body there may be headers again.
        if self._received > (_MAX_BODY + _MAX_HEAD if self._status else _MAX_HEAD):
            self.is_broken = True

    def end(self) -> None:
        """Take note of the connection's end, which is that of an answer that doesn't tell its length."""
        is_measured = (
            "content-length" in self._headers or "chunked" in self._headers.get("transfer-encoding", "").lower()
        )
        if self._status and not is_measured and not self.is_broken:
            self.is_complete = True

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise HttpParserError  # Nobody asked for another.

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._status:  # Not those behind a body.
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._status < 100:
            raise HttpParserError

    def on_body(self, data: bytes) -> None:
        if len(self._body) + len(data) > _MAX_BODY:
            raise HttpParserError
        self._body += data

    def on_message_complete(self) -> None:
        if self._status < 200:
            # A word before the answer.
            self._status = 0
            self._headers.clear()
            self._body.clear()
        else:
            self.is_complete = True
            self.is_last = not self._parser.should_keep_alive()


def encoded(request: Request) -> bytes:
    """Return the request's bytes, whose headers say how long its body is."""
    lines = [
        f"{request.method} {request.target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in request.headers.items()),
    ]
    if not all(line.isascii() and line.isprintable() for line in lines):
        # It would begin another header. It isn't told, for it may be a token.
        del lines
        raise ValueError("what a header can't hold")
    return "\r\n".join((*lines, "", "")).encode("ascii") + request.body
