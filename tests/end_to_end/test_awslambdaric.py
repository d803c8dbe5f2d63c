"""Handlers in AWS's own runtime client, against a Secrets Manager over HTTP."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lambda_local import LambdaEnvironment

from moto_server import MotoServer

HANDLERS = Path(__file__).parent / "lambda_handlers"
VALUE = "canary-hunter2"
#: Starts in half of the time, for what is no matter of the source.
DIRECT = {"ASECRETCACHE_SOURCE": "direct"}


@pytest.fixture
def moto(moto_server: MotoServer, aws_environment: pytest.MonkeyPatch) -> MotoServer:
    moto_server.create("prod/api", VALUE)
    aws_environment.setenv("SECRET_ID", "prod/api")
    # So that what a function leaves open or never awaits shows in its log.
    aws_environment.setenv("PYTHONWARNINGS", "error")
    return moto_server


def start(handler: str, **environ: str) -> LambdaEnvironment:
    return LambdaEnvironment(handler, HANDLERS, environ)


def test_without_the_decorator_an_async_handler_fails(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's runtime client takes the coroutine for the response."""
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    with start("patterns.undecorated", **DIRECT) as environment:
        outcome = environment.invoke()

    assert outcome.error
    assert outcome.error["errorType"] == "Runtime.MarshalError"


PATTERNS = ["decorated", "asyncio_run", "persistent_loop", "uvloop_run", "four_threads"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_many_invocations_pay_for_one_fetch(moto: MotoServer, pattern: str) -> None:
    """However the handler runs its coroutines, its environment makes one call, and its log is empty."""
    with start(f"patterns.{pattern}") as environment:
        payloads = [environment.invoke().payload for _ in range(10)]

    assert payloads == [VALUE] * 10
    assert moto.calls() == 1
    assert environment.log == ""


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_interpreter_ends_quietly(moto: MotoServer, pattern: str) -> None:
    """With clients and loops alive, the exit neither fails nor warns."""
    with start("patterns.leave") as environment:
        outcome = environment.invoke(pattern)
        assert environment.process.wait(30) == 0

    assert outcome.error
    assert outcome.error["errorType"] == "Runtime.ExitError"
    assert moto.calls() == 1
    assert environment.log == ""


def test_what_is_left_running_ends_with_the_interpreter(moto: MotoServer) -> None:
    """The task is cancelled on its loop, so its finally block runs, and nothing warns."""
    with start("behaviours.leave", **DIRECT) as environment:
        environment.invoke()
        assert environment.process.wait(30) == 0

    assert environment.log == "ended\n"


def test_the_article_in_the_runtime(moto: MotoServer) -> None:
    """bootstrap leaves the secret in the environment for the invocations that follow."""
    with start("behaviours.stored", **DIRECT) as environment:
        payloads = [environment.invoke().payload for _ in range(3)]

    assert [payload["was_there"] for payload in payloads] == [False, True, True]
    assert all(payload["is_there"] for payload in payloads)
    assert moto.calls() == 1


def test_invocations_do_not_see_each_others_context_variables(moto: MotoServer) -> None:
    """Each runs in a copy of the runtime's context."""
    with start("behaviours.contexts", **DIRECT) as environment:
        assert [environment.invoke(event).payload for event in "abc"] == ["nothing"] * 3


def test_a_background_task_does_not_inherit_the_deadline(moto: MotoServer) -> None:
    """A task that the first invocation leaves goes on in the second one, past the first one's deadline."""
    with start("behaviours.background", **DIRECT) as environment:
        assert environment.invoke("start", timeout=0.2).payload == "started"
        assert environment.invoke("collect").payload == VALUE


@pytest.mark.usefixtures("hung_endpoint")
def test_a_hung_endpoint_is_an_error_before_the_deadline(moto: MotoServer) -> None:
    """The function reports the error itself instead of being ended, and the next invocation is served."""
    with start("behaviours.hang") as environment:
        for _ in range(2):
            outcome = environment.invoke(timeout=1)
            assert outcome.error
            assert outcome.error["errorType"] == "SecretUnavailableError"
            assert "deadline" in outcome.error["errorMessage"]


def test_the_handlers_own_errors_arrive_unchanged(moto: MotoServer) -> None:
    """An error of the handler keeps its type and text."""
    with start("behaviours.fail", **DIRECT) as environment:
        outcome = environment.invoke()

    assert outcome.error
    assert (outcome.error["errorType"], outcome.error["errorMessage"]) == ("OwnError", "mine")


def test_prefetch_happens_during_init(moto: MotoServer) -> None:
    """The call is made before there is any invocation."""
    with start("prefetching.handler", **DIRECT) as environment:
        environment.wait_for_init()
        assert moto.calls() == 1
        assert environment.invoke().payload == [VALUE, False]

    assert moto.calls() == 1


def test_a_prefetch_that_fails_is_logged_and_init_goes_on(moto: MotoServer) -> None:
    """The error shows where the handler asks for the secret."""
    moto.client.delete_secret(SecretId="prod/api", ForceDeleteWithoutRecovery=True)
    with start("prefetching.handler", **DIRECT) as environment:
        outcome = environment.invoke()

    assert outcome.error
    assert outcome.error["errorType"] == "SecretNotFoundError"
    assert "prefetch failed" in environment.log


def test_snapstart_drops_values_and_prefetches_after_the_restore(moto: MotoServer) -> None:
    """What was bootstrapped before the snapshot is out of the environment, and the clone fetches for itself."""
    # The runtime client itself leaves a socket open after it has asked for the restore.
    environ = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "BOOTSTRAP_AT_IMPORT": "1", "PYTHONWARNINGS": "default"}
    with start("prefetching.handler", **environ, **DIRECT) as environment:
        environment.wait_for_snapshot()
        assert moto.calls() == 1
        environment.restore()
        environment.wait_for_init()
        assert moto.calls() == 2
        outcome = environment.invoke()

    assert outcome.payload == [VALUE, False]
    assert moto.calls() == 2
    # Neither a record nor a warning of ours. The checkout's own path may have the project's name.
    assert not re.search(r"\[(WARNING|ERROR)\]|site-packages/asecretcache", environment.log)


def test_the_log_never_holds_the_value(moto: MotoServer) -> None:
    """With the function's log level at DEBUG, for botocore as for all other libraries."""
    with start("patterns.decorated", AWS_LAMBDA_LOG_LEVEL="DEBUG", AWS_LAMBDA_LOG_FORMAT="JSON") as environment:
        assert environment.invoke().payload == VALUE

    assert "fetched from Secrets Manager" in environment.log
    assert "botocore" in environment.log
    assert VALUE not in environment.log


def test_the_doctor_runs_as_a_function(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """``asecretcache.doctor.lambda_handler`` as the handler reads the secrets of its event, and logs nothing."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto.url)
    with start("asecretcache.doctor.lambda_handler") as environment:
        payload = environment.invoke({"references": ["prod/api"]}).payload

    assert payload["ok"] is True
    assert payload["secrets"][0]["kind"] == "text"
    assert VALUE not in str(payload)
    assert environment.log == ""
