"""The recipes of docs/lean.md, run with pip and uv and without a network; a pytest plugin.

They install wheels that are made of what is installed beside the tests: the same files and metadata.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
#: What a lean package has: anyio needs idna, and typing_extensions before Python 3.15.
DISTRIBUTIONS = ["anyio", "asecretcache", "httptools", "idna", "typing_extensions"]
#: What Lambda has in /var/runtime.
RUNTIME = ["awslambdaric", "simplejson", "snapshot-restore-py"]
#: pip writes them itself.
_OF_THE_INSTALLER = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"}


def block(heading: str, language: str) -> str:
    """Return a block of the page, under a heading."""
    page = (CHECKOUT / "docs" / "lean.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {heading}\n(?:(?!## )[^\n]*\n)*?```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found, (heading, language)
    return found[1]


def make_wheel(name: str, folder: Path) -> Path:
    """Make a wheel of an installed distribution, by its RECORD."""
    distribution = importlib.metadata.distribution(name)
    wheel = distribution.read_text("WHEEL")
    assert wheel is not None
    tag = re.findall(r"^Tag: (.*)$", wheel, re.MULTILINE)[0]
    path = folder / f"{name.replace('-', '_')}-{distribution.version}-{tag}.whl"
    rows = io.StringIO()
    with zipfile.ZipFile(path, "w") as archive:
        for file in distribution.files or ():
            is_made = ".." in file.parts or "__pycache__" in file.parts
            if is_made or (file.parent.suffix == ".dist-info" and file.name in _OF_THE_INSTALLER):
                continue
            archive.write(file.locate(), str(file))
            digest = f"{file.hash.mode}={file.hash.value}" if file.hash else ""
            csv.writer(rows).writerow([str(file), digest, file.size])
            if file.name == "WHEEL":
                record = str(file.with_name("RECORD"))
        csv.writer(rows).writerow([record, "", ""])
        archive.writestr(record, rows.getvalue())
    return path


class Workshop:
    """A folder in which recipes run, with pip, uv and python on PATH.

    Args:
        folder: where the recipes run; it has app.py, the handler of the README.
        wheels: a folder for those that are installed.
        pip: what runs as pip; ``uv pip`` takes a fifth of the time.
    """

    def __init__(self, folder: Path, wheels: Path, pip: str = "uv pip") -> None:
        self.folder = folder
        readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
        handler = readme[readme.index("## A handler") :].split("```python\n")[1].split("```")[0]
        (folder / "app.py").write_text(handler, encoding="utf-8")
        if not list(wheels.glob("*.whl")):
            for name in DISTRIBUTIONS:
                make_wheel(name, wheels)
        commands = folder / "bin"
        commands.mkdir()
        for name, command in {"python": "", "pip": f"-m {pip}", "uv": "-m uv"}.items():
            (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} -P {command} "$@"\n', encoding="utf-8")
            (commands / name).chmod(0o755)
        others = ("PIP_", "UV_", "PYTHON", "MAKE", "VIRTUAL_ENV")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(others)},
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_NO_INDEX": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
            "UV_FIND_LINKS": str(wheels),
            "UV_NO_CACHE": "1",
            "UV_NO_CONFIG": "1",
            "UV_NO_INDEX": "1",
            "UV_OFFLINE": "1",
        }

    def run(self, *command: str, environ: Mapping[str, str] | None = None) -> None:
        """Run a command, which must succeed."""
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env={**self._environment, **(environ or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    def zipped(self, heading: str, archive: str) -> Path:
        """Run a recipe of the shell, and return what its zip unpacks to."""
        self.run("sh", "-euc", block(heading, "sh"))
        return self.unpacked(archive)

    def unpacked(self, archive: str) -> Path:
        """Return a folder with the content of a zip; the files' times are lost, as on the way to Lambda."""
        target = self.folder / "unpacked"
        with zipfile.ZipFile(self.folder / archive) as file:
            file.extractall(target)
        return target

    def built_by_sam(self) -> Path:
        """Run the recipe of SAM as ``sam build`` does, and return the folder that it would deploy."""
        (self.folder / "Makefile").write_text(block("SAM", "make"), encoding="utf-8")
        artifacts = self.folder / "artifacts"
        artifacts.mkdir()
        self.run("make", "build-Function", environ={"ARTIFACTS_DIR": str(artifacts)})
        return artifacts

    def built_by_docker(self) -> Path:
        """Do what the lines of the Dockerfile say, without a container, and return the folder of the function."""
        root = self.folder / "task"
        root.mkdir()
        environ = {"LAMBDA_TASK_ROOT": str(root)}
        for line in block("Container image", "dockerfile").splitlines():
            instruction, _, rest = line.partition(" ")
            if instruction == "RUN":
                self.run("sh", "-euc", rest, environ=environ)
            elif instruction == "COPY":
                source, target = rest.replace("${LAMBDA_TASK_ROOT}", str(root)).split()
                shutil.copy(self.folder / source, target)
            elif instruction == "CMD":
                assert json.loads(rest) == ["app.lambda_handler"]
            else:
                assert line in {"FROM public.ecr.aws/lambda/python:3.13", "ENV ASECRETCACHE_SOURCE=direct"}
        return root


@pytest.fixture(scope="session")
def lean_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the wheels of the recipes."""
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="session")
def lean_package(lean_wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the zip that the recipe of uv makes."""
    return Workshop(tmp_path_factory.mktemp("lean"), lean_wheels).zipped("uv", "package.zip")


@pytest.fixture(scope="session")
def lambda_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Lambda's runtime client alone, as /var/runtime."""
    folder = tmp_path_factory.mktemp("runtime")
    for name in RUNTIME:
        with zipfile.ZipFile(make_wheel(name, folder)) as wheel:
            wheel.extractall(folder)
    return folder
