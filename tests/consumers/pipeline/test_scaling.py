"""Two processes of one channel share the partitions; nothing is sent twice and nothing is lost."""

from pathlib import Path

import psycopg

from comms.platform.kafka import Broker
from comms.stack.process import free_port
from schemas.vocabulary import Status
from tests.consumers.harness import (
    channel,
    eventually,
    listener,
    publish,
    settings_for,
    simulator,
    sms,
)


def test_a_second_process_joins_and_the_first_leaves_under_load(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    first = settings_for(broker, database_url, tmp_path)
    url = first.simulator_url
    second = settings_for(
        broker,
        database_url,
        tmp_path,
        COMMS_SIMULATOR_URL=url,
        COMMS_HTTP_PORT=str(free_port()),
    )
    messages = [sms(to=f"+1212555{number:04d}") for number in range(900)]
    with (
        simulator(first) as provider,
        listener(broker) as status_topic,
        channel(first) as stop_first,
    ):
        publish(broker, *messages[:300])
        status_topic.wait_for(messages[0].id, Status.SENT)
        with channel(second):
            publish(broker, *messages[300:500])
            extra = iter(messages[500:600])
            with psycopg.connect(database_url, autocommit=True) as session:

                def both_work() -> bool:
                    if (message := next(extra, None)) is not None:
                        publish(broker, message)
                    row = session.execute("SELECT count(DISTINCT owner) FROM consumers.attempt")
                    return row.fetchone() == (2,)

                eventually(both_work, "both processes claim messages")
            publish(broker, *extra)
            stop_first()
            publish(broker, *messages[600:])
            for message in messages:
                status_topic.wait_for(message.id, Status.SENT)
        summary = provider.summary()
    assert summary["calls"] == 900
    assert summary["duplicates"] == 0
