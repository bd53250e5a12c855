"""How files became the images of a prepared folder: noted there, repeated by a prediction.

The note is a source in meta.json, beside the checksum of the files, and comes into the
provenance of every run. Knows no file format; `data_prep.predict` does what a note says.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from data_prep.cases import Case, fingerprint

VOLUMES = "volumes"  # z-score of what is not 0, then resampled; axial slices, the front above
FOLDERS = "folders"  # resampled, then `normalise`; axes (z, y, x) of the volume as they are
PICTURES = "pictures"  # `normalise`, no volumes: PNG or TIFF
PREFIX = "data_prep.inputs "


class Input(NamedTuple):
    """`reader` is one of VOLUMES, FOLDERS and PICTURES; `normalise` one of slicing.NORMALISE.

    `spacing_mm`: a number for all axes; one for each of the last axes of space; None = as it is.
    """

    reader: str
    spacing_mm: float | Sequence[float] | None
    normalise: str = "zscore"


def sources(cases: Sequence[Case], made: Input) -> list[dict[str, str]]:
    """`sources` of meta.json: one checksum over all files, and how they became images."""
    note = json.dumps(made._asdict(), sort_keys=True)
    return [
        {"name": f"{len(cases)} cases", "checksum": fingerprint(cases)},
        {"name": PREFIX + note, "checksum": f"sha256:{hashlib.sha256(note.encode()).hexdigest()}"},
    ]


def noted(listed: Sequence[Mapping[str, Any]]) -> Input | None:
    """What `sources` noted among the sources `listed`; None in folders that say nothing."""
    notes = [source["name"] for source in listed if source["name"].startswith(PREFIX)]
    return Input(**json.loads(notes[0].removeprefix(PREFIX))) if notes else None
