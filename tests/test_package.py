"""The package as a whole: what it exports and imports, what the wheel holds, and what the checkout says."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from fnmatch import fnmatchcase
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import asecretcache

PACKAGE = Path(asecretcache.__file__).parent
CHECKOUT = Path(__file__).resolve().parent.parent
TESTS = CHECKOUT / "tests"

# From the lowest up. A module imports from its own layer, without cycles, and from those below. The sources have layers
# of their own, of which only the cache and the entry points know.
CACHE_LAYERS = (
    {"_callables", "_exceptions", "_init_phase", "_loops", "_process_events", "_version"},
    {"_models", "_references"},
    {"_core.entries", "_core.freshness", "_core.options", "_core.outcome", "_core.stats", "_core.timeouts"},
    {"_core.batch_fetch", "_core.changes", "_core.fetch", "_core.observer"},
    {"_core.single_flight"},
    {"_core.loader"},
    {"_core.rotation", "_core.selection"},
    {"_events", "_inject", "_observing"},
    {"_cache"},
    {"_lambda.*"},
    {"emf", "otel", "testing", "testing.*"},
    {""},
    {"_cli.*"},
    {"__main__", "doctor"},
)
SOURCE_LAYERS = (
    {
        "_sources.error_mapping",
        "_sources.error_meanings",
        "_sources.exceptions",
        "_sources.log_redaction",
        "_sources.loop_clients",
        "_sources.protocols",
        "_sources.responses",
        "_sources.retry_quota",
        "_sources.threads",
        "_sources.tls_context",
    },
    {"_sources.regional_clients"},
    {"_sources.client_source", "_sources.preparation"},
    {"_sources.fallback"},
    {"_sources.sdk.*"},
    {"_sources.direct.*"},
    {"_sources.agent.*"},
)
SHARED_WITH_SOURCES = CACHE_LAYERS[0] | {"_core.options", "_core.timeouts", "_models"}
KNOW_SOURCES = {
    "_cache",
    "_lambda.default",
    "",
    "_cli.doctor.context",
    "_cli.doctor.identity",
    "_cli.doctor.installation",
    "_cli.doctor.network",
    "_cli.doctor.responses",
    "_cli.doctor.secrets",
    "_cli.doctor.settings",
    "_cli.doctor.source_choice",
}
#: A folder's own module, which holds nothing.
EMPTY = {"_cli", "_cli.doctor", "_core", "_lambda", "_sources", "_sources.agent", "_sources.direct", "_sources.sdk"}
PLUGIN = "pytest_asecretcache.py"

MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
TEST_FILES = sorted(path.relative_to(TESTS) for path in TESTS.rglob("*.py"))

#: Names with an underscore that their libraries document as public; and the attribute of asyncio's tasks without which
#: it warns when a test closes a loop under its own tasks: asyncio.gather sets it too, and there is no public way.
PUBLIC = {"_asdict", "_exit", "_field_defaults", "_fields", "_log_destroy_pending", "_make", "_replace"}
#: Files of tests that reach into privates, with the names and the reason.
PRIVATES: dict[str, set[str]] = {
    # The seam by which all other tests look into a cache.
    "observe.py": {"_loader"},
    # As a task on a loop of another library does, whose coroutines asyncio doesn't know.
    "core/test_single_flight_loops.py": {"_set_running_loop"},
    # A helper of the same folder.
    "simulation/test_simulation.py": {"_text"},
    # What the package patches of the SDK and of aiohttp is private there; these tests fail when it is gone.
    "sources/sdk/test_client_factory.py": {"_endpoint", "_session"},
    "sources/sdk/test_credentials.py": {"_access_key"},
    "sources/sdk/test_http_session.py": {"_factory"},
    "sources/sdk/test_patches.py": {
        "_acquired",
        "_call_connection_lost",
        "_components",
        "_conns",
        "_endpoint",
        "_fetcher",
        "_proxies",
        "_role_fetcher",
        "_session",
        "_sessions",
        "_sock",
        "_ssl_protocol",
        "_transport",
    },
    # Where the SDK looks for logins; there is no setting for it.
    "sources/test_both_sources_connections.py": {"_SSO_TOKEN_CACHE_DIR"},
}


def dotted(path: Path) -> str:
    """Name a module inside the package: ``_sources.protocols``; the package itself is the empty name."""
    return ".".join(path.with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def layer(module: str, layers: tuple[set[str], ...]) -> int:
    """Return the number of a module's layer, -1 if it is in none."""
    matches = (number for number, names in enumerate(layers) if any(fnmatchcase(module, name) for name in names))
    return next(matches, -1)


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """List the syntax tree of a file."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported(path: Path) -> Iterator[str]:
    """Name the modules of the package that a module imports, anywhere in its code."""
    names = {dotted(other) for other in MODULES}
    for node in nodes(PACKAGE / path):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            # What is imported from a package may be a module of it.
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in whole if name.removeprefix("asecretcache.") in names]
            found = modules if len(modules) == len(whole) else [*modules, node.module or ""]
        else:
            continue
        for name in found:
            if name.partition(".")[0] == "asecretcache":
                yield name.removeprefix("asecretcache").removeprefix(".")


def allowed(module: str, other: str) -> bool:
    """Whether the layers let a module import another one."""
    if module in EMPTY:
        return False
    is_source, is_of_source = module.startswith("_sources."), other.startswith("_sources.")
    if is_source and is_of_source:
        return layer(other, SOURCE_LAYERS) <= layer(module, SOURCE_LAYERS)
    if is_source:
        return other in SHARED_WITH_SOURCES
    if is_of_source:
        return module in KNOW_SOURCES
    return layer(other, CACHE_LAYERS) <= layer(module, CACHE_LAYERS)


@functools.cache
def texts() -> list[tuple[Path, str]]:
    """Read every file of the checkout that people write."""
    found = []
    for folder, folders, files in os.walk(CHECKOUT):
        # Before it goes down into them: an environment has ten thousands of files.
        folders[:] = sorted(name for name in folders if not is_made(name))
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_file() and not is_made(name):
                found.append((path.relative_to(CHECKOUT), path.read_text(encoding="utf-8", errors="replace")))
    return found


def is_made(name: str) -> bool:
    """Whether what has this name in the checkout is made by tools, or is another's text."""
    is_hidden = name.startswith(".") and name not in {".ci", ".github", ".gitignore"}
    return is_hidden or name in {"build", "dist", "mutants", "__pycache__", "LICENSE"}


