"""Stand-ins for the MS and BraTS archives: made-up lesions in real anatomy, official file names.

For whoever lacks the official archives: the readers run on these trees unchanged, and only a
path differs later. The head is the real ICBM 152 average packaged with nilearn (no download);
lesions, tumours, contrasts, noise and raters are made up. Nothing measured on them says
anything about patients; `stand-in.json` and the header of every volume say what they are.

    python -m data_prep.standins ms --out FOLDER       # 21 scans of 5 patients, two raters
    python -m data_prep.standins brats --out FOLDER    # 40 cases, labels 0, 1, 2 and 4
"""

import argparse
from pathlib import Path

from data_prep.command import one_line_errors, parser_of
from data_prep.standins.trees import make_brats, make_ms


def main(arguments: list[str] | None = None) -> None:
    """Command line; a data error ends it with one line and exit status 1."""
    args = _parser().parse_args(arguments)
    with one_line_errors():
        if args.kind == "ms":
            written = make_ms(
                args.out, args.patients, args.visits, args.seed, args.voxel, args.gzip, args.force
            )
        else:
            written = make_brats(args.out, args.cases, args.seed, args.voxel, args.force)
    print(f"{written.tree}: {written.made} cases made, {written.kept} already there (stand-ins)")


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("data_prep.standins", __doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    ms = kinds.add_parser("ms", help="MSLSC / ISBI 2015 training tree")
    ms.add_argument("--patients", type=int, default=5)
    ms.add_argument("--visits", type=int, nargs="+", help="scans of each (default: 4 4 5 4 4)")
    ms.add_argument("--gzip", action="store_true", help=".nii.gz (official: .nii, 85 MB a scan)")
    brats = kinds.add_parser("brats", help="BraTS 2020 training tree")
    brats.add_argument("--cases", type=int, default=40)
    for kind in (ms, brats):
        kind.add_argument("--out", type=Path, required=True, help="folder of the tree")
        kind.add_argument("--seed", type=int, default=0)
        kind.add_argument("--voxel", type=float, default=1.0, help="mm, 1 to 8 (default: 1)")
        kind.add_argument("--force", action="store_true", help="delete the tree and make it again")
    return parser


if __name__ == "__main__":
    main()
