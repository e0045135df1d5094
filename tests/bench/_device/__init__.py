"""The parts of `python -m tests.bench device`; the options and their meaning stand in `plan.py`."""
