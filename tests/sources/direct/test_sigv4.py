"""Signatures, compared with AWS's published test vectors and with botocore's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as SdkCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from asecretcache._sources.direct.http_message import Request
from asecretcache._sources.direct.sigv4 import Credentials, authorization_header

TIME = "20150830T123600Z"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
FORM = "application/x-www-form-urlencoded"
FORM_BODY = "Param1=value1"
FORM_SHA256 = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKEN = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
STS_TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuw"
    "thAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXA"
    "kiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)

# AWS's test suite for Signature Version 4, as https://github.com/awslabs/aws-c-auth has it in
# tests/aws-signing-test-suite/v4 (Apache-2.0), with the signatures of its header-signature.txt files. Methods, paths
# and queries are those of the canonical requests, because authorization_header doesn't normalize them: the only path
# that it signs is "/". Vectors that differ only in what is normalized are here once.
VECTORS: dict[str, tuple[str, str, str, dict[str, str], str]] = {
    # name: (method, path, query, more headers, signature)
    "get-vanilla": ("GET", "/", "", {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-relative-unnormalized": (
        "GET",
        "/example/..",
        "",
        {},
        "eca7ead57bb5aa5c8e28007acd4ff04e1ff9a0ff3b237ec1554a184887ff9282",
    ),
    "get-relative-relative-unnormalized": (
        "GET",
        "/example1/example2/../..",
        "",
        {},
        "dc33e0856fd4baca4d7aa2146c38958283844764f38c74252a333df5e613003b",
    ),
    "get-slash-dot-slash-unnormalized": (
        "GET",
        "/./",
        "",
        {},
        "68714168e6557f8f2de0ef956fc24dc2593a4bd2961f8df51898d8a134695145",
    ),
    "get-slash-pointless-dot-normalized": (
        "GET",
        "/example",
        "",
        {},
        "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
    ),
    "get-slash-pointless-dot-unnormalized": (
        "GET",
        "/./example",
        "",
        {},
        "beb03f223f7deae4146464f06e29eebbee9c8afbe15c290cf07aa8b119e14cff",
    ),
    "get-slash-unnormalized": ("GET", "//", "", {}, "c88bcd3d312d75078c0cd961d6deae3f4c754924b01669efcfcb439fd5e5b76e"),
    "get-slashes-normalized": (
        "GET",
        "/example/",
        "",
        {},
        "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
    ),
    "get-slashes-unnormalized": (
        "GET",
        "//example//",
        "",
        {},
        "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5",
    ),
    "get-space-normalized": (
        "GET",
        "/example%20space/",
        "",
        {},
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    ),
    "get-unreserved": (
        "GET",
        f"/{UNRESERVED}",
        "",
        {},
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "get-utf8": ("GET", "/%E1%88%B4", "", {}, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    "get-vanilla-empty-query-key": (
        "GET",
        "/",
        "Param1=value1",
        {},
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    "get-vanilla-query-order-encoded": (
        "GET",
        "/",
        "%E1%88%B4=Value1&Param=Value2&Param-3=Value3",
        {},
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    ),
    "get-vanilla-query-order-key-case": (
        "GET",
        "/",
        "Param1=value1&Param2=value2",
        {},
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-query-unreserved": (
        "GET",
        "/",
        f"{UNRESERVED}={UNRESERVED}",
        {},
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    "get-vanilla-utf8-query": (
        "GET",
        "/",
        "%E1%88%B4=bar",
        {},
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    # Headers of the same name are joined, as in RFC 9110, section 5.2.
    "get-header-key-duplicate": (
        "GET",
        "/",
        "",
        {"my-header1": "value2,value2,value1"},
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    "get-header-value-order": (
        "GET",
        "/",
        "",
        {"my-header1": "value4,value1,value3,value2"},
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    "get-header-value-multiline": (
        "GET",
        "/",
        "",
        {"my-header1": "value1\n  value2\n     value3"},
        "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd",
    ),
    "get-header-value-trim": (
        "GET",
        "/",
        "",
        {"my-header1": " value1", "my-header2": ' "a   b   c"'},
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "get-vanilla-with-session-token": (
        "GET",
        "/",
        "",
        {"x-amz-security-token": TOKEN},
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    ),
    "post-vanilla": ("POST", "/", "", {}, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    "post-header-key-sort": (
        "POST",
        "/",
        "",
        {"my-header1": "value1"},
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    "post-header-value-case": (
        "POST",
        "/",
        "",
        {"my-header1": "VALUE1"},
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    ),
    "post-sts-header-before": (
        "POST",
        "/",
        "",
        {"x-amz-security-token": STS_TOKEN},
        "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
    ),
    "post-vanilla-query": (
        "POST",
        "/",
        "Param1=value1",
        {},
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    ),
    "post-x-www-form-urlencoded": (
        "POST",
        "/",
        "",
        {"content-type": FORM, "content-length": "13", "x-amz-content-sha256": FORM_SHA256},
        "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
    ),
    "post-x-www-form-urlencoded-parameters": (
        "POST",
        "/",
        "",
        {"content-type": f"{FORM}; charset=utf-8", "content-length": "13", "x-amz-content-sha256": FORM_SHA256},
        "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422",
    ),
}


def signed(request: Request, service: str = "service") -> str:
    """The Authorization header of a request of the test suite."""
    credentials = Credentials("AKIDEXAMPLE", SECRET_KEY, None)
    return authorization_header(credentials, request, region="us-east-1", service=service)


@pytest.mark.parametrize("name", VECTORS)
def test_a_published_vector_has_its_signature(name: str) -> None:
    """Each vector of AWS's test suite gives the published signature."""
    method, path, query, more, signature = VECTORS[name]
    headers = {"x-amz-date": TIME, "host": "example.amazonaws.com", **more}

    body = FORM_BODY.encode() if "urlencoded" in name else b""

    header = signed(Request(method, f"{path}?{query}", headers, body))

    assert header == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={';'.join(sorted(headers))}, Signature={signature}"
    )


