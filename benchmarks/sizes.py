"""What a deployment package weighs: size, zipped size, distributions, and the time of the imports, by its contents.

python benchmarks/sizes.py

Each set is installed with pip into a folder of its own, so it needs a package index. The import is that of the package
and of what its source needs before the first call, in a new process, less a process that imports nothing: the median,
and in brackets the range. Then the same without bytecode, as the median of the ratios of pairs: Lambda's file system
is read-only, so a package without bytecode is compiled at each cold start.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

from figures import table

ROOT = Path(__file__).resolve().parent.parent
RUNS = 15


class Set(NamedTuple):
    """What is installed, and what a function imports of it.

    Attributes:
        packages: pip's arguments.
        imports: the code.
    """

    packages: tuple[tuple[str, ...], ...]
    imports: str


SDK = "from asecretcache import SecretsManagerSource; SecretsManagerSource().prepare()"
DIRECT = "from asecretcache import DirectSource; DirectSource()"
SETS = {
    "asecretcache": Set(((str(ROOT),),), SDK),
    "asecretcache[direct], DirectSource": Set(((f"{ROOT}[direct]",),), DIRECT),
    "asecretcache, anyio and httptools alone": Set((("--no-deps", str(ROOT)), ("anyio", "httptools")), DIRECT),
    "aioboto3": Set((("aioboto3",),), "import aioboto3"),
    "boto3": Set((("boto3",),), "import boto3"),
}


def install(packages: tuple[str, ...], folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--target",
        str(folder),
    ]
    subprocess.run([*command, *packages], check=True, stderr=subprocess.DEVNULL)


def weigh(folder: Path) -> tuple[int, int, int]:
    """Return the bytes of the files, of a zip of them, and the number of distributions; without bytecode."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    zipped = folder.parent / "package.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in files:
            archive.write(path, path.relative_to(folder))
    return sum(path.stat().st_size for path in files), zipped.stat().st_size, len(list(folder.glob("*.dist-info")))


def import_milliseconds(folder: Path, code: str) -> tuple[list[float], list[float]]:
    """Return the times of processes that import, with bytecode and without, less that of one that does nothing."""
    bare = folder.parent / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("__pycache__"))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(RUNS):
        for kept, each in zip(times, (folder, bare), strict=True):
            kept.append(process_milliseconds(each, code) - process_milliseconds(each, "pass"))
    return times


def process_milliseconds(folder: Path, code: str) -> float:
    """Return the time of a process that writes no bytecode."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    began = time.perf_counter()
    subprocess.run([sys.executable, "-S", "-P", "-c", code], env=environment, check=True)
    return (time.perf_counter() - began) * 1000


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):.{form}} ({min(values):.{form}}-{max(values):.{form}})"


def main() -> None:
    rows = []
    for name, each in SETS.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, "package")
            for packages in each.packages:
                install(packages, folder)
            size, zipped, count = weigh(folder)
            compiled, bare = import_milliseconds(folder, each.imports)
        ratios = [without / with_it for with_it, without in zip(compiled, bare, strict=True)]
        rows.append(
            (name, f"{size / 1e6:.1f}", f"{zipped / 1e6:.2f}", count, spread(compiled, "0f"), spread(ratios, "2f"))
        )
    print(table("Packages", ("", "MB", "MB zipped", "distributions", "import, ms", "without bytecode"), rows))


if __name__ == "__main__":
    main()
