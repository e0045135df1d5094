"""`doctor --check`: the device put to the test, by small checks that each yield what they found.

A check is a function of a `Bench`; `CHECKS` in `__main__` is the list of them.
"""
