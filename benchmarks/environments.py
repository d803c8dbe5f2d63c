"""An environment for each peer, under build/bench/: a virtual environment, or a folder with node_modules."""

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
    """A peer that is installed.

    Attributes:
        peer: the peer.
        executable: its Python or Node.
        folder: its environment.
        versions: the versions of its packages, by name.
    """

    peer: Peer
    executable: Path
    folder: Path
    versions: Mapping[str, str]

    def python(self, *arguments: str) -> list[str]:
        """Return a command of the environment's Python. With -P it can't find this checkout instead of the wheel."""
        return [str(self.executable), "-P", *arguments]

    def command(self, probe: str, *arguments: object) -> list[str]:
        """Return the command that runs a probe with this peer's client."""
        rest = [str(argument) for argument in arguments]
        if self.peer.kind == "node":
            task = probe.removesuffix(".py")
            return [str(self.executable), str(self.folder / "node.cjs"), task, f"./{self.peer.client}", *rest]
        return self.python(str(PROBES / probe), self.peer.client, *rest)


class MissingError(Exception):
    """A peer can't be measured, for the reason in the message."""


class Environments:
    """Makes the environments. One that exists is used again if its requirements and the wheel are the same.

    Args:
        wheel: the wheel of asecretcache.
        python: the interpreter of the virtual environments.
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
        """Install a peer, and return it.

        Raises:
            MissingError: it can't be installed, or lacks the attribute that it needs.
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
            # Node looks for packages next to the file that requires them.
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
        # pip prints warnings before the error.
        relevant = [line for line in lines if "error" in line.lower()] or lines or ["it failed without a message"]
        raise MissingError(relevant[-1].strip())


def _virtual(python: str, folder: Path, packages: Sequence[str]) -> None:
    # Without pip and setuptools, whose .pth file would slow down each process of the environment.
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
    # Only the probe of warm reads imports uvloop.
    _run([*pip, "install", "--quiet", *packages, "uvloop; sys_platform != 'win32'"], folder)


def _python_versions(folder: Path) -> dict[str, str]:
    script = (
        "import importlib.metadata as m, json, platform;"
        "print(json.dumps({'python': platform.python_version(), **{d.name: d.version for d in m.distributions()}}))"
    )
    output = subprocess.run([folder / "bin/python", "-c", script], capture_output=True, text=True, check=True).stdout
    versions: dict[str, str] = json.loads(output)
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
    output = subprocess.run([_found("node"), "--version"], capture_output=True, text=True, check=True).stdout
    return {"node": output.strip().removeprefix("v"), **versions}
