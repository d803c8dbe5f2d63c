"""Secret and SecretRequest: immutable, and silent about the value."""

from __future__ import annotations

import copy
import enum
import pickle
import traceback
from datetime import UTC, datetime, timedelta
from typing import Any, get_type_hints

import pytest

from asecretcache import ConfigurationError, Secret, SecretFormatError, SecretRequest

VALUE = "canary-hunter2"


def secret(**changes: object) -> Secret:
    fields: dict[str, object] = {"name": "db", "arn": "arn:db", "version_id": "v1", "secret_string": VALUE}
    return Secret(**(fields | changes))  # type: ignore[arg-type]  # fields of many types


@pytest.mark.parametrize("show", [repr, str, format, "{!r:>200}".format, "{:>200}".format, "%s".__mod__])
def test_no_rendering_shows_the_value(show: object) -> None:
    """Whatever prints a Secret prints name and version, never text or bytes."""
    for each in (secret(), secret(secret_string=None, secret_binary=VALUE.encode())):
        text = show(each)  # type: ignore[operator]  # parametrized
        assert "db" in text
        assert "canary" not in text


def test_a_copy_is_the_secret_itself() -> None:
    """Copying multiplies no values."""
    original = secret()

    assert copy.copy(original) is copy.deepcopy(original) is original


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_refuses_to_be_pickled(protocol: int) -> None:
    """Pickling would write the value out."""
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(secret(), protocol)


def test_a_secret_is_immutable_and_says_so_without_the_value() -> None:
    """Neither setting nor deleting works, nor are there other attributes to hide things in."""
    original = secret()
    with pytest.raises(AttributeError, match="immutable") as caught:
        original.secret_string = VALUE
    assert VALUE not in str(caught.value)
    with pytest.raises(AttributeError, match="immutable"):
        del original.secret_string
    assert not hasattr(original, "__dict__")


def test_a_date_may_be_given_in_seconds() -> None:
    """It is the same, and made when it is asked for."""
    date = datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC)

    assert secret(created_date=date.timestamp()).created_date == secret(created_date=date).created_date == date
    assert secret(created_date=0).created_date == datetime.fromtimestamp(0, UTC)
    assert secret().created_date is None
    dates: list[Any] = [date, date.timestamp(), date + timedelta(seconds=1), None]
    first, *others = (secret(created_date=each, fetched_at=1.0) for each in dates)
    assert [first == other for other in others] == [True, False, False]


def test_the_types_of_its_fields_can_be_asked_for() -> None:
    """What makes objects by their annotations, as dependency injectors do, isn't led to a name that isn't there."""
    assert get_type_hints(Secret)["version_stages"] == tuple[str, ...]


def test_equality_is_of_all_fields() -> None:
    """Two records of the same fetch are equal and hash alike; another value makes another record."""
    assert secret(fetched_at=1.0) == secret(fetched_at=1.0)
    assert hash(secret()) == hash(secret())
    assert secret(fetched_at=1.0) != secret(fetched_at=1.0, secret_string="else")
    assert secret() != VALUE


@pytest.mark.parametrize("fields", [{}, {"secret_binary": b"x"}])
def test_a_secret_has_either_text_or_bytes(fields: dict[str, bytes]) -> None:
    """Both or neither is refused, without showing what was given."""
    with pytest.raises(ConfigurationError, match="either secret_string or secret_binary") as caught:
        secret(secret_string=VALUE if fields else None, **fields)
    ours = caught.tb.tb_next
    assert ours
    trace = traceback.TracebackException(caught.type, caught.value, ours.tb_next, capture_locals=True)
    assert VALUE not in "".join(trace.format())


def test_asking_for_the_wrong_kind_names_the_right_method() -> None:
    """Text of a binary secret and bytes of a text secret are format errors with the remedy, without the value."""
    with pytest.raises(SecretFormatError, match="get_secret_binary"):
        secret(secret_string=None, secret_binary=b"x")._text("db")
    with pytest.raises(SecretFormatError, match=r"get_secret\(\)"):
        secret()._bytes("db")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((None,), "not NoneType"),
        ((b"db",), "not bytes"),
        (("",), "is empty"),
        ((" ",), "is empty"),
        (("a" * 2049,), "2049 characters"),
        (("a\nb",), "can't be printed"),
        (("prod/db:password",), "get_json"),
        (("arn:aws:secretsmanager:eu-west-1:1:secret:db:password",), "get_json"),
        (("db", ""), "version_stage"),
        (("db", "s" * 257), "version_stage"),
        (("db", None, 7), "version_id"),
    ],
)
def test_a_bad_request_is_refused_with_the_remedy(arguments: tuple[object, ...], says: str) -> None:
    """Ids, stages and versions are checked before anything is sent."""
    with pytest.raises(ConfigurationError, match=says):
        SecretRequest.of(*arguments)


def test_no_stage_and_awscurrent_are_one_request() -> None:
    """AWSCURRENT is what Secrets Manager takes anyway."""
    assert SecretRequest.of("db", "AWSCURRENT") == SecretRequest.of("db")
    assert SecretRequest.of("db").key == "db"
    assert SecretRequest.of("db", "AWSPREVIOUS").key == ("db", "AWSPREVIOUS", None)
    assert SecretRequest.of("db", "AWSCURRENT", "v1") == ("db", "AWSCURRENT", "v1")


def test_a_member_of_a_str_enum_is_its_value() -> None:
    """Names of secrets are often kept in one."""

    class Names(str, enum.Enum):  # noqa: UP042 - StrEnum has the value for its str() already
        DB = "prod/db"

    assert SecretRequest.of(Names.DB).secret_id == "prod/db"
    assert type(SecretRequest.of(Names.DB).secret_id) is str


@pytest.mark.parametrize("stages", [None, 5, "AWSCURRENT"])
def test_stages_that_are_none_are_refused_without_the_value(stages: Any) -> None:
    """A str would be taken for its letters; and no frame of ours shows the value, nor half a record."""
    with pytest.raises(ConfigurationError, match="version_stages is a tuple") as caught:
        Secret(name="n", arn="a", version_id="v", version_stages=stages, secret_string="canary-hunter2")

    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "canary" not in shown.replace('secret_string="canary-hunter2"', "")
