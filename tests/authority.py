"""An authority that this machine trusts for the time of a test, to serve TLS on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from consumers.sdk.http_transport import verifying


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[trustme.CA]:
    """It issues certificates that providers' transports take."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "trusted.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    verifying.cache_clear()
    yield made
    verifying.cache_clear()
