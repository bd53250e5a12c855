"""Record the film of the label swap anew, and draw it as a GIF: `python -m noisyseg.widgets`.

Three trainings on MNIST, a few minutes on one core. Writes `swap.npz` and `swap.gif` into
`figures/explorers`; with `--draw` only the GIF, from the recording that is there.
"""

import argparse
from collections.abc import Sequence

from noisyseg import storage
from noisyseg.widgets import film, footage


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: record the trainings, draw the GIF, and say what each training reached."""
    parser = argparse.ArgumentParser(prog="python -m noisyseg.widgets", description=__doc__)
    parser.add_argument("--draw", action="store_true", help="draw the GIF only, train nothing")
    place = footage.place()
    if parser.parse_args(arguments).draw:
        recorded = footage.load()
    else:
        recorded = footage.record()
        footage.save(recorded, place)
        print(f"{place.name}: {place.stat().st_size:,} bytes")
    target = place.with_suffix(".gif")
    storage.write_bytes(target, film.gif(recorded))
    print(f"{target.name}: {target.stat().st_size:,} bytes")
    for title, rows in zip(recorded.about["titles"], recorded.watched, strict=True):
        print(f"{title}: foreground Dice {100 * rows[-1, 0]:.1f} %")


if __name__ == "__main__":
    main()
