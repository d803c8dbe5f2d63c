"""A Lambda execution environment on this machine: AWS's own runtime client against a stand-in for the Runtime API.

The stand-in answers what the runtime client asks, and no more: next invocation, its response or error, the error of an
INIT, and the restore of a snapshot. See https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

_API = "/2018-06-01/runtime/"
_ARN = "arn:aws:lambda:eu-west-1:123456789012:function:local"


class Outcome(NamedTuple):
    """What an invocation, or an INIT that failed, reported: a payload, or an error with errorType and errorMessage."""

    payload: Any
    error: dict[str, Any] | None


class _Invocation(NamedTuple):
    request_id: str
    event: Any
    timeout: float


class _RuntimeApi(ThreadingHTTPServer):
    """Hands invocations to one runtime client and collects what it answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.invocations: queue.Queue[_Invocation | None] = queue.Queue()
        self.outcomes: queue.Queue[Outcome] = queue.Queue()
        self.ready = threading.Event()
        self.snapshot = threading.Event()
        self.restore = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be quiet about a runtime client that was ended in the middle of a request."""


class _Handler(BaseHTTPRequestHandler):
    server: _RuntimeApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == f"{_API}restore/next":
            self.server.snapshot.set()
            self.server.restore.wait()
            self._answer(200)
            return
        self.server.ready.set()
        invocation = self.server.invocations.get()
        if invocation is None:
            self.close_connection = True
            return
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            # The time runs from here: what INIT takes isn't the invocation's.
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + invocation.timeout) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": _ARN,
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
            "Content-Type": "application/json",
        }
        self._answer(200, json.dumps(invocation.event).encode(), headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = json.loads(body) if body else None
        is_error = self.path.endswith("/error")
        self._answer(202)
        self.server.outcomes.put(Outcome(None, said) if is_error else Outcome(said, None))
        self.server.ready.set()

    def _answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: the demo and the tests print what matters."""


class LambdaEnvironment:
    """One execution environment: start it, invoke it, end it; it is a context manager.

    Arguments:
        handler: as Lambda has it, ``module.function``.
        folder: where the module lies.
        environ: variables of the function, over those of this process.
    """

    def __init__(self, handler: str, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self._api = _RuntimeApi()
        self._thread = threading.Thread(target=self._api.serve_forever, daemon=True)
        self._thread.start()
        self._count = 0
        # -P: what is imported is the installed package. The function's folder is the first of PYTHONPATH, as in Lambda.
        command = [sys.executable, "-P", "-m", "awslambdaric", handler]
        variables = {
            # What this process may itself have from Lambda isn't the function's.
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_LAMBDA_")},
            # By this name the runtime client decides whether it polls in a thread of its own.
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info[0]}.{sys.version_info[1]}",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "local",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])),
            **(environ or {}),
        }
        # With AWS_LAMBDA_MAX_CONCURRENCY, as on Managed Instances, the runtime client forks a worker for each request
        # that may come at a time, and doesn't take them with it when it is ended.
        self._forks = "AWS_LAMBDA_MAX_CONCURRENCY" in variables
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0 if self._forks else None,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            # The runtime client parts the lines of one error by carriage returns.
            self._lines.extend(stdout)
        self._api.ready.set()
        self._api.outcomes.put(Outcome(None, {"errorType": "Runtime.ExitError", "errorMessage": "the process ended"}))

    @property
    def log(self) -> str:
        """What the function has printed and logged; complete once the environment is closed."""
        return "".join(self._lines)

    def wait_for_init(self, seconds: float = 30) -> None:
        """Return when INIT is over: the runtime client asks for its first invocation, or has failed."""
        if not self._api.ready.wait(seconds):
            raise TimeoutError("INIT isn't over")

    def wait_for_snapshot(self, seconds: float = 30) -> None:
        """Return when the runtime client has run the hooks before the snapshot, and waits to be restored."""
        if not self._api.snapshot.wait(seconds):
            raise TimeoutError("the environment isn't ready for its snapshot")

    def restore(self) -> None:
        """Let an environment that waits in its snapshot go on."""
        self._api.restore.set()

    def send(self, event: Any, *, timeout: float = 30) -> None:
        """Send an event for which the function has ``timeout`` seconds."""
        self._count += 1
        self._api.invocations.put(_Invocation(f"request-{self._count}", event, timeout))

    def outcome(self, seconds: float = 60) -> Outcome:
        """Return what the function reported next."""
        return self._api.outcomes.get(timeout=seconds)

    def invoke(self, event: Any = None, *, timeout: float = 30) -> Outcome:
        """Send an event and return what the function made of it."""
        self.send(event, timeout=timeout)
        return self.outcome()

    def freeze(self) -> None:
        """Stop the process where it stands, as Lambda does between invocations; return when it stands still."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the process, whatever it is doing, and the stand-in."""
        if self._forks:
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self._api.invocations.put(None)
        self._api.shutdown()
        self._api.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
