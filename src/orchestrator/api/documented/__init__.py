"""The calls of five documents that others wrote, at their paths and in their words (docs/http.md).

Each row of the table (`rows.py`) names the RPC that serves it, and two pure functions: one says what a request means in
the words of `/v1`, the other how its answer is told. Everything between them is what every call goes through.
"""
