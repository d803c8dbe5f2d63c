"""Secret and SecretRequest: immutable records, and no way to show a value by mistake."""

from __future__ import annotations

import copy
import enum
import pickle
import traceback
from datetime import UTC, datetime, timedelta
from typing import Any, get_type_hints

import pytest

from asecretcache import ConfigurationError, Secret, SecretFormatError, SecretRequest
from asecretcache._models import may_be_same_secret

CANARY = "canary-hunter2"
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf"


def secret(**changes: Any) -> Secret:
    fields: dict[str, Any] = {"name": "db", "arn": "arn:db", "version_id": "v1", "secret_string": CANARY}
    return Secret(**(fields | changes))


def shown(error: BaseException) -> str:
    """Format an error with the locals of all frames but the test's own."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return "".join(traceback.TracebackException(type(error), error, trace, capture_locals=True).format())


@pytest.mark.parametrize("show", [repr, str, format, "{!r:>200}".format, "{:>200}".format, "%s".__mod__])
def test_no_rendering_of_a_secret_shows_the_value(show: Any) -> None:
    """Every way to print a Secret shows its name, never its text or bytes."""
    for each in (secret(), secret(secret_string=None, secret_binary=CANARY.encode())):
        text = show(each)
        assert "db" in text
        assert "canary" not in text


def test_the_repr_of_a_secret_names_it_and_its_kind() -> None:
    """The repr has name, ARN and version, and which attribute holds the value."""
    assert repr(secret()) == "<Secret name='db' arn='arn:db' version_id='v1' secret_string=***>"
    assert "secret_binary=***" in repr(secret(secret_string=None, secret_binary=b"x"))


def test_a_copy_of_a_secret_is_the_secret_itself() -> None:
    """Copying doesn't multiply values in memory."""
    original = secret()

    assert copy.copy(original) is copy.deepcopy(original) is original


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_refuses_to_be_pickled(protocol: int) -> None:
    """Pickling would write the value out, so every protocol is refused."""
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(secret(), protocol)


def test_a_secret_is_immutable_and_says_so_without_the_value() -> None:
    """Attributes can't be set, deleted or added, and the error doesn't show what was assigned."""
    original = secret()
    with pytest.raises(AttributeError, match="immutable: 'secret_string' can't be set") as caught:
        original.secret_string = CANARY
    assert CANARY not in shown(caught.value)
    with pytest.raises(AttributeError, match="immutable: 'secret_string' can't be deleted"):
        del original.secret_string
    assert not hasattr(original, "__dict__")


def test_the_arguments_of_a_secret_are_keyword_only() -> None:
    """Positional arguments could swap a value with a name."""
    with pytest.raises(TypeError, match="positional"):
        Secret("db", "arn:db", "v1")  # type: ignore[call-arg]  # the mistake


def test_a_date_may_be_given_in_seconds() -> None:
    """A date in seconds equals the same date as a datetime, and 0 is a date."""
    date = datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC)

    assert secret(created_date=date.timestamp()).created_date == secret(created_date=date).created_date == date
    assert secret(created_date=0).created_date == datetime.fromtimestamp(0, UTC)
    assert secret().created_date is None
    dates = [date, date.timestamp(), date + timedelta(seconds=1), None]
    first, *others = (secret(created_date=each) for each in dates)
    assert [first == other for other in others] == [True, False, False]


def test_the_types_of_a_secrets_fields_can_be_looked_up() -> None:
    """get_type_hints works, as dependency injectors need it."""
    assert get_type_hints(Secret)["version_stages"] == tuple[str, ...]


def test_secrets_are_equal_if_all_their_fields_are() -> None:
    """Equal records hash alike; another value makes another record, and nothing else is equal to one."""
    assert secret() == secret()
    assert hash(secret()) == hash(secret())
    for change in ({"secret_string": "other"}, {"version_id": "v2"}, {"arn": "arn:2"}, {"version_stages": ()}):
        assert secret() != secret(**change)
    assert secret() != CANARY


@pytest.mark.parametrize("fields", [{}, {"secret_binary": b"x"}])
def test_a_secret_has_either_text_or_bytes(fields: dict[str, bytes]) -> None:
    """Both or neither is refused, and the error doesn't show what was given."""
    with pytest.raises(ConfigurationError, match="either secret_string or secret_binary; 'db' was given") as caught:
        secret(secret_string=CANARY if fields else None, **fields)

    assert caught.value.secret_id == "db"
    assert CANARY not in shown(caught.value)


