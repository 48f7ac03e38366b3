"""Amazon's services as moto imitates them: a server of its own, with users and signed notices.

`test_moto` calls it by our adapters. After `prove_signatures` it computes every signature again by
Amazon's own library (botocore), and looks for every permission in the user's policy, as Amazon
would. What a test needs first (an identity, a topic, a user) is asked for here, as the services'
references have it.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from comms.platform.settings import Secret
from comms.stack.process import free_port
from consumers.vendors import sigv4
from tests.counterparts.running import Running, listens

REGION = "eu-west-1"
SECONDS = 20.0  # of a call


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who may do something there."""

    key_id: str
    key: str

    @property
    def environment(self) -> dict[str, str]:
        """Its secrets as adapters look for them."""
        return {"AWS_ACCESS_KEY_ID": self.key_id, "AWS_SECRET_ACCESS_KEY": self.key}

    @property
    def credentials(self) -> sigv4.Credentials:
        """The same, to sign with."""
        return sigv4.Credentials(key_id=Secret(self.key_id), key=Secret(self.key), token=None)


class Moto(Running):
    """The server.

    Args:
        folder: for its log.
    """

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._owner = User(key_id="anybody", key="anything")
        argv = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
        super().__init__("moto", argv, folder=folder, answers=lambda: listens(port))

    def user(self, *actions: str) -> User:
        """A user that may do `actions` and nothing else."""
        name = f"user-{os.urandom(4).hex()}"
        self.form("iam", "CreateUser", UserName=name)
        allowed = {"Effect": "Allow", "Resource": "*", "Action": list(actions)}
        policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        self.form("iam", "PutUserPolicy", UserName=name, PolicyName="only", PolicyDocument=policy)
        made = self.form("iam", "CreateAccessKey", UserName=name)
        return User(key_id=element(made, "AccessKeyId"), key=element(made, "SecretAccessKey"))

    def prove_signatures(self) -> None:
        """From now on nothing is done for those who cannot prove that they may ask for it."""
        self._owner = self.user("*")
        self.call("POST", "/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})

    def form(self, service: str, action: str, **fields: str) -> str:
        """What a service with a query protocol answers."""
        body = urlencode({"Action": action, **fields}).encode()
        return self.call(
            "POST",
            "/",
            body,
            {"Content-Type": "application/x-www-form-urlencoded"},
            service=service,
        )

    def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        service: str | None = None,
    ) -> str:
        """An answer's text; `service` is whom the signature names, by which moto tells them apart.

        Raises:
            OSError: it was refused.
        """
        sent = dict(headers or {})
        if service is not None:
            sent = sigv4.signed(
                method,
                f"{self.url}{path}",
                headers=sent,
                body=body,
                service=sigv4.Service(name=service, region=REGION),
                credentials=self._owner.credentials,
                now=datetime.now(UTC),
            )
        asked = Request(f"{self.url}{path}", body or None, sent, method=method)  # noqa: S310
        with urlopen(asked, timeout=SECONDS) as answer:  # noqa: S310 - our own server
            return bytes(answer.read()).decode()

    def certificate(self, url: str) -> bytes:
        """What Amazon would serve at `url`."""
        return self.call("GET", urlsplit(url).path, service="sns").encode()

    def kept(self, service: str, kind: str) -> list[dict[str, Any]]:
        """What it remembers of a kind."""
        found = json.loads(self.call("GET", "/moto-api/data.json"))
        return list(found.get(service, {}).get(kind, []))


def element(text: str, name: str) -> str:
    """The text of the one element of that name."""
    (found,) = re.findall(rf"<{name}>([^<]*)</{name}>", text)
    return str(found)
