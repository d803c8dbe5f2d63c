"""What the demo's functions talk to: a Secrets Manager that can be stopped, and a database that knows one password."""

from __future__ import annotations

import io
import json
import secrets
import threading
from collections import Counter
from typing import Any

NAME = "prod/db"
SECRETS = ("prod/db", "prod/api")


class Server:
    """moto's Secrets Manager in a thread, with the calls for values counted on their way in; and POST /login.

    Attributes:
        url: where it is.
        calls: the calls so far, by secret id.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self.calls: Counter[str] = Counter()
        self._password = ""
        self._application: Any = DomainDispatcherApplication(create_backend_app)
        self._port = 0
        self.start()
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the same port as before."""
        from werkzeug.serving import make_server

        self._server = make_server("127.0.0.1", self._port, self._answer, threaded=True)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def create_secrets(self) -> None:
        """Create the database's credentials and the key of an API."""
        self.change_password()
        self._client().create_secret(Name=NAME, SecretString=self._credentials())
        self._client().create_secret(Name="prod/api", SecretString=secrets.token_hex())

    def change_password(self) -> None:
        """The first step of a rotation: the database lets in the new password alone."""
        self._password = secrets.token_hex()

    def store_password(self) -> None:
        """The last step of a rotation: Secrets Manager returns the new password."""
        self._client().put_secret_value(SecretId=NAME, SecretString=self._credentials())

    def _credentials(self) -> str:
        return json.dumps({"user": "app", "password": self._password})

    def _client(self) -> Any:
        import boto3

        return boto3.client("secretsmanager", endpoint_url=self.url)

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if environ["PATH_INFO"] == "/login":
            start_response("200 OK" if body.decode() == self._password else "401 Unauthorized", [])
            return [b""]
        if environ.get("HTTP_X_AMZ_TARGET") == "secretsmanager.GetSecretValue":
            self.calls[json.loads(body)["SecretId"]] += 1
        environ["wsgi.input"] = io.BytesIO(body)
        return self._application(environ, start_response)
