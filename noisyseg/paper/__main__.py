"""Train what is missing of a table of the paper, and export it.

python -m noisyseg.paper mnist --profile reduced --missing
"""

import argparse

from noisyseg.config import PROFILES
from noisyseg.methods import METHODS
from noisyseg.paper.ablations import LABELLINGS, STUDIES, TABLE_METHODS


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m noisyseg.paper", None, __doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("experiment", help=f"a data set (mnist, …), or {', '.join(STUDIES)}")
    parser.add_argument("--profile", choices=PROFILES, default="smoke")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(TABLE_METHODS))
    parser.add_argument(
        "--labelling", nargs="+", default=list(LABELLINGS), help="dense, one, k2, …"
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="default: the profile's number")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--missing", action="store_true", help="pass over what the table holds")
    parser.add_argument("--scheduler", help="address of a running Dask scheduler instead")
    args = parser.parse_args()
    from noisyseg.paper import source_data  # with torch, which takes seconds to import
    from noisyseg.paper.plan import missing, study_configs, table_configs
    from noisyseg.sweeps import sweep

    if args.experiment in STUDIES:
        configs = study_configs(args.experiment, args.profile)
    else:
        configs = table_configs(
            args.experiment, args.profile, args.methods, args.labelling, args.seeds
        )
    configs = missing(configs) if args.missing else configs
    if not configs:
        print("nothing is missing of what can be trained here")
        return
    # The table grows with every run, so that what is stopped has written what it has.
    done = sweep(configs, args.workers, args.scheduler, lambda run: source_data.export([run]))
    print(f"{len(done)} runs exported to {source_data.export(done)}")


if __name__ == "__main__":
    main()
