"""What a worker process counts besides what the SDK counts, on the same Prometheus page. No label holds an id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from temporalio.common import MetricMeter

#: What may come of a try, at a provider and at a webhook of a step.
TRIES = ("sent", "failed", "unknown", "unavailable")
CALLS = ("answered", "failed", "not_now")


class Metrics:
    """The process's own counters. They are there from the start, at 0: of a number that appears as 1, nobody could say
    that it has risen.
    """

    def __init__(self, meter: MetricMeter, channels: Iterable[str] = ()) -> None:
        self._channels = frozenset(channels)
        self.inbox_subjects = meter.create_counter(
            "orchestrator_inbox_subjects", "Subjects whose inbox entries were worked through"
        )
        self.inbox_failures = meter.create_counter(
            "orchestrator_inbox_failures", "Subjects whose entries made the consumer fail"
        )
        self.swept = meter.create_counter("orchestrator_outbox_swept", "Outbox entries that a sweeper had to take up")
        self.enrolled_by_jobs = meter.create_counter(
            "orchestrator_enrolled_by_jobs", "Subjects let in by jobs that enroll whole crowds"
        )
        self.reconciled = meter.create_counter(
            "orchestrator_reconciled", "Executions closed because they had been ended in Temporal"
        )
        self.evaluated_subjects = meter.create_counter(
            "orchestrator_segment_subjects", "Subjects held against segments by passes, by kind of pass"
        )
        self.drift = meter.create_counter(
            "orchestrator_segment_drift", "Subjects whose stored membership a sweep found wrong. Has to be 0"
        )
        self.unswept = meter.create_counter(
            "orchestrator_segment_sweeps_failed", "Projects that a sweep could not verify and left out"
        )
        self.policies = meter.create_counter(
            "orchestrator_policies", "Versions of policies that were published for branches that learn"
        )
        self.audit_sealed = meter.create_counter(
            "orchestrator_audit_sealed", "Entries of the audit log that were sealed"
        )
        self.audit_anchors = meter.create_counter(
            "orchestrator_audit_anchors", "Seals of the audit log that were told outside of the database"
        )
        self._audit_unsealed = meter.create_gauge(
            "orchestrator_audit_unsealed",
            "Entries of the audit log that wait for their seal. Every process tells the same number",
        )
        self._stuck = meter.create_gauge(
            "orchestrator_executions_stuck",
            "Executions that should have gone on and have not, by cause. Every process tells the same number",
        )
        self._auto_paused = meter.create_gauge(
            "orchestrator_sends_auto_paused",
            "Journeys that have paused their sends by themselves. Every process tells the same number",
        )
        self._tries = meter.create_counter(
            "orchestrator_sends", "Tries at a provider, by channel and what came of them"
        )
        self._waiting = meter.create_gauge(
            "orchestrator_sends_waiting",
            "Sends that wait for the turn of their channel, by channel. Every process tells the same number",
        )
        self._gave_way = meter.create_counter(
            "orchestrator_sends_gave_way", "Tries that were not made, since it was not their turn, by channel"
        )
        self._calls = meter.create_counter(
            "orchestrator_webhook_calls", "Tries at webhooks of steps, by what came of them"
        )
        self._try_time = meter.create_histogram_float("orchestrator_send_seconds", "How long a provider took", "s")
        self._oldest = meter.create_gauge_float(
            "orchestrator_backlog_oldest_seconds",
            "How long the oldest entry of inbox or outbox, or erasure, has waited. Every process tells the same number",
            "s",
        )
        self._set_aside = meter.create_gauge(
            "orchestrator_backlog_set_aside",
            "Entries of the inbox or the outbox that were given up. Every process tells the same number",
        )
        for counter in (
            *(self.inbox_subjects, self.inbox_failures, self.swept, self.enrolled_by_jobs, self.reconciled),
            *(self.drift, self.unswept, self.policies, self.audit_sealed, self.audit_anchors),
        ):
            counter.add(0)
        for state in CALLS:
            self._calls.add(0, {"state": state})
        for channel in self._channels:
            self._gave_way.add(0, {"channel": channel})
            for state in TRIES:
                self._tries.add(0, {"channel": channel, "state": state})

    def stuck(self, counts: Mapping[str, int]) -> None:
        """Executions that are late, by cause."""
        for cause, total in counts.items():
            self._stuck.set(total, {"cause": cause})

    def audit_unsealed(self, total: int) -> None:
        """Entries of the audit log that nobody has sealed yet."""
        self._audit_unsealed.set(total)

    def auto_paused(self, total: int) -> None:
        """Journeys whose sends are paused without anybody having asked for it."""
        self._auto_paused.set(total)

    def waiting(self, lengths: Mapping[str, int]) -> None:
        """Sends that wait, by channel; of channels that are missing, none do."""
        self._channels |= lengths.keys()
        for channel in self._channels:
            self._waiting.set(lengths.get(channel, 0), {"channel": channel})

    def backlog(self, oldest: Mapping[str, timedelta], set_aside: Mapping[str, int]) -> None:
        """What waits in inbox and outbox, and what was given up there."""
        for queue, age in oldest.items():
            self._oldest.set(age.total_seconds(), {"queue": queue})
        for queue, total in set_aside.items():
            self._set_aside.set(total, {"queue": queue})

    def gave_way(self, channel: str) -> None:
        """One try at a provider was not made."""
        self._gave_way.add(1, {"channel": channel})

    def called(self, state: str) -> None:
        """One try at a webhook of a step: answered, failed or not_now."""
        self._calls.add(1, {"state": state})

    def tried(self, channel: str, state: str, seconds: float) -> None:
        """One try at a provider: sent, failed, unknown or unavailable."""
        self._tries.add(1, {"channel": channel, "state": state})
        self._try_time.record(seconds, {"channel": channel})
