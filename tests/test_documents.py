"""README, docs/ and deploy/: commands exist, data can be parsed, links lead somewhere, the site builds."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

import asecretcache
from asecretcache import SecretCache

CHECKOUT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
REPOSITORY = PYPROJECT["project"]["urls"]["Source"]
FILES = f"{REPOSITORY}/blob/main/"
PAGES = sorted(page for pattern in ("*.md", "docs/*.md", "deploy/**/*.md") for page in CHECKOUT.glob(pattern))
#: Of other programs, the subcommands that the pages may use.
SUBCOMMANDS = {
    "docker": {"build", "push", "run", "login"},
    "git": {"clone"},
    "sam": {"build", "deploy", "local"},
    "terraform": {"init", "apply", "plan"},
    "uv": {"add", "pip", "sync"},
}
#: Programs that take files and flags.
TOOLS = {"cd", "cp", "curl", "export", "ls", "mkdir", "moto_server", "rm", "unzip", "usermod", "zip"}


def blocks(language: str) -> list[object]:
    """Every fenced block of a language, with its page."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [
        pytest.param(page, block, id=f"{page.relative_to(CHECKOUT)}-{number}")
        for page in PAGES
        for number, block in enumerate(pattern.findall(page.read_text(encoding="utf-8")))
    ]


def commands(block: str) -> Iterator[list[str]]:
    """Split a block of shell commands into words, without comments and variables in front of a command."""
    for line in block.replace("\\\n", " ").splitlines():
        for part in re.split(r" (?:&&|\|) ", line.strip("()")):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]
            if words:
                yield words


def check_make(words: list[str], page: Path) -> None:
    """Each target is one of the Makefile's, here or where the page is."""
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    for target in words[1:]:
        assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), target


def check_aws(words: list[str], page: Path) -> None:
    """An operation and its parameters are in AWS's model of the service; a file exists."""
    service, operation, *arguments = words[1:]
    options = {word.removeprefix("--") for word in arguments if word.startswith("--")}
    if (service, operation) == ("cloudformation", "deploy"):
        assert options <= {"template-file", "stack-name", "capabilities", "parameter-overrides"}
        template = arguments[arguments.index("--template-file") + 1]
        assert (page.parent / template).is_file() or (CHECKOUT / template).is_file(), template
        return
    model = botocore.session.Session().get_service_model(service)
    names = {xform_name(name, "-"): name for name in model.operation_names}
    shape = model.operation_model(names[operation]).input_shape
    members = {xform_name(name, "-") for name in (shape.members if shape else {})}
    assert options <= members | {"query", "output", "region", "cli-binary-format"}, options - members


def check_pip(words: list[str], page: Path) -> None:
    """The extras exist."""
    for extra in re.findall(r"asecretcache\[(\w+)\]", " ".join(words)):
        assert extra in PYPROJECT["project"]["optional-dependencies"]


def check_python(words: list[str], page: Path) -> None:
    """A script exists; a module of Python's own or of this project does."""
    if words[1] == "-m":
        assert words[2] in {"asecretcache", "compileall", "zipfile"}
    elif words[1] == "-c":
        compile(words[2], str(page), "exec")
    else:
        assert (CHECKOUT / words[1]).is_file()


def check_pytest(words: list[str], page: Path) -> None:
    """Its files exist."""
    for word in words[1:]:
        assert word.startswith("-") or list(CHECKOUT.glob(word)), word


