"""Waiting for everybody who may go by what was so before a change: for all transactions from before it.

A row that asks for something has a column `barrier`. Somebody who meets it committed raises the barrier, and from then
on it is left alone until the barrier has been passed.
"""

#: What raises it: the number of the transaction that does. Whoever had a number before the change has a smaller one.
#: Not the newest of a snapshot, which is behind those that run on and have begun after the last that has ended.
RAISED = "pg_current_xact_id()::text::bigint"

#: That nobody from before is left, or that it has not been raised. Whoever sees a barrier sees the transaction that has
#: raised it as ended, so one with a number that is still to come is of another cluster, from before a restore.
PASSED = """(barrier IS NULL OR barrier <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint
             OR barrier >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint)"""
