"""What all tests share: one thread, no display, runs in a temporary folder, a tiny data set."""

import os

# Before anything imports torch or matplotlib. Thread counts change the last digits of results.
os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage


@pytest.fixture(scope="session", autouse=True)
def quiet_session(tmp_path_factory):
    """One torch thread, and a run store of this session's own; yields its path."""
    import torch

    torch.set_num_threads(1)
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOISYSEG_RUNS", str(runs))
        yield runs


@pytest.fixture
def measured(record_property):
    """Call it with a line to print at the end of the session, also where tests run in parallel."""
    return lambda line: record_property("measured", line)


def pytest_terminal_summary(terminalreporter):
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, [])]
    lines = [text for r in reports for name, text in r.user_properties if name == "measured"]
    if lines:
        terminalreporter.section("measured, with whatever else ran beside it")
        for line in sorted(set(lines)):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent


def tiny_arrays(n=20, size=24, seed=0):
    """Discs in noise: images (n, 1, size, size), labels (n, 3, size, size), truth (n, size, size).

    The annotators: faithful, one pixel too wide, one pixel too narrow.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    centre, radius = rng.uniform(8, size - 8, (n, 2, 1, 1)), rng.uniform(4, 6, (n, 1, 1))
    truth = (rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2 <= radius**2
    flat = ndimage.generate_binary_structure(2, 1)[None]
    masks = truth, ndimage.binary_dilation(truth, flat), ndimage.binary_erosion(truth, flat)
    images = (0.2 + 0.6 * truth + rng.normal(0, 0.1, truth.shape)).astype(np.float32)
    return images[:, None], np.stack(masks, 1).astype(np.int8), truth.astype(np.int8)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A prepared folder `tiny`: 12 train, 4 val, 4 test images, 3 annotators, two classes."""
    from noisyseg.data.folder import write_prepared  # after jaxtyping's import hook, not before

    images, labels, truth = tiny_arrays()
    return write_prepared(
        tmp_path_factory.mktemp("prepared") / "tiny",
        images,
        labels,
        truth,
        split=["train"] * 12 + ["val"] * 4 + ["test"] * 4,
        classes=["background", "object"],
        annotators=["exact", "wide", "narrow"],
        origin="simulated",
    )
