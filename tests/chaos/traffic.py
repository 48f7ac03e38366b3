"""Steady traffic on all channels, from a client that retries.

Each thread has its own recipients and sends one message at a time, so the order in which a
recipient's messages were accepted is known. A request without a response is sent again with the
same idempotency key.
"""

import http.client
import json
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

CHANNELS = ("sms", "email", "push", "voice")
RECIPIENTS = 12  # per thread
_RETRY_SECONDS = 0.3


class Traffic:
    """Sends until it is stopped, and adds a line to `answers` for each accepted message."""

    def __init__(self, url: str, key: str, answers: Path, *, seed: int, rate: float) -> None:
        self._address = urlsplit(url).netloc
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._answers = answers.open("a", buffering=1)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.refused: list[str] = []
        self._threads = [
            threading.Thread(target=self._send, args=(channel, seed, rate / len(CHANNELS)))
            for channel in CHANNELS
        ]

    def start(self) -> None:
        """Start sending."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop sending. A message that was already sent is retried until it has a response."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self, channel: str, seed: int, rate: float) -> None:
        rng = random.Random(f"{seed}-{channel}")
        number = 0
        while not self._stop.wait(rng.expovariate(rate)):
            number += 1
            recipient = rng.randrange(RECIPIENTS)
            body = _body(channel, recipient) | {
                "idempotency_key": f"chaos-{channel}-{number}",
                "priority": rng.choices(("high", "normal", "bulk"), (1, 6, 3))[0],
                "on_doubt": rng.choices(("resend", "hold"), (5, 1))[0],
            }
            accepted = self._send_until_answered(body)
            if accepted is not None:
                line = {"id": accepted, "channel": channel, "recipient": body["to"]}
                line |= {"on_doubt": body["on_doubt"], "priority": body["priority"]}
                with self._lock:
                    self._answers.write(json.dumps(line) + "\n")

    def _send_until_answered(self, body: Mapping[str, str]) -> str | None:
        """Send until there is a response.

        Returns:
            The message's id, or None if it was refused or no response came for two minutes.
        """
        give_up_at = time.monotonic() + 120
        while time.monotonic() < give_up_at:
            try:
                status, response = self._post(body)
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(_RETRY_SECONDS)
                continue
            if status in (200, 202):
                return str(response["id"])
            if status < 500 and status != 429:
                self.refused.append(f"{status}: {response}")
                return None
            time.sleep(_RETRY_SECONDS)
        return None

    def _post(self, body: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            connection.request("POST", "/v1/messages", json.dumps(body), self._headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


def _body(channel: str, recipient: int) -> dict[str, str]:
    number = f"+1212555{2000 + recipient:04d}"
    content = {
        "sms": {"to": number, "body": "Your visit is tomorrow"},
        "email": {"to": f"r{recipient}@example.com", "subject": "Visit", "text": "Tomorrow"},
        "push": {"to": f"simulator:device{recipient}", "title": "Visit", "body": "Tomorrow"},
        "voice": {"to": number, "text": "Your visit is tomorrow"},
    }
    return {"channel": channel, **content[channel]}
