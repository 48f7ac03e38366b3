"""Making a link: connection, TLS where it is asked for, bind.

The binding (`consumers.sms.smpp.binding`) calls `connect` whenever it has no link. Whatever goes
wrong here, nothing was sent.
"""

import asyncio
import ssl
from dataclasses import dataclass, field

from comms.platform.settings import Secret
from consumers.sdk.http_transport import NotSentError
from consumers.sms.smpp import pdu as pdus
from consumers.sms.smpp.link import Link, OnDelivery
from consumers.sms.smpp.pdu import Status
from schemas.vocabulary import Reason


class BindRefusedError(Exception):
    """The SMSC does not want us, at least now.

    Attributes:
        status: what it answered.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"the bind was answered 0x{status:08X}")
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where we bind, and as whom. `tls` is None for `security` none.

    Args:
        provider: its name in settings, for the log.
        connect_seconds: for connection and bind; enquire_seconds: between questions whether the
            link is alive, and as long as an answer to one may take.
    """

    provider: str
    host: str
    port: int
    tls: ssl.SSLContext | None
    system_id: str = field(repr=False)
    password: Secret
    system_type: str
    connect_seconds: float
    enquire_seconds: float


async def connect(server: Server, *, on_delivery: OnDelivery) -> Link:
    """Connect and bind.

    Raises:
        NotSentError: nobody answers, or not as an SMSC that we trust.
        BindRefusedError: the SMSC answers, and the answer is no.
    """
    until = asyncio.get_running_loop().time() + server.connect_seconds
    link = await _connected(server, until, on_delivery)
    try:
        await _bind(link, server, until)
    except BaseException:
        link.drop()
        raise
    link.keep_alive(seconds=server.enquire_seconds)
    return link


async def _connected(server: Server, until: float, on_delivery: OnDelivery) -> Link:
    try:
        async with asyncio.timeout_at(until):
            reader, writer = await asyncio.open_connection(server.host, server.port, ssl=server.tls)
    except TimeoutError as error:
        raise NotSentError("no connection in time", reason=Reason.TIMEOUT) from error
    except ssl.SSLError as error:
        raise NotSentError(f"no trusted connection: {error.reason or 'TLS failed'}") from error
    except OSError as error:
        raise NotSentError("no connection") from error
    return Link(reader, writer, on_delivery=on_delivery, provider=server.provider)


async def _bind(link: Link, server: Server, until: float) -> None:
    answer = await link.ask(
        lambda n: pdus.bind_transceiver(
            n,
            system_id=server.system_id,
            password=server.password.value,
            system_type=server.system_type,
        ),
        until=until,
    )
    if answer is None:
        problem = "no answer to the bind" if link.alive else "the link was lost before it was bound"
        raise NotSentError(problem)
    if answer.status != Status.OK:
        raise BindRefusedError(answer.status)
