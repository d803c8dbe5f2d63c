"""A source over any client: slots, time-outs, pages, and what it shows of a failure."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from botocore import exceptions as sdk

from asecretcache import ConfigurationError, CredentialsError, SecretUnavailableError
from asecretcache._core.timeouts import FetchTimeout, current_fetch_timeout
from asecretcache._sources.client_source import ClientSource
from asecretcache._sources.sdk.source import UsersClientFactory
from source_helpers import CANARY, NAME, RESPONSE, FakeClient, fetch_error, fetch_value, run_tasks, shown_locals


def source_over(client: FakeClient, **options: Any) -> ClientSource:
    return ClientSource(UsersClientFactory(client), **options)


@pytest.mark.parametrize("max_concurrency", [0, True, 1.5, "1"])
def test_max_concurrency_must_be_a_positive_int(max_concurrency: Any) -> None:
    """Anything else is a ConfigurationError that names the argument."""
    with pytest.raises(ConfigurationError, match=r"^max_concurrency= must be an int of at least 1$"):
        source_over(FakeClient(), max_concurrency=max_concurrency)


async def test_a_clients_response_becomes_a_secret() -> None:
    """The client is called with AWS's arguments, and closed with the source."""
    client = FakeClient()
    source = source_over(client)

    assert await fetch_value(source) == "the value"
    await source.aclose()

    assert client.calls == [{"SecretId": "name"}]
    assert (client.opened, client.closed) == (1, 1)


async def test_a_fetch_that_waits_for_a_slot_pauses_its_timeout() -> None:
    """No more than max_concurrency calls run; the time of the others counts from when they get a slot."""

    class Timeout(FetchTimeout):
        def __init__(self) -> None:
            super().__init__(10, time.time, time.monotonic)
            self.events: list[str] = []

        def pause(self) -> None:
            self.events.append("pause")

        def resume(self) -> None:
            self.events.append("resume")

    client = FakeClient()
    client.may_respond.clear()
    source = source_over(client, max_concurrency=1)
    timeouts = [Timeout(), Timeout()]

    async def fetch(timeout: Timeout) -> None:
        current_fetch_timeout.set(timeout)
        await source.fetch(NAME)

    tasks = [asyncio.create_task(fetch(timeout)) for timeout in timeouts]
    await run_tasks()
    assert len(client.calls) == 1
    assert [timeout.events for timeout in timeouts] == [["pause", "resume"], ["pause"]]

    client.may_respond.set()
    await asyncio.gather(*tasks)
    await source.aclose()
    assert timeouts[1].events == ["pause", "resume"]
    assert len(client.calls) == 2


async def test_a_failed_fetch_frees_its_slot() -> None:
    """After an error the next fetch gets the slot."""
    source = source_over(FakeClient(OSError()), max_concurrency=1)
    with pytest.raises(SecretUnavailableError):
        await source.fetch(NAME)

    assert await fetch_value(source) == "the value"
    await source.aclose()


@pytest.mark.parametrize("response", [sdk.ReadTimeoutError(endpoint_url="u"), {}])
async def test_a_failed_fetch_names_its_secret(response: Any) -> None:
    """Whether there was no response, or a malformed one."""
    error = await fetch_error(source_over(FakeClient(response)))

    assert error.secret_id == "name"
    assert str(error).startswith("secret 'name': ")


async def test_a_fetch_that_is_closed_raises_nothing() -> None:
    """As the collector closes that of a dead loop: what the SDK then raises, in another context, concerns nobody."""

    class Raising(FakeClient):
        async def get_secret_value(self, **arguments: Any) -> Any:
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("was created in a different Context")

    source = source_over(Raising())
    await source.warm()
    coroutine = source.fetch(NAME)
    coroutine.send(None)
    coroutine.close()
    await source.aclose()


async def test_warm_opens_the_client_and_needs_no_slot() -> None:
    """Warming again does nothing, and while all slots are taken it doesn't wait."""
    client = FakeClient()
    client.may_respond.clear()
    source = source_over(client, max_concurrency=1)
    task = asyncio.create_task(source.fetch(NAME))
    await run_tasks()

    await source.warm()
    await source.warm()

    assert client.opened == 1
    client.may_respond.set()
    await task
    await source.aclose()


# Pages


async def test_pages_are_followed_until_there_is_no_token() -> None:
    """Each page is requested with the ids and the token of the page before."""
    client = FakeClient({"NextToken": "1"}, {"NextToken": "2"}, {"SecretValues": [RESPONSE]})
    source = source_over(client)

    assert set(await source.fetch_batch(["name"])) == {"name"}
    await source.aclose()

    assert [call.get("NextToken") for call in client.calls] == [None, "1", "2"]
    assert all(call["SecretIdList"] == ["name"] for call in client.calls)


async def test_a_token_that_repeats_ends_the_pages() -> None:
    """The pages up to then are the response."""
    client = FakeClient({"SecretValues": [RESPONSE], "NextToken": "1"}, {"NextToken": "1"})
    source = source_over(client)

    assert set(await source.fetch_batch(["name"])) == {"name"}
    await source.aclose()

    assert len(client.calls) == 2


@pytest.mark.parametrize("response", [[], None, {"NextToken": ["unhashable"]}])
async def test_a_malformed_page_ends_the_pages(response: Any) -> None:
    """A page that isn't a dict, or whose token is no text, is a malformed response."""
    source = source_over(FakeClient(response))

    with pytest.raises(SecretUnavailableError, match="malformed response"):
        await source.fetch_batch(["name"])
    await source.aclose()


# Failures


@pytest.mark.parametrize("error", [ConnectionError(CANARY), asyncio.CancelledError()])
async def test_no_frame_shows_a_page(error: BaseException) -> None:
    """If the call for a second page fails, the traceback doesn't show the first."""
    page = {"SecretValues": [RESPONSE | {"SecretString": CANARY}], "NextToken": "1"}
    source = source_over(FakeClient(page, error))

    with pytest.raises((SecretUnavailableError, asyncio.CancelledError)) as caught:
        await source.fetch_batch(["name"])
    await source.aclose()

    assert CANARY not in shown_locals(caught.value)


async def test_missing_credentials_are_transient_after_a_success() -> None:
    """Once the source has had a response its credentials were good, so a stale value may be served."""
    missing = sdk.NoCredentialsError()
    source = source_over(FakeClient(missing, {}, missing, RESPONSE, missing))
    are_transient = []
    for _ in range(2):
        with pytest.raises(CredentialsError) as caught:
            await source.fetch(NAME)
        are_transient.append(caught.value.is_transient)
        with suppress(SecretUnavailableError):  # The first response is malformed, the second isn't.
            await source.fetch(NAME)
    are_transient.append((await fetch_error(source)).is_transient)

    assert are_transient == [False, False, True]


async def test_an_error_has_no_context() -> None:
    """The exception of the client is the cause at most, never the context."""
    error = await fetch_error(source_over(FakeClient(sdk.EndpointConnectionError(endpoint_url="u"))))

    assert error.__context__ is None
    assert type(error.__cause__) is sdk.EndpointConnectionError


async def test_an_error_is_freed_without_the_garbage_collector() -> None:
    """No frame in the error's traceback holds the error itself."""
    error = await fetch_error(source_over(FakeClient(OSError())))

    assert repr(error) not in shown_locals(error)