@pytest.mark.parametrize("stages", [None, 5, "AWSCURRENT"])
def test_version_stages_must_be_a_tuple(stages: Any) -> None:
    """A str would be taken for its letters; the error shows neither the value nor half a record."""
    with pytest.raises(ConfigurationError, match="version_stages must be a tuple") as caught:
        secret(version_stages=stages)

    assert CANARY not in shown(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"secret_binary": b"x"}, "a Secret has either secret_string or secret_binary; 'db' was given both or neither"),
        ({"secret_string": None}, "a Secret has either secret_string or secret_binary; 'db' was given both or neither"),
        ({"version_stages": 5}, "version_stages must be a tuple of staging labels, not int"),
        ({"version_stages": "blue"}, "version_stages must be a tuple of staging labels, not str"),
    ],
)
def test_what_no_secret_can_be_made_of_is_told(fields: dict[str, Any], says: str) -> None:
    """With the secret's name."""
    with pytest.raises(ConfigurationError) as caught:
        secret(**fields)

    assert str(caught.value) == says
    assert caught.value.secret_id == "db"


def test_a_list_of_stages_is_stored_as_a_tuple() -> None:
    """A list is taken too, since JSON has no tuples, and can't be changed afterwards."""
    assert secret(version_stages=["AWSCURRENT", "blue"]).version_stages == ("AWSCURRENT", "blue")


def test_text_is_the_text_of_a_secret() -> None:
    """``text`` is a str for type checkers, and an error for a binary secret."""
    assert secret().text == CANARY
    with pytest.raises(SecretFormatError, match=r"'db' is binary.*get_secret_binary\(\)") as caught:
        _ = secret(secret_string=None, secret_binary=b"x").text
    assert caught.value.secret_id == "db"


def test_json_parses_the_document_or_one_key() -> None:
    """``json()`` returns the document, ``json(key)`` the value of a key, parsed for each call."""
    held = secret(secret_string='{"a": [1], "b": null, "": "empty"}')

    assert held.json() == {"a": [1], "b": None, "": "empty"}
    assert held.json("a") == [1]
    assert held.json("a") is not held.json("a")
    assert held.json("b") is None
    assert held.json("") == "empty"
    with pytest.raises(SecretFormatError, match="get_secret_binary"):
        secret(secret_string=None, secret_binary=b"{}").json()


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("", None, "isn't JSON"),
        (f"not JSON: {CANARY}", None, "isn't JSON"),
        (f"not JSON: {CANARY}", "a", "isn't JSON"),
        ("[" * 100_000, "a", "isn't JSON"),
        (f'["{CANARY}"]', "a", "not an object, so it has no key 'a'"),
        (f'"{CANARY}"', "a", "not an object, so it has no key 'a'"),
        (f'{{"user": "{CANARY}", "host": "{CANARY}"}}', "a", "no key 'a': check its spelling; the object has 2 keys"),
        ("{}", "a", "the object has 0 keys"),
        (f'{{"b": "{CANARY}"}}', "a", "the object has 1 key$"),
    ],
)
def test_unreadable_json_is_reported_without_the_text(text: str, key: str | None, says: str) -> None:
    """The error lists the keys that there are; message, chain and our frames' locals hold no value."""
    with pytest.raises(SecretFormatError, match=says) as caught:
        secret(secret_string=text).json(key)

    assert CANARY not in shown(caught.value)
    assert caught.value.secret_id == "db"
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((None,), "not NoneType"),
        ((b"db",), "not bytes"),
        (("",), "is empty"),
        ((" ",), "is empty"),
        (("a" * 2049,), "2049 characters"),
        (("a\nb",), "can't be printed"),
        (("prod/db:password",), "colon outside of an ARN"),
        ((f"{ARN}:password",), "colon outside of an ARN"),
        (("db", ""), "version_stage must be a str of 1 to 256"),
        (("db", "s" * 257), "version_stage must be a str of 1 to 256"),
        (("db", None, 7), "version_id must be a str of 1 to 64"),
    ],
)
def test_a_bad_request_is_refused_with_the_rule(arguments: Any, says: str) -> None:
    """Ids, stages and versions are checked before anything is sent."""
    with pytest.raises(ConfigurationError, match=says):
        SecretRequest(*arguments)


@pytest.mark.parametrize(
    ("secret_id", "says"),
    [
        ("", "is empty"),
        ("a\nb", "'a\\nb' has characters that can't be printed"),
        ("prod/db:password", "'prod/db:password' has a colon outside of an ARN"),
    ],
)
def test_a_bad_id_is_told_with_its_remedy(secret_id: str, says: str) -> None:
    """The error has the id where there is one."""
    with pytest.raises(ConfigurationError) as caught:
        SecretRequest(secret_id)

    assert str(caught.value) == f"the secret id {says}: give a secret's name or ARN"
    assert caught.value.secret_id == (secret_id or None)


