"""An environment for each peer, under build/bench/: a virtual one without pip, or a folder of Node's."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peers import WHEEL, Peer

HERE = Path(__file__).parent
CLIENTS, PROBES = HERE / "clients", HERE / "probes"
ROOT = HERE.parent / "build" / "bench"


@dataclass(frozen=True)
class Installed:
    """A peer and how to run it."""

    peer: Peer
    executable: Path
    folder: Path
    versions: Mapping[str, str]

    def python(self, *arguments: str) -> list[str]:
        """The command that runs the environment's Python, which must not find this checkout instead of the wheel."""
        return [str(self.executable), "-P", *arguments]

    def command(self, probe: str, *arguments: object) -> list[str]:
        """The command that runs a probe for this peer's client."""
        rest = [str(argument) for argument in arguments]
        if self.peer.kind == "node":
            task = probe.removesuffix(".py")
            return [str(self.executable), str(self.folder / "node.cjs"), task, f"./{self.peer.client}", *rest]
        return self.python(str(PROBES / probe), self.peer.client, *rest)


class MissingError(Exception):
    """A peer can't be measured; the message says why."""


class Environments:
    """Installs peers, each environment once for as long as its requirements and the wheel stay the same.

    Arguments:
        wheel: of asecretcache.
        python: the interpreter that environments are made with.
    """

    def __init__(self, wheel: Path, python: str) -> None:
        self._wheel = wheel
        self._python = python
        version = "import sys; print('%s-%d.%d.%d' % (sys.implementation.name, *sys.version_info[:3]))"
        self._version = subprocess.run(
            [python, "-c", version], capture_output=True, text=True, check=True
        ).stdout.strip()
        self._made: dict[Path, str | MissingError] = {}

    def install(self, peer: Peer) -> Installed:
        """Return how to run the peer.

        Raises:
            MissingError: it can't be installed, or lacks what is to be measured.
        """
        folder = ROOT / ("node" if peer.kind == "node" else self._version) / peer.folder
        packages = [package.replace(WHEEL, str(self._wheel)) for package in peer.packages]
        if folder not in self._made:
            contents = self._wheel.read_bytes() if str(self._wheel) in packages[0] else b""
            key = hashlib.sha256(repr([packages, self._version]).encode() + contents).hexdigest()
            stamp = folder / "made.stamp"
            try:
                if not stamp.is_file() or stamp.read_text() != key:
                    shutil.rmtree(folder, ignore_errors=True)
                    if peer.kind == "node":
                        _node(folder, packages)
                    else:
                        _virtual(self._python, folder, packages)
                    stamp.write_text(key)
                self._made[folder] = key
            except MissingError as exc:
                self._made[folder] = exc
        made = self._made[folder]
        if isinstance(made, MissingError):
            raise made
        if peer.kind == "node":
            # Node finds packages next to the file that asks for them.
            for file in (CLIENTS / peer.client, PROBES / "node.cjs"):
                shutil.copy(file, folder)
            return Installed(peer, Path(_found("node")), folder, _node_versions(folder, packages))
        installed = Installed(peer, folder / "bin" / "python", folder, _python_versions(folder))
        if peer.needs:
            module, _, name = peer.needs.rpartition(".")
            check = f"import {module}; {peer.needs}"
            if subprocess.run(installed.python("-c", check), capture_output=True, check=False).returncode:
                raise MissingError(f"{module} {installed.versions.get(module, '')} has no {name}")
        return installed


def _run(command: Sequence[str | Path], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
        # pip warns of much before it says what failed.
        told = [line for line in lines if "error" in line.lower()] or lines or ["it failed without a word"]
        raise MissingError(told[-1].strip())


def _virtual(python: str, folder: Path, packages: Sequence[str]) -> None:
    # Without pip and setuptools, whose .pth file would slow every process of the environment down.
    _run([python, "-m", "venv", "--without-pip", folder], ROOT)
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "--python",
        folder / "bin/python",
    ]
    # uvloop is for the loops that hits are measured on; nothing imports it by itself.
    _run([*pip, "install", "--quiet", *packages, "uvloop; sys_platform != 'win32'"], folder)


def _python_versions(folder: Path) -> dict[str, str]:
    script = (
        "import importlib.metadata as m, json, platform;"
        "print(json.dumps({'python': platform.python_version(), **{d.name: d.version for d in m.distributions()}}))"
    )
    told = subprocess.run([folder / "bin/python", "-c", script], capture_output=True, text=True, check=True).stdout
    versions: dict[str, str] = json.loads(told)
    return versions


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise MissingError(f"there is no {program} on PATH")
    return path


def _node(folder: Path, packages: Sequence[str]) -> None:
    _found("node")
    npm = _found("npm")
    folder.mkdir(parents=True)
    (folder / "package.json").write_text('{"private": true}')
    _run([npm, "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", *packages], folder)


def _node_versions(folder: Path, packages: Sequence[str]) -> dict[str, str]:
    versions = {}
    for package in packages:
        name = package[0] + package[1:].partition("@")[0]
        versions[name] = json.loads((folder / "node_modules" / name / "package.json").read_text())["version"]
    told = subprocess.run([_found("node"), "--version"], capture_output=True, text=True, check=True).stdout
    return {"node": told.strip().removeprefix("v"), **versions}
