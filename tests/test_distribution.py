"""What is published: an sdist that has everything, and a wheel; the same bytes each time they are built."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import asecretcache

CHECKOUT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))


def run(*arguments: object, cwd: Path = CHECKOUT) -> str:
    command = [sys.executable, "-P", "-m", *map(str, arguments)]
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    run("build", "--no-isolation", "--outdir", folder)
    return folder


@pytest.fixture(scope="module")
def sdist(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    [archive] = built.glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    [top] = folder.iterdir()
    return top


def test_the_index_takes_both(built: Path) -> None:
    """The metadata is whole and the README renders; the wheel has this package and nothing else."""
    assert run("twine", "check", "--strict", *built.iterdir()).count("PASSED") == 2
    # W004: pytest's plugin is a module of its own, since loading it must not import the package.
    assert "OK" in run(
        "check_wheel_contents", "--toplevel", "asecretcache,pytest_asecretcache.py", *built.glob("*.whl")
    )


def test_what_is_built_again_is_the_same(built: Path, sdist: Path, tmp_path: Path) -> None:
    """From the sdist, in another folder: byte for byte."""
    run("build", "--no-isolation", "--outdir", tmp_path, cwd=sdist)

    def hashes(folder: Path) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    assert len(hashes(built)) == 2
    assert hashes(tmp_path) == hashes(built)


def test_the_sdist_has_all_that_its_tests_need(sdist: Path) -> None:
    """Each file of the checkout that isn't made by a tool; and tests pass there."""
    made = re.compile(r"__pycache__|\.(?!ci|github).*|build|dist|mutants")
    checkout = set()
    for folder, folders, files in os.walk(CHECKOUT):
        folders[:] = [name for name in folders if not made.fullmatch(name)]
        checkout |= {Path(folder, name).relative_to(CHECKOUT) for name in files if not made.fullmatch(name)}
    unpacked = {path.relative_to(sdist) for path in sdist.rglob("*") if path.is_file()}

    assert len(checkout) > 300
    assert checkout - unpacked == set()
    # Not the tests of this module, which would build without end.
    ended = run("pytest", "-q", "-p", "no:cacheprovider", "tests/test_models.py", "tests/test_references.py", cwd=sdist)
    assert " passed" in ended


def test_the_readme_of_the_index_has_no_relative_link(built: Path) -> None:
    """They lead to the repository's files."""
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()

    links = re.findall(r"\]\(([^)]+)\)", metadata)
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_version_is_one() -> None:
    """Of pyproject.toml and the package."""
    assert PYPROJECT["project"]["version"] == asecretcache.__version__


def test_the_release_tests_each_python_that_is_claimed() -> None:
    """The workflow's matrix and the classifiers; zizmor finds nothing in the workflow."""
    workflow = (CHECKOUT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    claimed = [
        name.rpartition(" ")[2] for name in PYPROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", name)
    ]

    assert f"python: {claimed}".replace("'", '"') in workflow
    program = Path(sys.executable).parent / "zizmor"
    ended = subprocess.run(
        [program, "--offline", "--quiet", CHECKOUT / ".github"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
