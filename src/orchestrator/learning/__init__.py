"""How adaptive branches learn and what their effect is: statistics, pure.

Counts go in as numpy arrays or numbers, frozen values come out; the same input gives the same output, so whatever was
decided can be computed again. The method and its limits: docs/adaptive.md. scipy takes long to import and is imported
where it is used.
"""
