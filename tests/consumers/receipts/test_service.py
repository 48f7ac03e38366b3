"""The receipt endpoint of one channel, as a process of its own."""

import subprocess
import sys
import threading
from pathlib import Path

import httpx2 as httpx
import pytest

from comms.platform.kafka import Broker
from comms.services import CHANNELS, load_service
from tests.consumers.harness import eventually, settings_for


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"COMMS_DATA_DIR": str(folder)}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("channel", CHANNELS)
def test_each_channel_has_a_receipts_argument(channel: str, tmp_path: Path) -> None:
    result = run(f"consumers.{channel}", "receipts", folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"comms run {channel} receipts: COMMS_")
    result = run(f"consumers.{channel}", "receits", folder=tmp_path)
    assert result.returncode == 1
    expected = f"python -m consumers.{channel}: the only argument it accepts is 'receipts'\n"
    assert result.stderr == expected


def test_it_accepts_the_receipts_of_its_channel_only(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, database_url, tmp_path)
    stop = threading.Event()
    service = threading.Thread(target=load_service("sms receipts"), args=(settings, stop))
    service.start()
    url = f"http://127.0.0.1:{settings.http_port}"

    def post(path: str) -> int:
        try:
            return httpx.post(f"{url}{path}", content=b"[]").status_code
        except httpx.TransportError:
            return 0

    try:
        eventually(lambda: post("/receipts/sms/simulated") == 403, "it answers")
        assert post("/receipts/email/simulated") == 404
        assert post("/v1/messages") == 404
    finally:
        stop.set()
        service.join(30)
    assert not service.is_alive()
