"""Trials of storage: what is lost, and what is silently wrong, when things go wrong.

`make trials` runs all; each gives a row of `figures/source_data/reliability.csv`. A trial does
damage, asks again, and compares with what an undisturbed call gives, to the bit. "Lost" counts
what is gone for good and calls that fail without saying why; "wrong" counts other content, and
files left behind.
"""