def check_asecretcache(words: list[str], page: Path) -> None:
    """The command line knows the command, and its options by ``--help``."""
    options = [word for word in words[2:] if word.startswith("--")]
    command = [sys.executable, "-P", "-m", "asecretcache", words[1], "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert all(option in shown for option in options), options


CHECKS: dict[str, Callable[[list[str], Path], None]] = {
    "asecretcache": check_asecretcache,
    "aws": check_aws,
    "make": check_make,
    "pip": check_pip,
    "pytest": check_pytest,
    "python": check_python,
    "python3.13": check_python,
    **{name: lambda words, page: None for name in TOOLS},
}


@pytest.mark.parametrize(("page", "block"), blocks("sh"))
def test_a_pages_commands_exist(page: Path, block: str) -> None:
    """What can't run here, since it needs AWS or a network, is at least spelled right."""
    for words in commands(block):
        if words[0] in SUBCOMMANDS:
            assert words[1] in SUBCOMMANDS[words[0]], words
        else:
            CHECKS[words[0]](words, page)


@pytest.mark.parametrize(("page", "block"), blocks("console"))
def test_what_a_page_shows_of_the_command_line_is_printed(page: Path, block: str) -> None:
    """``policy`` prints all of it; ``cost`` prints its assumptions besides. ``doctor`` shows times, which differ."""
    for prompt, shown in re.findall(r"^\$ (asecretcache .*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
        words = shlex.split(prompt)
        check_asecretcache(words, page)
        if words[1] in {"policy", "cost"}:
            command = [sys.executable, "-P", "-m", *words]
            printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
            assert printed.startswith(shown.rstrip())


@pytest.mark.parametrize(("page", "block"), [*blocks("json"), *blocks("toml")])
def test_a_pages_data_can_be_parsed(page: Path, block: str) -> None:
    """JSON and TOML are what they say."""
    assert json.loads(block) if block.lstrip().startswith("{") else tomllib.loads(block)


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(CHECKOUT))) for page in PAGES])
def test_a_pages_links_lead_somewhere(page: Path) -> None:
    """To files of the project, relative or by the repository's address; docs/ has no relative link out of itself."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path = target.partition("#")[0]
        if path.startswith(FILES):
            assert (CHECKOUT / path.removeprefix(FILES)).exists(), target
        elif path and not path.startswith(("https://", "http://", "mailto:")):
            assert (page.parent / path).exists(), target
            assert page.parent.name != "docs" or not path.startswith("../"), target


def test_a_method_that_a_page_names_exists() -> None:
    """Of `cache`, wherever it isn't another client's."""
    others = {"get_secret_string", "refresh_secret_now"}
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"\bcache\.(\w+)\(", text)) - others

    assert len(named) > 10
    assert [name for name in named if not hasattr(SecretCache, name)] == []


def test_the_texts_of_errors_are_those_that_the_questions_quote() -> None:
    """People search for them."""
    page = (CHECKOUT / "docs" / "faq.md").read_text(encoding="utf-8")
    source = "".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "asecretcache").rglob("*.py"))
    quoted = re.findall(r"^\*\*`(\w+Error)(?:: (?:\.\.\. )?([^`]+))?`", page, re.MULTILINE)

    assert len(quoted) > 8
    ours = [(kind, text) for kind, text in quoted if hasattr(asecretcache, kind)]
    assert len(ours) > 6
    assert [text for _, text in ours if text not in source] == []


def test_the_projects_addresses_are_the_same_everywhere() -> None:
    """pyproject.toml, the site's settings, and no other repository of this name."""
    settings = (CHECKOUT / "mkdocs.yml").read_text(encoding="utf-8")

    assert f"repo_url: {REPOSITORY}\n" in settings
    assert f"site_url: {PYPROJECT['project']['urls']['Documentation']}\n" in settings
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"https://github\.com/[\w-]+/asecretcache\b", texts)) == {REPOSITORY}


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Every page is in the navigation, every public name in the reference, and nothing is loaded from elsewhere."""
    for name in ("docs", "asecretcache"):
        shutil.copytree(CHECKOUT / name, tmp_path / name)
    shutil.copy(CHECKOUT / "mkdocs.yml", tmp_path)
    command = [sys.executable, "-P", "-m", "zensical", "build", "--strict"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr

    site = tmp_path / "build" / "site"
    navigation = re.findall(r": (\S+\.md)$", (CHECKOUT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(navigation) == sorted(page.name for page in (CHECKOUT / "docs").glob("*.md"))
    reference = (site / "reference" / "index.html").read_text(encoding="utf-8")
    for page in navigation:
        name = page.removesuffix(".md")
        html = (site / ("" if name == "index" else name) / "index.html").read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?([^\s\">]+)", html)
        loaded += re.findall(r"<link[^>]* rel=\"?(?:stylesheet|preload|preconnect)\"?[^>]* href=\"?([^\s\">]+)", html)
        assert loaded
        assert [address for address in loaded if address.startswith(("http", "//"))] == []
    public = re.findall(
        r'^    "(\w+)",$', (CHECKOUT / "asecretcache/__init__.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [
        name
        for name in public
        if f'id="asecretcache.{name}"' not in reference and f"id=asecretcache.{name}" not in reference
    ] == []