def test_the_longest_stage_and_version_are_taken() -> None:
    """AWS takes stages of up to 256 characters and versions of up to 64."""
    request = SecretRequest("db", "s" * 256, "v" * 64)

    assert (request.version_stage, request.version_id) == ("s" * 256, "v" * 64)


def test_no_stage_and_awscurrent_are_one_request() -> None:
    """Secrets Manager takes AWSCURRENT by default, so both have the key of the id alone."""
    assert SecretRequest("db", "AWSCURRENT") == SecretRequest("db")
    assert hash(SecretRequest("db", "AWSCURRENT")) == hash(SecretRequest("db"))
    assert SecretRequest("db").key == "db"
    assert SecretRequest(ARN).key == ARN
    assert SecretRequest("db", "AWSPREVIOUS").key == ("db", "AWSPREVIOUS", None)
    assert SecretRequest("db", "AWSCURRENT", "v1").key == ("db", "AWSCURRENT", "v1")
    assert SecretRequest("db") != SecretRequest("db", "AWSPREVIOUS")
    assert SecretRequest("db") != "db"


def test_a_request_is_immutable_and_shows_what_it_asks_for() -> None:
    """Its attributes can't be set, and its repr leaves out what isn't asked for."""
    request = SecretRequest("db", "blue", "v1")
    with pytest.raises(AttributeError, match="immutable: 'secret_id' can't be set"):
        request.secret_id = "other"

    assert repr(request) == "SecretRequest('db', version_stage='blue', version_id='v1')"
    assert repr(SecretRequest("db")) == "SecretRequest('db')"


def test_a_request_that_is_a_refresh_is_one_of_the_same() -> None:
    """It is stored by the same key, and its repr tells it."""
    request = SecretRequest("db", is_refresh=True)

    assert (request.is_refresh, SecretRequest("db").is_refresh) == (True, False)
    assert request == SecretRequest("db")
    assert request.key == "db"
    assert repr(request) == "SecretRequest('db', is_refresh=True)"


def test_a_member_of_a_str_enum_is_its_value() -> None:
    """Names of secrets are often kept in an enum, whose str() may be the member's name."""

    class Names(str, enum.Enum):  # noqa: UP042 - StrEnum has the value for its str() already
        DB = "prod/db"
        STAGE = "blue"

    request = SecretRequest(Names.DB, Names.STAGE)
    assert (request.secret_id, request.version_stage) == ("prod/db", "blue")
    assert type(request.secret_id) is type(request.version_stage) is str


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ("prod/db", "prod/db", True),
        ("prod/db", ARN, True),
        (ARN, "prod/db", True),
        (ARN, ARN[:-7], True),
        ("prod/database", ARN.replace("prod/db", "prod/database"), True),
        (ARN.replace("prod/db", "prod/database"), "prod/database", True),
        (ARN.replace("123456789012", "999999999999"), "prod/db", True),
        ("prod/db", "prod/api", False),
        ("prod", ARN, False),
        ("prod/db-AbCdE", ARN, False),
    ],
)
def test_ids_tell_which_secrets_may_be_the_same(one: str, other: str, *, may: bool) -> None:
    """A name, a partial ARN and a full ARN may name one secret; a prefix of a name doesn't."""
    assert may_be_same_secret(one, other) is may


def test_the_longest_id_is_taken() -> None:
    """AWS takes ids of up to 2,048 characters."""
    assert SecretRequest("n" * 2048).secret_id == "n" * 2048
    with pytest.raises(ConfigurationError):
        SecretRequest("n" * 2049)


def test_equal_secrets_have_one_hash_and_others_another() -> None:
    """So a set of secrets is as fast as it should be."""
    one, same, other = (Secret(name="n", arn="a", version_id=v, secret_string="canary") for v in ("1", "1", "2"))

    assert hash(one) == hash(same)
    assert hash(one) != hash(other)


def test_what_cannot_be_done_with_a_secret_says_what_can() -> None:
    """Pickling would write the value out; JSON that can't be parsed may be read as text."""
    secret = Secret(name="n", arn="a", version_id="v", secret_string="canary")

    with pytest.raises(TypeError) as caught:
        pickle.dumps(secret)
    written = "a Secret can't be pickled, because its value would be written out"
    assert str(caught.value) == f"{written}: pass the secret's id instead"
    with pytest.raises(SecretFormatError) as unreadable:
        secret.json()
    assert str(unreadable.value) == "secret 'n' isn't JSON: read it whole with get_secret()"


def test_a_secret_is_formatted_as_its_repr() -> None:
    """With the width of the format's specification."""
    secret = Secret(name="n", arn="a", version_id="v", secret_string="canary")

    assert f"{secret:>100}" == repr(secret).rjust(100)
