from __future__ import annotations


class StackFailure(Exception):
    """The stack cannot run here. The message is one sentence for a person: what is wrong and what to do about it."""
