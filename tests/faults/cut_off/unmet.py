"""Functions that write, and that a run of broken statements does not come to as it comes to all others; and why."""

from __future__ import annotations

_STORAGE = "orchestrator.storage"

#: They are met after a commit, too, which had nothing to write.
IDLE = {
    f"{_STORAGE}.upkeep.forget_requests": "answers go after 7 days",
    f"{_STORAGE}.upkeep.forget_event_ids": "ids of events go after 30 days",
    f"{_STORAGE}.upkeep.forget_refused_entries": "refused entries go after 7 days",
    f"{_STORAGE}.send_tallies.forget_old": "tallies go after a day",
    f"{_STORAGE}.sent_tests.forget": "tests of sends go after 7 days",
    f"{_STORAGE}.segment_runs.forget": "finished runs go after 7 days",
    f"{_STORAGE}.membership_history.forget_stays": "stays in segments go 90 days after their end",
    f"{_STORAGE}.inbox.drop_orphans": "a subject would have to be deleted between two statements",
    f"{_STORAGE}.erasures.take_starts": "somebody would have to be forgotten before Temporal is told of them",
    f"{_STORAGE}.held_entries.postpone": "nothing is held of those who cannot be worked on",
    f"{_STORAGE}.memberships.postpone": "the membership of those who cannot be worked on is never due",
    f"{_STORAGE}.segment_looks.of_subjects": "it answers with those alone to whose moves somebody listens",
    f"{_STORAGE}.unheard.settle_sends": "a send would have to be under way whose execution was ended five minutes ago",
    f"{_STORAGE}.unheard.settle_calls": "the same of a call",
    f"{_STORAGE}.channel_turns.turn_away": "who was let out would have to find the channel closed meanwhile",
}

#: Nobody comes to them in such a run.
NEVER = {
    f"{_STORAGE}.erasures.insert_done": "for `orchestrator erasures replay` alone, before anything runs on a database",
    f"{_STORAGE}.tombstones.add_hashes": "for `orchestrator erasures replay` alone, before anything runs on a database",
    f"{_STORAGE}.inbox.leave_to_retries": "somebody would have to have so much that it takes too long",
    f"{_STORAGE}.memberships.count": "somebody would have to become another before they are told of their new segment",
}
