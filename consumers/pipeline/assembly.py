"""Puts a dispatcher together from its parts.

`consumers.service` calls `build_dispatcher` once for each channel process.
"""

from collections.abc import Callable
from time import perf_counter

from comms.platform.clock import Clock, utc_now
from comms.platform.settings import ChannelSettings
from consumers.ledger.store import Ledger
from consumers.pipeline.acks import AckRouter
from consumers.pipeline.attempt_reporter import AttemptReporter
from consumers.pipeline.attempt_starter import AttemptStarter
from consumers.pipeline.backlog import Backlog
from consumers.pipeline.call_observer import CallObserver
from consumers.pipeline.calling import Caller
from consumers.pipeline.claim_loop import ClaimLoop
from consumers.pipeline.claiming import Claimer, compute_doubt_after
from consumers.pipeline.completion import Completion
from consumers.pipeline.decision_handler import DecisionHandler
from consumers.pipeline.deferral import Deferrer
from consumers.pipeline.dispatcher import Dispatcher
from consumers.pipeline.running import RunningTasks
from consumers.pipeline.selection import Selector
from consumers.pipeline.settle_loop import SettleLoop
from consumers.pipeline.settlement import Settler
from consumers.routing import Router
from consumers.routing.health import ProviderHealth
from consumers.status.publisher import StatusPublisher
from schemas.vocabulary import Channel


def build_dispatcher(
    channel: Channel,
    settings: ChannelSettings,
    *,
    ledger: Ledger,
    router: Router,
    publisher: StatusPublisher,
    health: ProviderHealth,
    acks: AckRouter,
    on_failure: Callable[[BaseException], None],
    clock: Clock = utc_now,
    monotonic: Callable[[], float] = perf_counter,
) -> Dispatcher:
    """Build the dispatcher of one channel process; call it on the event loop it will run on.

    Args:
        acks: receives a report when a delivery is done or given up.
        on_failure: called with an error that nothing here can handle. The process should end.
        monotonic: seconds, by which claims and calls are timed.
    """
    backlog = Backlog(acks)
    running = RunningTasks(channel, on_end=backlog.notify)
    completion = Completion(backlog, publisher, acks)
    deferrer = Deferrer(ledger, completion, running)
    settler = Settler(settings, clock)
    settle_loop = SettleLoop(channel, ledger, publisher, completion, running)
    caller = Caller(
        settings,
        settler,
        CallObserver(channel, router, health, clock),
        deferrer=deferrer,
        settle_loop=settle_loop,
        running=running,
        monotonic=monotonic,
    )
    reporter = AttemptReporter(channel, publisher, clock)
    handler = DecisionHandler(
        AttemptStarter(router, settler, reporter, caller=caller, settle_loop=settle_loop),
        settler,
        router,
        reporter=reporter,
        deferrer=deferrer,
        settle_loop=settle_loop,
        completion=completion,
        doubt_after=compute_doubt_after(settings),
    )
    claim_loop = ClaimLoop(
        backlog,
        Selector(router, settings.retry, clock),
        Claimer(ledger, router, settings, clock),
        handler=handler,
        deferrer=deferrer,
        running=running,
        concurrency=settings.concurrency,
        monotonic=monotonic,
    )
    return Dispatcher(backlog, claim_loop, settle_loop, running=running, on_failure=on_failure)
