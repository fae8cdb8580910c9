"""Connections that break under functions that write, before their statements and after their commits."""
