"""Subjects, what they want, and what may not be sent to them, as messages."""

from __future__ import annotations

from orchestrator.api.convert.categories import category_number, category_word
from orchestrator.api.expected import expected
from orchestrator.api.json_values import struct_of, struct_to_json
from orchestrator.domain.etag import etag_of
from orchestrator.domain.gates import ANY
from orchestrator.domain.preferences import OptOut, PreferenceChange, Suppression
from orchestrator.domain.subject import Subject, SubjectPatch
from orchestrator.v1 import preferences_pb2, subject_pb2, suppression_pb2


def subject_patch(subject: subject_pb2.Subject, path: str) -> SubjectPatch:
    return SubjectPatch(
        subject_id=subject.id,
        attributes=struct_to_json(subject.attributes),
        time_zone=subject.time_zone if subject.HasField("time_zone") else None,
        expected=expected(subject),
        path=path,
    )


def subject_message(subject: Subject) -> subject_pb2.Subject:
    message = subject_pb2.Subject(
        id=subject.subject_id,
        attributes=struct_of(subject.attributes),
        time_zone=subject.time_zone,
        alias_ids=subject.alias_ids,
        etag=etag_of(subject.revision, subject.updated_at),
    )
    message.create_time.FromDatetime(subject.created_at)
    message.update_time.FromDatetime(subject.updated_at)
    return message


def preference_change(change: preferences_pb2.PreferenceChange) -> PreferenceChange:
    return PreferenceChange(
        channel=change.channel or ANY,
        category=category_word(change.category, unspecified=ANY),
        opted_out=change.opted_out,
    )


def preferences_message(subject_id: str, opt_outs: list[OptOut]) -> preferences_pb2.Preferences:
    message = preferences_pb2.Preferences(subject_id=subject_id)
    for opt_out in opt_outs:
        added = message.opt_outs.add(channel=opt_out.channel, category=category_number(opt_out.category))
        added.opt_out_time.FromDatetime(opt_out.opted_out_at)
    return message


def suppression_message(subject_id: str, suppression: Suppression) -> suppression_pb2.Suppression:
    message = suppression_pb2.Suppression(subject_id=subject_id, channel=suppression.channel, reason=suppression.reason)
    message.create_time.FromDatetime(suppression.suppressed_at)
    return message
