"""The tree of errors: what each one says, what is transient, and how errors are copied and grouped."""

from __future__ import annotations

import copy
import pickle

import pytest

import asecretcache
from asecretcache import (
    CacheClosedError,
    ConfigurationError,
    CredentialsError,
    SecretAccessDeniedError,
    SecretCache,
    SecretCacheError,
    SecretDecryptionError,
    SecretErrorGroup,
    SecretFormatError,
    SecretNotFoundError,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache.testing import InMemorySource

LEAVES = [
    CacheClosedError,
    ConfigurationError,
    CredentialsError,
    SecretAccessDeniedError,
    SecretDecryptionError,
    SecretFormatError,
    SecretNotFoundError,
    SecretThrottledError,
    SecretUnavailableError,
]


def test_every_error_is_a_leaf_of_one_tree() -> None:
    """All public errors derive from SecretCacheError, and none from another leaf."""
    public = {
        each
        for each in vars(asecretcache).values()
        if isinstance(each, type) and issubclass(each, BaseException) and each is not SecretCacheError
    }

    assert public == {*LEAVES, SecretErrorGroup}
    assert all(leaf.__bases__ == (SecretCacheError,) for leaf in LEAVES)
    assert issubclass(SecretErrorGroup, SecretCacheError)
    assert issubclass(SecretErrorGroup, ExceptionGroup)


@pytest.mark.parametrize("kind", [SecretCacheError, *LEAVES])
def test_an_error_has_the_secret_and_what_aws_said(kind: type[SecretCacheError]) -> None:
    """secret_id, code and request_id are attributes, None where they aren't known."""
    error = kind("no", secret_id="db", code="X", request_id="r")

    assert (str(error), error.secret_id, error.code, error.request_id) == ("no", "db", "X", "r")
    assert (kind().secret_id, kind().code, kind().request_id) == (None, None, None)


@pytest.mark.parametrize("kind", [SecretCacheError, *LEAVES])
def test_throttling_and_unavailability_are_transient(kind: type[SecretCacheError]) -> None:
    """No other class is transient by itself."""
    assert kind("no").is_transient is (kind in {SecretThrottledError, SecretUnavailableError})


def test_a_group_is_transient_if_all_its_members_are() -> None:
    """One member that needs a change makes trying again pointless."""
    down, gone = SecretUnavailableError("down"), SecretNotFoundError("gone")

    assert SecretErrorGroup("several", [down, SecretThrottledError("slow")]).is_transient
    assert not SecretErrorGroup("several", [down, gone]).is_transient


async def test_a_groups_text_has_each_members_text() -> None:
    """Lambda's log shows neither members nor causes, so the text names each secret and says what happened."""
    source = InMemorySource({"c": "1"})
    source.fail(SecretUnavailableError("the endpoint is down\nfor all", secret_id="a"), "a")
    source.fail(SecretThrottledError("slow down"), "b")

    with pytest.raises(SecretErrorGroup) as caught:
        await SecretCache(source).get_many("a", "b", "c")

    text = "2 of 3 secrets failed: secret 'a': the endpoint is down for all; secret 'b': slow down"
    assert str(caught.value).startswith(text)
    assert [(type(each), each.secret_id) for each in _members(caught.value)] == [
        (SecretUnavailableError, "a"),
        (SecretThrottledError, "b"),
    ]


async def test_a_groups_text_names_each_secret_once() -> None:
    """The name isn't put before a text that has it."""
    with pytest.raises(SecretErrorGroup) as caught:
        await SecretCache(InMemorySource()).get_many("gone")

    assert str(caught.value).count("'gone'") == 1


def test_a_group_can_be_split_and_caught_by_type() -> None:
    """``split`` and ``except*`` make groups of the same class."""
    down, gone = SecretUnavailableError("down"), SecretNotFoundError("gone")
    group = SecretErrorGroup("several", [down, gone])

    match, rest = group.split(SecretNotFoundError)
    assert isinstance(match, SecretErrorGroup)
    assert isinstance(rest, SecretErrorGroup)
    assert (match.exceptions, rest.exceptions) == ((gone,), (down,))
    caught: list[BaseException] = []
    try:
        raise group
    except* SecretUnavailableError as unavailable:
        caught.append(unavailable)
    except* SecretNotFoundError as missing:
        caught.append(missing)
    assert [type(each) for each in caught] == [SecretErrorGroup] * 2


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_can_be_copied_and_pickled(duplicate: object) -> None:
    """Process pools and error trackers do that."""
    error = SecretThrottledError("slow", secret_id="db", code="X", request_id="r")
    for each in (error, SecretErrorGroup("several", [error])):
        other = duplicate(each)  # type: ignore[operator]  # parametrized
        assert type(other) is type(each)
        assert (str(other), other.is_transient) == (str(each), True)
    assert duplicate(error).secret_id == "db"  # type: ignore[operator]  # as above


class OwnError(SecretUnavailableError):
    """A subclass of a user's source, whose constructor takes other arguments."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} is down")
        self.host = host


async def test_each_caller_gets_an_error_of_its_own() -> None:
    """It has the caller's id, and the attributes, notes and cause of what the source raised, but no traceback."""
    own = OwnError("here", 1)
    own.add_note("call the operator")
    own.__cause__ = LookupError("cause")
    source = InMemorySource({"db": "1"})
    source.fail(own)
    cache = SecretCache(source)

    raised = []
    for _ in range(2):
        with pytest.raises(OwnError, match="here:1 is down") as caught:
            await cache.get("db")
        raised.append(caught.value)
        caught.value.add_note("only this one's")

    assert raised[0] is not raised[1]
    for each in raised:
        assert (each.host, each.secret_id) == ("here", "db")
        assert each.__notes__ == ["call the operator", "only this one's"]
        assert isinstance(each.__cause__, LookupError)
    assert own.__notes__ == ["call the operator"]
    assert own.secret_id is None


async def test_the_error_of_a_batch_names_each_callers_secret() -> None:
    """An error of the whole batch names none, so each secret's copy says which and that it was in a batch."""
    source = InMemorySource({"a": "1", "b": "2"})
    source.fail_batches(SecretUnavailableError("down"))

    results = await SecretCache(source, batch=True).get_many("a", "b", return_exceptions=True)

    assert {name: str(error) for name, error in results.items()} == {
        name: f"secret '{name}', in a batch: down" for name in ("a", "b")
    }
    source.fail_batches(SecretUnavailableError("down for good", secret_id="z"))
    results = await SecretCache(source, batch=True).get_many("a", "b", return_exceptions=True)
    assert {str(error) for error in results.values()} == {"down for good"}


def _members(group: SecretErrorGroup) -> list[SecretCacheError]:
    return [each for each in group.exceptions if isinstance(each, SecretCacheError)]
