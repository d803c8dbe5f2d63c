"""The command ``cost``, and the model behind it."""

from __future__ import annotations

import contextlib
import io
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asecretcache._cli import cost_model as model
from asecretcache._cli.main import main


def cost(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Return the document that the command prints."""
    assert main(["cost", "--json", *arguments]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def function(**change: Any) -> model.Function:
    """Return a function, but for what is changed."""
    whole = model.Function(memory=1024, rate=100, secrets=5, environments=20, ttl=3600, latency=0.01)
    return whole._replace(**change)


def test_without_a_cache_each_invocation_calls(capsys: pytest.CaptureFixture[str]) -> None:
    """The calls of a month are the invocations times the secrets, at AWS's price."""
    plain, *_ = cost(capsys, "--invocations", "10", "--secrets", "5")["months"]

    assert plain["client"] == "no cache, aioboto3"
    assert plain["calls"] == 10 * 5 * 30 * 86_400
    assert plain["usd_calls"] == pytest.approx(648)
    assert plain["deploy_calls"] == plain["renewal_calls"] == 50


def test_the_sum_has_all_parts(capsys: pytest.CaptureFixture[str]) -> None:
    """Calls, cold starts and waiting are what a function pays."""
    for month in cost(capsys)["months"]:
        assert month["usd"] == pytest.approx(month["usd_calls"] + month["usd_cold_starts"] + month["usd_waiting"])
        assert min(month.values(), key=lambda value: value if isinstance(value, float) else 1) > 0


@pytest.mark.parametrize(
    ("rate", "cold_starts", "calls"),
    [(1, 510, 5_940), (10, 1_500, 19_380), (100, 5_700, 91_440), (1_000, 30_390, 574_650)],
)
def test_the_model_is_near_the_simulation(rate: float, cold_starts: int, calls: int) -> None:
    """What benchmarks/fleet.py counts, with a daily cycle, is as much above the closed form as the output says."""
    environments = model.environments_for(rate, 0.1)

    starts, fetches = model.cold_starts_and_fetches(function(rate=rate, environments=environments))

    assert 1.0 <= calls / (fetches * 5) <= 1.4
    assert 1.2 <= cold_starts / starts <= 3


def test_without_expiry_an_environment_fetches_once() -> None:
    """With --ttl none there are as many fetches as cold starts, and none when a ttl would end."""
    endless = function(ttl=math.inf)

    starts, fetches = model.cold_starts_and_fetches(endless)

    assert starts == fetches == 20 * model.MONTH / 14_400
    assert model.month(endless, model.CLIENTS[1]).renewal_calls == 0


def test_a_function_that_is_seldom_invoked_starts_cold_each_time() -> None:
    """After long pauses each invocation is a cold start, and a cache saves nothing."""
    rare = function(rate=1 / 86_400, environments=1)

    starts, fetches = model.cold_starts_and_fetches(rare)

    assert starts == fetches == pytest.approx(30)


def test_values_of_a_deploy_expire_spread_over_the_jitter() -> None:
    """A deploy's calls come within ten seconds, their renewals within a tenth of the ttl."""
    month = model.month(function(rate=50_000, environments=10_000), model.CLIENTS[1])

    assert month.deploy_calls == 10_000 * 5 / 10
    assert month.renewal_calls == pytest.approx(10_000 * 5 / 360)


def test_memory_costs_with_cold_starts() -> None:
    """A small function has little CPU for its first invocation; a large one pays more for INIT."""
    plain = model.CLIENTS[0]
    small, large = (model.month(function(memory=memory), plain).usd_cold_starts for memory in (128, 8192))

    starts, _ = model.cold_starts_and_fetches(function())
    assert small == pytest.approx(starts * (0.434 + 0.09 * 1769 / 128) / 8 * 1.66667e-5)
    assert large == pytest.approx(starts * (0.434 + 0.09) * 8 * 1.66667e-5)


def test_prices_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    """All prices and figures are options."""
    options = ["--usd-per-10000-calls", "0", "--usd-per-gb-second", "0", "--latency", "0", "--environments", "7"]

    document = cost(capsys, *options, "--ttl", "none", "--memory", "256")

    assert [month["usd"] for month in document["months"]] == [0, 0, 0]
    assert (document["function"]["environments"], document["function"]["ttl"]) == (7, None)
    assert document["function"]["memory"] == 256


_OPTIONS = (
    "--memory",
    "--invocations",
    "--ttl",
    "--duration",
    "--latency",
    "--usd-per-10000-calls",
    "--usd-per-gb-second",
)
_numbers = st.floats(1e-15, 1e15)


@given(st.dictionaries(st.sampled_from([*_OPTIONS]), _numbers), st.none() | st.integers(1, 10**12 - 1))
def test_numbers_of_any_size_give_numbers(given: dict[str, float], environments: int | None) -> None:
    """The document has no infinity, which JSON hasn't, and a cache makes no more calls than no cache."""
    options = [part for name, number in given.items() for part in (name, repr(number))]
    options += [] if environments is None else ["--environments", str(environments)]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        main(["cost", "--json", *options])

    months = json.loads(output.getvalue(), parse_constant=pytest.fail)["months"]
    assert months[1]["calls"] <= months[0]["calls"] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("arguments", "title", "over"),
    [
        ([], "10 invocations a second, 1 secret(s), 512 MB, 4 environment(s), a ttl of 3600 s", False),
        (["--ttl", "none", "--invocations", "20000"], "20000 invocations a second", True),
    ],
)
def test_the_table_states_its_assumptions(
    capsys: pytest.CaptureFixture[str], arguments: list[str], title: str, *, over: bool
) -> None:
    """The table has a row for each client; a quota that is exceeded, assumptions and sources of the prices follow."""
    assert main(["cost", *arguments]) == 0

    text = capsys.readouterr().out
    assert title in text.splitlines()[0]
    assert [line.split("  ")[0] for line in text.splitlines()[3:6]] == [client.name for client in model.CLIENTS]
    assert "aws.amazon.com/secrets-manager/pricing" in text
    assert ("times the quota" in text) is over


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "0"], "write a number above 0, such as 10 or 0.5"),
        (["--invocations", "1e16"], "write a number above 0, such as 10 or 0.5"),
        (["--invocations", "nan"], "write a number above 0, such as 10 or 0.5"),
        (["--invocations", "many"], "write a number above 0, such as 10 or 0.5"),
        (["--latency", "-1"], "write a number of at least 0, such as 10 or 0.5"),
        (["--secrets", "1.5"], "write a whole number of at least 1, such as 5"),
        (["--ttl", "0"], "write seconds, such as 3600, or none"),
    ],
)
def test_wrong_arguments_say_what_to_write(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The exit status is 2, and stderr names the remedy."""
    with pytest.raises(SystemExit) as caught:
        main(["cost", *arguments])

    assert caught.value.code == 2
    assert message in capsys.readouterr().err
