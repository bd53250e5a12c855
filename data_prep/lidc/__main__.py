"""LIDC-IDRI, the real scans -> prepared folder `lidc`: four readers' masks on CT crops.

From the tree of DICOM and XML files that TCIA gives (--folder; any generation of folder names),
or from the pickle of the PyTorch port of the Probabilistic U-Net (--pickle). As in the paper:
1 mm pixels, 180 x 180 crops centred on a nodule, Spatial STAPLE of the four masks as reference;
a reader who did not mark anything gives an empty mask, a reading that the file lacks gives none.
Readers are slots: reader 1 of one scan is not reader 1 of another. `data_prep.lidc.contours`
needs no download.

    python -m data_prep.lidc --help
"""

from pathlib import Path

from data_prep.command import add_limit, one_line_errors, parser_of
from data_prep.lidc.archive import Settings, prepare_pickle, prepare_tree
from data_prep.lidc.masks import READERS
from noisyseg.storage import data_root


def main(arguments: list[str] | None = None) -> None:
    """Command line; a data error ends it with one line and exit status 1."""
    parser = parser_of("data_prep.lidc", __doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", type=Path, help="DICOM and XML files of LIDC-IDRI from TCIA")
    source.add_argument("--pickle", type=Path, help="data_lidc.pickle, or a folder of pickles")
    parser.add_argument("--out", type=Path, help="prepared folder (default: lidc in data root)")
    parser.add_argument("--crop", type=int, default=180, help="pixels a side (--folder only)")
    parser.add_argument("--spacing", type=float, default=1.0, help="mm a pixel (--folder only)")
    parser.add_argument(
        "--readers",
        type=int,
        help="readers who outlined the nodule (--folder: 4) or slice (--pickle: 1), at least",
    )
    parser.add_argument("--every", type=int, default=1, help="every n-th slice (--folder only)")
    add_limit(parser)
    parser.add_argument("--strict", action="store_true", help="stop at a case that is left out")
    parser.add_argument("--force", action="store_true", help="make the folder again if it exists")
    args = parser.parse_args(arguments)
    out = args.out or data_root() / "lidc"
    readers = 1 if args.pickle else READERS
    if args.readers is not None:
        readers = args.readers
    with one_line_errors(args.max_gb):
        settings = Settings(args.crop, args.spacing, readers, args.every)
        if args.pickle:
            print(prepare_pickle(args.pickle, out, readers, args.strict, args.force))
        else:
            report, notes = prepare_tree(args.folder, out, settings, args.strict, args.force)
            print("\n".join([str(report), *notes]))


if __name__ == "__main__":
    main()
