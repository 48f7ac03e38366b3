"""The metrics, all of them: one closed list, from which docs/metrics.md is made.

Services set and count these; each process shows its own at `/metrics`. Names and labels are what
dashboards and alerts rely on.
"""

from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram, Info

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)

outbox_pending = Gauge("comms_outbox_pending", "Accepted messages not yet claimed by a consumer.")
outbox_oldest_seconds = Gauge("comms_outbox_oldest_seconds", "Age of the oldest such message.")
consumer_lag_messages = Gauge(
    "comms_consumer_lag_messages", "Records in the topic not yet settled.", ["channel"]
)
consumer_lag_seconds = Gauge(
    "comms_consumer_lag_seconds", "Age of the oldest record not yet settled.", ["channel"]
)
in_flight = Gauge("comms_in_flight", "Provider calls being made now.", ["channel"])
attempts_total = Counter(
    "comms_attempts_total",
    "Provider calls by what they came to.",
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
    "From created to accepted by a provider: the service level.",
    ["channel"],
    buckets=_SECONDS,
)
message_wait_seconds = Histogram(
    "comms_message_wait_seconds",
    "From when a message could go to its first attempt; one priority must not starve another.",
    ["channel", "priority"],
    buckets=_SECONDS,
)
duplicates_suppressed_total = Counter(
    "comms_duplicates_suppressed_total", "Repetitions recognised and not sent.", ["stage"]
)
ambiguous_total = Counter("comms_ambiguous_total", "Calls whose answer was lost.", ["channel"])
receipts_total = Counter(
    "comms_receipts_total", "Receipts by what became of them.", ["channel", "provider", "result"]
)
inbound_total = Counter(
    "comms_inbound_total",
    "Texts that people wrote to our numbers.",
    ["channel", "provider", "kind"],
)
unknown_codes_total = Counter(
    "comms_unknown_codes_total",
    "Answers and receipts with a code that the provider's table does not know.",
    ["channel", "provider", "code"],
)
provider_weight = Gauge(
    "comms_provider_weight", "Share of the traffic a provider gets.", ["channel", "provider"]
)
provider_left_alone = Gauge(
    "comms_provider_left_alone",
    "1 while a provider is not called after failures in a row; all of a channel: it waits.",
    ["channel", "provider"],
)
audit_lag_seconds = Gauge(
    "comms_audit_lag_seconds", "From a status event's publication to its record in the store."
)
rejected_total = Counter(
    "comms_rejected_total", "Messages not accepted because there were too many.", ["reason"]
)
dead_letters_total = Counter(
    "comms_dead_letters_total",
    "Records put aside because no consumer could process them.",
    ["channel"],
)
suppressions_bypassed_total = Counter(
    "comms_suppressions_bypassed_total",
    "Attempts to reach a suppressed recipient, for messages that bypass the list.",
    ["channel"],
)
build_info = Info("comms_build", "The version that runs.")
build_info.info({"version": version("communications")})
