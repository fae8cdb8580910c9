"""Messages and stubs of the package orchestrator.v1.

Everything beside this file is generated from proto/ by scripts/generate_protos.py.
"""
