"""Measures the product on its real parts, beside the bare alternatives: `make bench`, `python -m bench --help`."""
