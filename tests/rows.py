"""Rows in the columns of the exported tables, for tests that need no run."""

import pandas as pd


def rows_of(values, dataset="ms", labelling="dense", metric="dice", klass="all"):
    """Rows in the exported columns: `values` maps a method to numbers by seed."""
    rows = [(m, s, v) for m, seeds in values.items() for s, v in enumerate(seeds)]
    return pd.DataFrame(rows, columns=["method", "seed", "value"]).assign(
        labelling=labelling, metric=metric, annotator="all", dataset=dataset, origin="stand-in",
        profile="reduced", **{"class": klass},
    )  # fmt: skip
