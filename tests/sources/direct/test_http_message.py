"""Requests as bytes, and responses from bytes, without a socket."""

from __future__ import annotations

import gc

import pytest

from asecretcache._sources.direct import http_message
from asecretcache._sources.direct.http_message import Request, Response, encode_request
from raw_server import http


def parsed(*pieces: bytes, is_over: bool = False) -> Response:
    """A parser that was fed these pieces, and perhaps the end of the connection."""
    parser = Response()
    for piece in pieces:
        parser.feed(piece)
    if is_over:
        parser.feed_eof()
    return parser


# Requests


def test_a_request_is_its_lines_and_its_body() -> None:
    """Headers are written in their order."""
    request = Request("POST", "/path?a=b", {"host": "h", "content-length": "2"}, b"{}")

    assert encode_request(request) == b"POST /path?a=b HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize("value", ["a\r\nx-b: c", "a\nb", "a\0b", "a\x7f", "\u00e9"])
def test_a_character_that_a_header_must_not_have_is_refused(value: str) -> None:
    """It would begin another header or be read in two ways; the error doesn't show it, for it may be a token."""
    for request in (Request("GET", "/", {"host": "h", "x": value}), Request("GET", f"/{value}", {"host": "h"})):
        with pytest.raises(ValueError, match="header") as caught:
            encode_request(request)

        assert value not in str(caught.value)


def test_requests_and_responses_show_nothing() -> None:
    """Their reprs have neither headers nor bodies."""
    assert "canary" not in repr(Request("GET", "/", {"authorization": "canary"}, b"canary"))
    assert "canary" not in repr(parsed(http(b"canary", 200, "x: canary")))


# Responses


@pytest.mark.parametrize(
    ("response", "is_last"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok", False),
        (b"HTTP/1.1 103 X\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok", False),
        (b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", False),
        (b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Status: 500\r\n\r\n", False),
        (b"HTTP/1.0 200 X\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok and more", True),
        (b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 X\r\nContent-Length: 3\r\n\r\nbad", True),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_complete_response_is_read_in_any_pieces(response: bytes, is_last: bool, size: int) -> None:
    """A response that says so, or is followed by unrequested bytes, is the last of its connection."""
    whole = parsed(response)
    pieces = Response()
    for start in range(0, len(response), size):
        pieces.feed(response[start : start + size])

    for parser in (whole, pieces):
        assert parser.is_complete
        assert parser.body == b"ok"
        assert parser.status == 200
        assert parser.headers.keys() <= {"content-length", "transfer-encoding", "connection"}
    assert whole.is_last is is_last


@pytest.mark.parametrize(
    "response", [b"HTTP/1.1 200 X\r\n\r\nok", b"HTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 X\r\n\r\nok"]
)
def test_a_response_without_a_length_ends_with_the_connection(response: bytes) -> None:
    """Before that it isn't complete."""
    assert not parsed(response).is_complete
    assert parsed(response, is_over=True).body == b"ok"


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nok",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=range(6),
)
def test_a_truncated_response_is_never_complete(response: bytes) -> None:
    """The end of the connection doesn't complete a response that gives its length."""
    parser = parsed(response, is_over=True)

    assert not parser.is_complete
    assert parser.received == len(response)


@pytest.mark.parametrize(
    "response",
    [
        b"220 smtp.example ESMTP\r\n",
        b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 X\r\nX: " + 66_000 * b"x",
        b"HTTP/1.1 099 X\r\nContent-Length: 2\r\n\r\nok" + http({}),
        b"HTTP/1.1 000 X\r\nContent-Length: 2\r\n\r\nok" + http({}),
    ],
    ids=range(6),
)
def test_a_malformed_response_is_never_complete(response: bytes) -> None:
    """Another protocol, two lengths, endless headers or an impossible status are no response."""
    parser = parsed(response, is_over=True)

    assert parser.is_malformed
    assert not parser.is_complete


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"HTTP/1.1 200 X\r\n\r\n" + 50 * b"x", 51 * b"x"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 101\r\n\r\n" + 50 * b"x", 51 * b"x"),
        (b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: ", 100_000 * b"x"),
    ],
    ids=["until the end", "length", "trailers"],
)
def test_a_response_that_is_too_long_is_malformed(monkeypatch: pytest.MonkeyPatch, first: bytes, second: bytes) -> None:
    """No server may fill the memory, and the end of the connection doesn't complete the response."""
    monkeypatch.setattr(http_message, "MAX_BODY", 100)

    parser = parsed(first, second, is_over=True)

    assert parser.is_malformed
    assert not parser.is_complete


@pytest.mark.parametrize("response", [http({"a": 1}), b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nok"], ids=range(2))
def test_a_closed_parser_is_freed_without_the_collector(response: bytes) -> None:
    """Parser and callbacks refer to each other, and the value must not stay in memory until the collector runs."""
    gc.collect()
    gc.disable()
    try:
        parser = parsed(response)
        parser.close()
        del parser
        left = [each for each in gc.get_objects() if isinstance(each, Response)]
    finally:
        gc.enable()

    assert left == []


def test_a_header_that_cant_be_sent_is_told_without_its_value() -> None:
    """It may be a token."""
    with pytest.raises(ValueError, match=r"\Aa header must have printable ASCII characters alone\Z"):
        encode_request(Request("GET", "/", {"authorization": "canary\n"}))


def test_spaces_after_the_size_of_a_chunk_are_ignored() -> None:
    """The SDK's HTTP client accepts them too."""
    parser = parsed(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n5  \r\nhello\r\n0\r\n\r\n")

    assert parser.is_complete
    assert bytes(parser.body) == b"hello"


@pytest.mark.parametrize("length", [70_000, http_message.MAX_BODY])
def test_a_body_may_be_as_long_as_the_limit(length: int) -> None:
    """It may be longer than a head may be."""
    body = length * b"x"

    parser = parsed(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % length, body)

    assert parser.is_complete
    assert not parser.is_malformed
    assert parser.body == body


def test_a_long_head_that_comes_in_pieces_is_malformed() -> None:
    """The pieces add up."""
    parser = Response()
    parser.feed(b"HTTP/1.1 200 X\r\n")
    for _ in range(70):
        parser.feed(b"X: " + 1000 * b"x" + b"\r\n")

    assert parser.is_malformed