def privates(path: Path) -> Iterator[tuple[int, str]]:
    """List the lines of a file of tests that use a private name of something else."""
    for node in nodes(TESTS / path):
        names: list[str] = []
        if isinstance(node, ast.Attribute):
            if not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}):
                names = [node.attr]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "asecretcache":
            # The paths of modules have underscores, and are no private names.
            folder = PACKAGE.joinpath(*(node.module or "").split(".")[1:])
            names = [alias.name for alias in node.names if not list(folder.glob(f"{alias.name}*"))]
        elif isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            # By its name as a string, as of setattr, getattr and mock.patch.object.
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            is_named = called in {"setattr", "getattr", "delattr", "hasattr", "object"}
            names = [str(node.args[1].value)] if is_named else []
        for name in names:
            if re.match(r"_(?!_)", name) and name not in PUBLIC:
                yield getattr(node, "lineno", 0), name


def test_the_tests_import_the_installed_wheel() -> None:
    """A file that the wheel lacks must fail the suite, so the checkout isn't what is imported: run ``make test``."""
    assert PACKAGE.parent == Path(sysconfig.get_path("purelib"))


def test_public_names_are_sorted_and_exist() -> None:
    """__all__ lists the public names in order, and each can be imported."""
    names = asecretcache.__all__

    assert list(names) == sorted(set(names))
    assert all(hasattr(asecretcache, name) for name in names)


def test_every_public_name_has_a_docstring() -> None:
    """help() has something to say on each public name."""
    assert [name for name in asecretcache.__all__ if not getattr(asecretcache, name).__doc__] == []


def test_version_is_the_distributions() -> None:
    """__version__ and the wheel's metadata agree."""
    assert asecretcache.__version__ == importlib.metadata.version("asecretcache")


@pytest.mark.parametrize("module", ["asecretcache", "asecretcache.testing"])
def test_import_loads_nothing_heavy(module: str) -> None:
    """A cold start pays for aioboto3 when a secret is fetched, not when the package is imported."""
    heavy = {"aioboto3", "aiobotocore", "aiohttp", "boto3", "botocore", "pydantic"}
    code = f"import sys, {module}; print(*sorted({heavy!r} & sys.modules.keys()))"

    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.split() == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_down_the_layers(path: Path) -> None:
    """A module stands in a layer and imports nothing from a higher one; the engine knows no source."""
    module = dotted(path)
    layers = SOURCE_LAYERS if module.startswith("_sources.") else CACHE_LAYERS

    assert module in EMPTY or layer(module, layers) >= 0, f"{path} is in no layer"
    assert [other for other in imported(path) if not allowed(module, other)] == []