def test_the_documented_example_has_its_signature() -> None:
    """ListUsers is the example in AWS's General Reference for Signature Version 4."""
    headers = {"content-type": f"{FORM}; charset=utf-8", "host": "iam.amazonaws.com", "x-amz-date": TIME}

    header = signed(Request("GET", "/?Action=ListUsers&Version=2010-05-08", headers), service="iam")

    assert header.endswith("Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7")


PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
NAMES = st.from_regex(r"x-[a-z0-9-]{1,12}", fullmatch=True).filter(lambda name: not name.startswith("x-am"))
KEYS = st.from_regex(r"[A-Za-z0-9/+]{1,60}", fullmatch=True)


@settings(deadline=None)
@given(
    access_key=st.from_regex(r"[A-Z0-9]{4,32}", fullmatch=True),
    secret_key=KEYS,
    token=st.none() | KEYS,
    region=st.from_regex(r"[a-z]{2,4}-[a-z]{3,9}-[1-9]", fullmatch=True),
    method=st.sampled_from(["POST", "GET"]),
    host=st.from_regex(r"[a-z0-9.-]{1,30}(:[1-9][0-9]{0,3})?", fullmatch=True),
    path=st.text(st.characters(categories=["L", "N"]), max_size=10),
    query=st.dictionaries(st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True), PRINTABLE, max_size=3),
    more=st.dictionaries(NAMES, PRINTABLE, max_size=4),
    body=st.binary(max_size=200),
)
def test_the_signature_is_botocores(
    access_key: str,
    secret_key: str,
    token: str | None,
    region: str,
    method: str,
    host: str,
    path: str,
    query: dict[str, str],
    more: dict[str, str],
    body: bytes,
) -> None:
    """For any request the header is botocore's, with and without a session token."""
    request: Any = AWSRequest(
        method=method, url=f"https://example/{quote(path)}", headers={"host": host, **more}, params=query, data=body
    )
    SigV4Auth(SdkCredentials(access_key, secret_key, token), "secretsmanager", region).add_auth(request)

    signed_headers = {name.lower(): value for name, value in request.headers.items() if name != "Authorization"}
    target = f"/{quote(quote(path))}"  # Services other than S3 encode the path twice.
    if query:
        target += "?" + "&".join(f"{key}={quote(value, safe='-_.~')}" for key, value in sorted(query.items()))

    header = authorization_header(
        Credentials(access_key, secret_key, token),
        Request(method, target, signed_headers, body),
        region=region,
        service="secretsmanager",
    )

    assert header == request.headers["Authorization"]


def test_credentials_show_nothing() -> None:
    """Neither their repr nor a tracker that walks sequences shows a key."""
    credentials = Credentials("access_key", "secret_key", "token_key")

    assert "key" not in f"{credentials!r} {credentials}"
    assert not isinstance(credentials, Iterable)
