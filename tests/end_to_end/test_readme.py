"""The code of the README and of docs/ runs as it stands there, and the README's commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moto_server import MotoServer
from warm_python import WarmPython

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
#: Its blocks are test modules: tests/test_pytest_plugin.py runs them.
TESTING = CHECKOUT / "docs" / "testing.md"
#: Its titled blocks that are no handlers need what they are for; the tests of each rotation run them, by this call.
ROTATION, RUN_BLOCK = CHECKOUT / "docs" / "rotation.md", 'run_block("{title}"'
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    if page != TESTING
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    )
    if page != ROTATION or "lambda_handler" in block
]

RUN = """
import asyncio

async def live():
    async with app.router.lifespan_context(app):
        pass

if "test_handler" in globals():
    test_handler()
elif "lambda_handler" not in globals():
    asyncio.run(live())
else:
    http = {"method": "GET", "path": "/", "sourceIp": "127.0.0.1", "protocol": "HTTP/1.1"}
    context = {"http": http, "stage": "$default"}
    request = {"version": "2.0", "rawPath": "/", "rawQueryString": "", "headers": {}, "requestContext": context}
    event = request if "Mangum" in globals() else {}
    print(lambda_handler(event, None), lambda_handler(event, None))
"""


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(
    block: str, moto_server: MotoServer, aws_environment: pytest.MonkeyPatch, warm_python: WarmPython, tmp_path: Path
) -> None:
    """Pasted into a file and invoked twice, it works without output on stderr, and each version is fetched once."""
    moto_server.create("prod/db", '{"user": "app", "password": "hunter2"}')
    moto_server.create("prod/api", "key-0")
    moto_server.client.put_secret_value(SecretId="prod/api", SecretString="key-1")
    aws_environment.setenv("SECRET_ID", "prod/api")

    ended = warm_python.run(block + RUN, tmp_path)

    assert (ended.status, ended.stderr) == (0, "")
    named = {name for name in ("prod/db", "prod/api") if name in block} | (
        {"prod/api"} if "bootstrap()" in block or "get_secret()" in block else set()
    )
    calls = 0 if "asecretcache.testing" in block else len(named) + block.count("AWSPREVIOUS")
    together = moto_server.calls("BatchGetSecretValue")
    assert together == ("batch=True" in block)
    assert moto_server.calls() == (0 if together else calls)


def test_every_make_target_of_the_readme_exists() -> None:
    """Each command that the README shows is a target of the Makefile."""
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\S+)", README, re.MULTILINE)

    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_every_failure_of_the_table_names_a_test_that_exists() -> None:
    """A row without its test would be a promise that nothing checks; a file is named without its folder."""
    page = (CHECKOUT / "docs" / "failures.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| ") and row.endswith("` |")]

    assert len(rows) > 40
    assert len(rows) + page.count("|---|\n") == sum(line.startswith("| ") for line in page.splitlines())
    for row in rows:
        named = re.search(r"`(test_\w+\.py)::(test_\w+)` \|$", row)
        assert named, row
        modules = [path.read_text(encoding="utf-8") for path in (CHECKOUT / "tests").rglob(named[1])]
        assert any(re.search(rf"^(async )?def {named[2]}\(", module, re.MULTILINE) for module in modules), named[0]


def test_the_readme_is_read_in_two_minutes() -> None:
    """It stays under 200 lines."""
    assert len(README.splitlines()) < 200


def test_the_blocks_of_rotations_are_run_by_their_tests() -> None:
    """Each block of the page has a title by which a test runs it."""
    page = ROTATION.read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    titles = re.findall(r"^### (.*)$", page, re.MULTILINE)

    assert page.count("```python") - page.count("def lambda_handler") == len(titles) > 0
    assert [title for title in titles if RUN_BLOCK.format(title=title) not in tests] == []
