"""I2, I3 and I9: the provider's receipts beside the ledgers of sends and calls."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from tests.core.oracle_json import span_of
from tests.faults.checker.evidence import Evidence, Json, Send
from tests.faults.checker.op_log import CONSENT, FORGOTTEN, OK, SILENCE, Op
from tests.faults.checker.verdicts import Verdict
from tests.provider.client import Receipt

#: Between reserving a send and calling its provider: rendering, and a turn of the channel.
ON_ITS_WAY = timedelta(seconds=30)

#: Settled, and it may have gone out.
_MAY_BE_OUT = frozenset({"sent", "unknown"})


def accepted_once(evidence: Evidence, verdict: Verdict) -> None:
    """I2: the provider took each message once, under the one key that the ledger says, and the ledger knows."""
    accepted = Counter(receipt.key for receipt in _of_before(evidence) if receipt.accepted)
    by_key = {receipt.key: receipt for receipt in evidence.receipts}
    sends = {send.key: send for send in evidence.ledger.sends}
    passes = Counter((send.execution_id, send.step_id) for send in evidence.ledger.sends)
    for key, times in accepted.items():
        verdict.look()
        send = sends.get(key)
        if send is None:
            # Of a step of which the ledger knows nothing at all, I3 tells.
            if passes[_step_of(by_key[key])]:
                verdict.find(f"key {key}", f"was accepted, and is that of no send: {_whose(by_key[key])}")
        elif times > 1 and (evidence.honours_keys or times > send.attempt):
            verdict.find(send.which, f"was accepted {times} times, in {send.attempt} tries")
        elif send.state not in _MAY_BE_OUT and send.state != "dispatching":
            verdict.find(send.which, f"was accepted, and the ledger says {send.state} ({send.reason})")
    # A message that was given another key in each try is one message all the same.
    if evidence.honours_keys:
        taken: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for receipt in _of_before(evidence):
            if receipt.accepted and receipt.execution_id:
                taken[_step_of(receipt)].add(receipt.key)
        for (execution_id, step_id), keys in taken.items():
            verdict.look()
            if len(keys) > passes[execution_id, step_id] > 0:
                verdict.find(
                    f"execution {execution_id}, step {step_id}",
                    f"{len(keys)} messages were accepted in {passes[execution_id, step_id]} passes",
                )


def _of_before(evidence: Evidence) -> list[Receipt]:
    """Receipts that the rows know of: those of later were reserved later, perhaps."""
    return [receipt for receipt in evidence.receipts if receipt.at <= evidence.ledger.now.timestamp()]


def _step_of(receipt: Receipt) -> tuple[str, str]:
    return receipt.execution_id, receipt.step_id


def _whose(receipt: Receipt) -> str:
    return f"execution {receipt.execution_id or 'unknown'}, step {receipt.step_id or 'unknown'}"


def reserved_and_received(evidence: Evidence, verdict: Verdict) -> None:
    """I3: nothing reached the provider before the ledger knew, and what the ledger calls sent has reached it."""
    first: dict[str, Receipt] = {}
    accepted: set[str] = set()
    accepted_of: set[tuple[str, str]] = set()
    for receipt in evidence.receipts:
        first.setdefault(receipt.key, receipt)
        if receipt.accepted:
            accepted.add(receipt.key)
            accepted_of.add(_step_of(receipt))
    sends = {send.key: send for send in evidence.ledger.sends}
    known = {(send.execution_id, send.step_id) for send in evidence.ledger.sends}
    for key, receipt in first.items():
        verdict.look()
        if (send := sends.get(key)) is not None:
            if receipt.at < send.reserved_at.timestamp():
                early = send.reserved_at.timestamp() - receipt.at
                verdict.find(send.which, f"reached the provider {early * 1000:.1f} ms before it was reserved")
        elif _step_of(receipt) not in known and receipt.at <= evidence.ledger.now.timestamp():
            verdict.find(f"key {key}", f"reached the provider, and no row of the ledger is of {_whose(receipt)}")
    by_provider = {send.channel for send in evidence.ledger.sends if send.key in first}
    for send in evidence.ledger.sends:
        # Of a channel that has another provider there are no receipts here.
        if send.state != "sent" or send.channel not in by_provider:
            continue
        verdict.look()
        if send.key not in accepted and (send.execution_id, send.step_id) not in accepted_of:
            verdict.find(send.which, "the ledger says sent, and the provider took nothing")


def silence_kept(evidence: Evidence, verdict: Verdict) -> None:
    """I9: nothing is begun for who was acknowledged to want nothing, from that instant on; and caps hold."""
    silences = _silences(evidence.ops)
    first_at = {receipt.key: receipt.at for receipt in reversed(evidence.receipts)}
    for send in evidence.ledger.sends:
        if not send.channel or send.subject_id is None:
            continue
        for since, until in _applying(silences, send):
            verdict.look()
            reserved = send.reserved_at.timestamp()
            if since < reserved < until:
                verdict.find(send.which, f"was begun {reserved - since:.3f} s after its subject had opted out")
            called = first_at.get(send.key)
            if called is not None and reserved <= since and since + ON_ITS_WAY.total_seconds() < called < until:
                verdict.find(send.which, f"was made {called - since:.3f} s after its subject had opted out")
    for (project, subject_id), spans in _forgotten(evidence.ops).items():
        verdict.look()
        for receipt in evidence.receipts:
            if receipt.subject_id == subject_id and receipt.at > spans + ON_ITS_WAY.total_seconds():
                verdict.find(f"key {receipt.key}", f"was sent to a subject of {project} that had been forgotten")
    _caps(evidence, verdict)


Spans = list[tuple[float, float]]


def _silences(ops: Iterable[Op]) -> Mapping[tuple[str, str], Spans]:
    """From when to when, by project and {subject} or {subject}/{channel}. What was asked for later may end it at any
    time from then on.
    """
    spans: defaultdict[tuple[str, str], Spans] = defaultdict(list)
    for op in sorted(ops, key=lambda op: op.ended or op.began):
        for effect in op.does(SILENCE):
            if op.state == OK and op.ended is not None:
                spans[effect.project, effect.which].append((op.ended, float("inf")))
        for effect in op.does(CONSENT):
            ended = spans[effect.project, effect.which]
            ended[:] = [(since, min(until, op.began)) for since, until in ended]
    return spans


def _applying(silences: Mapping[tuple[str, str], Spans], send: Send) -> Spans:
    whole, one = f"{send.subject_id}", f"{send.subject_id}/{send.channel}"
    return [*silences.get((send.project, whole), ()), *silences.get((send.project, one), ())]


def _forgotten(ops: Iterable[Op]) -> dict[tuple[str, str], float]:
    return {
        (effect.project, effect.which): op.ended
        for op in ops
        for effect in op.does(FORGOTTEN)
        if op.state == OK and op.ended is not None
    }


def _caps(evidence: Evidence, verdict: Verdict) -> None:
    for project, caps in evidence.ledger.caps.items():
        for cap in caps:
            begun: defaultdict[str, list[datetime]] = defaultdict(list)
            for send in evidence.ledger.sends:
                if send.project == project and send.state != "failed" and send.subject_id and _counts(cap, send):
                    begun[send.subject_id].append(send.reserved_at.astimezone(UTC))
            window, most = span_of(cap["window"]), int(cap["limit"])
            for subject_id, instants in begun.items():
                verdict.look()
                instants.sort()
                for first, over in zip(instants, instants[most:], strict=False):
                    if over - first < window:
                        verdict.find(f"subject {subject_id}", f"more than {most} messages from {first} to {over}")
                        break


def _counts(cap: Json, send: Send) -> bool:
    return bool(send.channel) and cap["channel"] in (send.channel, "*") and cap["category"] in (send.category, "*")
