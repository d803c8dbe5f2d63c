"""HTTP/1.1 messages: encodes requests, and parses responses with httptools."""

from __future__ import annotations

from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

#: Twenty values of 64 KiB with each byte escaped as \u00XX, and room for the rest of the response.
MAX_BODY: Final = 16 * 2**20
_MAX_HEAD: Final = 64 * 2**10


class Request:
    """A request; its repr shows nothing of it."""

    __slots__ = ("body", "headers", "method", "target")

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body


def encode_request(request: Request) -> bytes:
    """Return the bytes of a request, whose headers must give the length of its body.

    Raises:
        ValueError: the target or a header has a character that may end it or be read in two ways.
    """
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += (f"{name}: {value}" for name, value in request.headers.items())
    if not all(line.isascii() and line.isprintable() for line in lines):
        del lines  # It may hold a token, and a traceback may show locals.
        raise ValueError("a header must have printable ASCII characters alone")
    return "\r\n".join((*lines, "", "")).encode("ascii") + request.body


class Response:
    """The response to one request, parsed as its bytes arrive; its repr shows nothing of it.

    Locals hold values only here: these methods await nothing, and no traceback that is shown has their frames.
    """

    def __init__(self) -> None:
        self._parser: Any = HttpResponseParser(self)
        # The SDK's HTTP client accepts this too: lines that end in LF alone, folded headers.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        #: The number of bytes that have arrived.
        self.received = 0
        #: 0 until the headers are complete.
        self.status = 0
        #: By names in lower case.
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        #: Whether the whole response has arrived.
        self.is_complete = False
        #: Whether the response will never be complete: it isn't HTTP, or it is too long.
        self.is_malformed = False
        #: Whether the connection can't be used for another request.
        self.is_last = False

    def feed(self, data: bytes) -> None:
        """Parse bytes that have arrived."""
        self.received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            # After the end of a complete response, it is only a reason not to use the connection again.
            self.is_malformed = self.is_last = True
        # Until the status is known there are only headers; behind a chunked body there may be headers again.
        if self.received > (MAX_BODY + _MAX_HEAD if self.status else _MAX_HEAD):
            self.is_malformed = True

    def feed_eof(self) -> None:
        """Note that the connection has ended, which ends a response that doesn't give its length."""
        is_chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        if self.status and not (is_chunked or "content-length" in self.headers or self.is_malformed):
            self.is_complete = True

    def close(self) -> None:
        """Break the reference cycle with httptools' parser, so that the value is freed at once."""
        self._parser = None

    # httptools calls these.

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise HttpParserError  # A second response, without a request.

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # Headers behind the body are ignored.
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 100:
            raise HttpParserError

    def on_body(self, data: bytes) -> None:
        if len(self.body) + len(data) > MAX_BODY:
            raise HttpParserError
        self.body += data

    def on_message_complete(self) -> None:
        if self.status < 200:
            # An informational response, such as 100 Continue; the real one follows.
            self.status = 0
            self.headers.clear()
            self.body.clear()
        else:
            self.is_complete = True
            self.is_last = not self._parser.should_keep_alive()