def test_the_layers_name_only_modules_that_exist() -> None:
    """A module that is gone is gone from the table too."""
    names = {dotted(path) for path in MODULES}
    table = {name for layers in (CACHE_LAYERS, SOURCE_LAYERS) for names_ in layers for name in names_}

    assert [name for name in sorted(table) if not any(fnmatchcase(each, name) for each in names)] == []


def test_imports_have_no_cycles() -> None:
    """No module needs itself, be it by way of others."""
    TopologicalSorter({dotted(path): set(imported(path)) for path in MODULES}).prepare()


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_module_is_long(path: Path) -> None:
    """A module has at most 300 lines; SecretCache, whose methods have long docstrings, 500."""
    limit = 500 if path.name == "_cache.py" else 300

    assert len((PACKAGE / path).read_text(encoding="utf-8").splitlines()) <= limit


def test_wheel_holds_the_marker_of_types() -> None:
    """Type checkers read the annotations of an installed package only if py.typed is in it."""
    files = {str(path) for path in importlib.metadata.files("asecretcache") or ()}

    assert "asecretcache/py.typed" in files


def test_wheel_holds_the_package_alone() -> None:
    """Neither tests nor tools are installed with the package, pytest's plugin and the script of the command."""
    files = importlib.metadata.files("asecretcache") or ()
    tops = {path.parts[0] for path in files if path.parts[0] != ".."}

    assert {top for top in tops - {"__pycache__"} if not top.endswith(".dist-info")} == {"asecretcache", PLUGIN}
    assert {path.stem for path in files if path.parts[0] == ".."} == {"asecretcache"}


def test_wheel_holds_every_module_of_the_checkout() -> None:
    """The code that is tested is the code that was written: the wheel is neither old nor incomplete."""
    source = CHECKOUT / "asecretcache"
    written = {path.relative_to(source): path.read_bytes() for path in source.rglob("*.py")}

    assert {path: (PACKAGE / path).read_bytes() for path in MODULES} == written
    assert (PACKAGE.parent / PLUGIN).read_bytes() == (CHECKOUT / PLUGIN).read_bytes()


def test_changelog_tells_of_this_version() -> None:
    """CHANGELOG.md has a section for the version, or for what isn't released."""
    headings = re.findall(r"^## \[(.+?)\]", (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert {asecretcache.__version__, "Unreleased"} & set(headings)


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a path of somebody's machine", r"(?<![\w.}])/(?:home|root|work|tmp|Users)/\w"),
        ("the host of a package registry", r"\bpypi\.|pythonhosted\.org"),
        ("the number of an issue", r"(?<![\w&/])#\d+\b|\b(?:issues|pull)/\d+"),
        ("an exemption from a rule without the rule", r"#[ ]noqa(?!: [A-Z])|#[ ]type: ignore(?!\[)"),
        ("an exemption without a reason", r"#[ ](?:pragma: no \w+|noqa: [A-Z0-9, ]+|type: ignore\[[\w, -]+\])\s*$"),
    ],
)
def test_checkout_mentions_no(what: str, pattern: str) -> None:
    """What would mean nothing to other readers, or is an exemption that explains nothing, isn't written."""
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]

    assert found == [], what


@pytest.mark.parametrize("path", TEST_FILES, ids=str)
def test_tests_reach_into_no_privates(path: Path) -> None:
    """A test uses the public names of a module, or the seam in observe.py, so that the inside may change."""
    exempt = PRIVATES.get(path.as_posix(), set())
    found = list(privates(path))

    assert [f"{line}: {name}" for line, name in found if name not in exempt] == []
    assert exempt <= {name for _, name in found}, "an exemption that isn't needed"


@pytest.mark.parametrize("path", TEST_FILES, ids=str)
def test_tests_have_a_short_name_and_a_docstring(path: Path) -> None:
    """The name of a test has less than 70 characters, and its docstring states the behaviour."""
    tests = [
        node
        for node in nodes(TESTS / path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]

    assert [node.name for node in tests if len(node.name) >= 70] == []
    assert [node.name for node in tests if not ast.get_docstring(node)] == []


def test_the_picture_of_the_layers_shows_every_module() -> None:
    """docs/how-it-works.md has one picture, which is drawn by hand."""
    picture = (CHECKOUT / "docs/pictures/layers.svg").read_text(encoding="utf-8")
    modules = {path.stem for path in MODULES} - {"__init__"}

    assert {module for module in modules if not re.search(rf"(?<!\w){module}(?!\w)", picture)} == set()
