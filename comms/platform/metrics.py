"""Every metric of the system: one closed list, which docs/metrics.md describes.

Services set these gauges and increment these counters. Each process serves its own values at
`/metrics` (`comms.platform.health`). Dashboards and alerts rely on the names and labels, so they
do not change.
"""

from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram, Info

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)

outbox_pending = Gauge(
    "comms_outbox_pending", "Accepted messages that no consumer has claimed yet."
)
outbox_oldest_seconds = Gauge(
    "comms_outbox_oldest_seconds", "Age of the oldest message that no consumer has claimed yet."
)
consumer_lag_messages = Gauge(
    "comms_consumer_lag_messages", "Records of the topic that are not settled yet.", ["channel"]
)
consumer_lag_seconds = Gauge(
    "comms_consumer_lag_seconds", "Age of the oldest record that is not settled yet.", ["channel"]
)
in_flight = Gauge("comms_in_flight", "Provider calls that are in progress.", ["channel"])
attempts_total = Counter(
    "comms_attempts_total",
    "Provider calls, by outcome.",
    ["channel", "provider", "outcome"],
)
provider_request_seconds = Histogram(
    "comms_provider_request_seconds",
    "Duration of provider calls.",
    ["channel", "provider", "outcome"],
    buckets=_SECONDS,
)
message_send_seconds = Histogram(
    "comms_message_send_seconds",
    "Time from the creation of a message until a provider accepts it: the service level.",
    ["channel"],
    buckets=_SECONDS,
)
message_wait_seconds = Histogram(
    "comms_message_wait_seconds",
    "Time from when a message may be sent until its first attempt. No priority may starve another.",
    ["channel", "priority"],
    buckets=_SECONDS,
)
duplicates_suppressed_total = Counter(
    "comms_duplicates_suppressed_total", "Repetitions that were recognised and not sent.", ["stage"]
)
ambiguous_total = Counter(
    "comms_ambiguous_total", "Provider calls whose answer was lost.", ["channel"]
)
receipts_total = Counter(
    "comms_receipts_total", "Receipts, by result.", ["channel", "provider", "result"]
)
inbound_total = Counter(
    "comms_inbound_total",
    "Text messages that people sent to our numbers.",
    ["channel", "provider", "kind"],
)
unknown_codes_total = Counter(
    "comms_unknown_codes_total",
    "Answers and receipts with a code that the error table of the provider does not have.",
    ["channel", "provider", "code"],
)
provider_weight = Gauge(
    "comms_provider_weight",
    "Share of the channel's traffic that the provider gets.",
    ["channel", "provider"],
)
provider_left_alone = Gauge(
    "comms_provider_left_alone",
    "1 while the provider is not called because of failures in a row, else 0.",
    ["channel", "provider"],
)
audit_lag_seconds = Gauge(
    "comms_audit_lag_seconds",
    "Time from the publication of a status event until the audit service stores it.",
)
rejected_total = Counter(
    "comms_rejected_total",
    "Messages that were not accepted because a limit was exceeded.",
    ["reason"],
)
dead_letters_total = Counter(
    "comms_dead_letters_total",
    "Records that were sent to the dead letters because no consumer could process them.",
    ["channel"],
)
suppressions_bypassed_total = Counter(
    "comms_suppressions_bypassed_total",
    "Attempts to reach a suppressed recipient, for messages that bypass the suppression list.",
    ["channel"],
)
build_info = Info("comms_build", "The version that runs.")
build_info.info({"version": version("communications")})
