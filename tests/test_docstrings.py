"""What docstrings show is true, and what one must read to understand the method stays short."""

import doctest
import importlib
import pkgutil
import re

import pytest

import noisyseg

MODULES = [
    found.name
    for found in pkgutil.walk_packages(noisyseg.__path__, "noisyseg.")
    if not found.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", noisyseg.__all__)
def test_what_is_exported_has_an_example(name):
    exported = getattr(noisyseg, name)
    if callable(exported):
        text = (getattr(exported, "preset", exported)).__doc__
        assert "Examples:" in text and ">>>" in text


def test_the_method_is_read_in_less_than_1800_lines(root):
    order = re.search(r"in this order: (.*?) The rest", noisyseg.__doc__, re.DOTALL)[1]
    names = re.findall(r"`(\w+)`", order)
    assert {"models", "confusion", "losses", "calibrated", "simulate", "fusion"} <= set(names)
    lines = {n: len((root / "noisyseg" / f"{n}.py").read_text().splitlines()) for n in names}
    assert sum(lines.values()) <= 1800, lines
