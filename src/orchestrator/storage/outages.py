"""Telling an outage from a fault: whether what failed will go well by itself, once the database is there again.

The one place that says so, for servers, workers and commands alike.
"""

from __future__ import annotations

import asyncpg

from orchestrator.domain.refusals import Unavailable
from orchestrator.storage.running_call import time_left

#: SQLSTATE classes: connections, who may connect, rolled back for others' sake, out of resources, operator
#: intervention, the machine.
_CLASSES = frozenset({"08", "28", "40", "53", "57", "58"})

#: No such database (yet); a standby that has not taken over yet; a transaction that idled for too long; a state that
#: will pass; a lock that was not to be had in time.
_STATES = frozenset({"3D000", "25006", "25P03", "55000", "55P03"})

#: What the driver says where the connection, or the pool, is gone. It has one class for that and for calls that are
#: wrong in themselves, so there is nothing else to tell them by; tests/integration/test_lost_connections.py has each
#: of them said by the driver. A connection that was lost between two statements is back in the pool by then.
_GONE = ("connection is closed", "released back to the pool", "pool is closed", "pool is closing")


def is_outage(error: BaseException) -> bool:
    """True: the database, or the way to it, is to blame; what was tried is sound and may be tried again unchanged."""
    match error:
        case asyncpg.PostgresError():
            state: str = getattr(error, "sqlstate", None) or ""
            return state[:2] in _CLASSES or state in _STATES
        case asyncpg.InterfaceError():
            # One kind of them is about values, which may say anything: an argument that does not fit its column's type.
            return not isinstance(error, ValueError) and any(words in str(error) for words in _GONE)
        case _:
            # InternalClientError: of a connection that was killed and does not know it yet. TimeoutError is an OSError.
            return isinstance(error, OSError | Unavailable | asyncpg.InternalClientError)


#: A statement that took longer than it may, and a transaction in which we thought for longer than it may stand still.
#: Who waits for a lock is told so before (storage/pool.py).
_TOO_LONG = frozenset({"57014", "25P03"})


def took_too_long(error: BaseException) -> bool:
    """True: Postgres is there, and has ended what took longer than anything may. Tried again unchanged it would end
    like that again; less at once may go well. Of a call it says nothing: there what ends is the time of who waits.
    """
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _TOO_LONG and time_left() is None


def is_nobodys_fault(error: BaseException) -> bool:
    """True: an outage, and not one that is made by what was tried itself."""
    return is_outage(error) and not took_too_long(error)
