"""The package as a whole: what it exports and imports, what the wheel holds, what the checkout says."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import asecretcache

PACKAGE = Path(asecretcache.__file__).parent
CHECKOUT = Path(__file__).resolve().parent.parent

# From the lowest up. A module imports from its own layer, without cycles, and from those below.
LAYERS = (
    {"_exceptions"},
    {"_models", "_references", "_reading"},
    {"_core"},
    {"_sources", "testing"},
    {"_cache", "_inject"},
    {"_lambda"},
    {""},
)

MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """Name a module inside the package: ``_sources._protocol``; the package itself is the empty name."""
    return ".".join(path.with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def layer(module: str) -> int:
    part = module.partition(".")[0]
    return next((number for number, layer in enumerate(LAYERS) if part in layer), -1)


def imported(path: Path) -> Iterator[str]:
    """Name the modules of the package that a module imports, anywhere in its code."""
    names = {dotted(other) for other in MODULES}
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
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


def texts() -> Iterator[tuple[Path, str]]:
    """Read every file of the checkout that people write."""
    for path in sorted(CHECKOUT.rglob("*")):
        parts = path.relative_to(CHECKOUT).parts
        hidden = (part for part in parts if part.startswith(".") and part not in {".ci", ".github", ".gitignore"})
        made = {"build", "dist", "__pycache__", "LICENSE"} & set(parts)
        if path.is_file() and not made and not any(hidden):
            yield path.relative_to(CHECKOUT), path.read_text(encoding="utf-8", errors="replace")


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
    """A module stands in a layer, and imports nothing from a higher one."""
    module = dotted(path)

    assert layer(module) >= 0, f"{path} is in no layer"
    assert [name for name in imported(path) if layer(name) > layer(module)] == []


def test_imports_have_no_cycles() -> None:
    """No module needs itself, be it by way of others."""
    TopologicalSorter({dotted(path): set(imported(path)) for path in MODULES}).prepare()


def test_wheel_holds_the_marker_of_types() -> None:
    """Type checkers read the annotations of an installed package only if py.typed is in it."""
    files = {str(path) for path in importlib.metadata.files("asecretcache") or ()}

    assert "asecretcache/py.typed" in files


def test_wheel_holds_the_package_alone() -> None:
    """Neither tests nor tools are installed with the package."""
    tops = {path.parts[0] for path in importlib.metadata.files("asecretcache") or ()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"asecretcache"}


def test_wheel_holds_every_module_of_the_checkout() -> None:
    """What is tested is what is written: the wheel is neither old nor incomplete."""
    source = CHECKOUT / "asecretcache"
    written = {path.relative_to(source): path.read_bytes() for path in source.rglob("*.py")}

    assert {path: (PACKAGE / path).read_bytes() for path in MODULES} == written


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
