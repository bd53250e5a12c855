"""MNIST: official digits -> prepared folder `mnist` (images and truth; annotators are simulated).

Three sources, none of which replaces another silently: the 12,000 real digits embedded in
this repository, a folder of the official IDX files, or torchvision's download. Every source
is verified by checksum. Paper section 4: truth = intensity > 0.5, input = digit with Gaussian
noise, 20 % of the training digits held out for validation.

    python -m data_prep.mnist --help
"""

import gzip
import hashlib
import io
import json
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float16, Int8, UInt8
from numpy import ndarray

from data_prep.command import one_line_errors, parser_of
from noisyseg.data.dataset import load_dataset
from noisyseg.data.folder import write_prepared
from noisyseg.simulate import simulate_labels
from noisyseg.storage import data_root, locked

Digits = UInt8[ndarray, "image height width"]

LARGEST = 16 + 60_000 * 28 * 28  # bytes of an official file
HERE = Path(__file__).parent / "embedded"
SPLIT_SEED = 0
EMBEDDED = {"train": 10_000, "test": 2_000}  # the first digits of each official file
# The paper does not state its noise. Gaussian noise of this mean and sd, clipped to 0..1, is the
# closest of the simple models tried (data_prep/README.md) to the samples the authors ship.
NOISE_MEAN, NOISE_SD = 0.07, 0.2
# sha256 of the raw IDX files; a .gz file is unpacked before it is checked.
OFFICIAL = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
}
LICENCE = "MNIST by Yann LeCun and Corinna Cortes, CC BY-SA 3.0"
PREP_VERSION = 1


def _verified(content: bytes, expected: str, file: Path) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"{file}: sha256 is {found}, expected {expected}: the file is damaged or not the "
            "official one; get it again"
        )
    return content


def _unpacked(file: Path) -> bytes:
    if file.suffix != ".gz":
        return file.read_bytes()
    try:
        with gzip.open(file) as stream:
            content = stream.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: cannot be unpacked ({error}); get it again") from error
    if len(content) > LARGEST:
        raise ValueError(f"{file}: unpacks to more than {LARGEST} bytes; get it again")
    return content


def read_idx(content: bytes, file: Path) -> Digits:
    """Images of an IDX file (N, height, width); ValueError if it is truncated or another file."""
    magic, *shape = (int(v) for v in np.frombuffer(content[:16].ljust(16, b"\0"), ">i4"))
    expected = 16 + int(np.prod(shape))
    if magic != 2051 or len(content) != expected:
        raise ValueError(
            f"{file}: not a whole IDX file of images (magic number {magic}, expected 2051; "
            f"{len(content)} bytes, expected {expected}); get it again"
        )
    return np.frombuffer(content, np.uint8, offset=16).reshape(shape)


def read_folder(folder: Path) -> dict[str, Digits]:
    """Official train and test images from raw or gzipped IDX files in `folder`, verified.

    Raises FileNotFoundError for a missing file, ValueError for one that is not the official.
    """
    return {
        split: _read_official(Path(folder), name)
        for split, name in zip(EMBEDDED, OFFICIAL, strict=True)
    }


def _read_official(folder: Path, name: str) -> Digits:
    names = [n + gz for n in (name, name.replace("-idx3", ".idx3")) for gz in ("", ".gz")]
    there = [folder / n for n in names if (folder / n).is_file()]
    if not there:
        raise FileNotFoundError(
            f"{folder} holds none of {', '.join(names)}: give the folder of the official files"
        )
    return read_idx(_verified(_unpacked(there[0]), OFFICIAL[name], there[0]), there[0])


def read_embedded(folder: Path = HERE) -> dict[str, Digits]:
    """The embedded digits, 10,000 train and 2,000 test, checked against `checksums.json`.

    Raises ValueError for a file that is not the one the checksum was made of.
    """
    expected = json.loads((folder / "checksums.json").read_text())
    images = {}
    for split in EMBEDDED:
        file = folder / f"mnist-{split}.npz"
        content = _verified(file.read_bytes(), expected[file.name], file)
        images[split] = np.load(io.BytesIO(content))["images"]
    return images


def read_torchvision(folder: Path) -> dict[str, Digits]:
    """Download through torchvision into `folder`, then verify like any other folder."""
    from torchvision.datasets import MNIST

    with locked(Path(folder)):  # torchvision writes in place: one download at a time
        for train in (True, False):
            MNIST(str(folder), train=train, download=True)
        return read_folder(Path(folder) / "MNIST" / "raw")


def embed(folder: Path, out: Path = HERE) -> Path:
    """Make the embedded files from a folder of the official ones (how they came to be)."""
    checksums = {}
    for split, images in read_folder(folder).items():
        file = out / f"mnist-{split}.npz"
        with file.open("wb") as stream:
            np.savez_compressed(stream, images=images[: EMBEDDED[split]])
        checksums[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (out / "checksums.json").write_text(json.dumps(checksums, indent=1) + "\n")
    return out


def noisy(digits: Digits, image_ids: list[str]) -> Float16[ndarray, "image channel=1 height width"]:
    """Digits as a network sees them: (N, 1, height, width) in 0..1, noise seeded by image id."""
    images = np.empty((len(digits), 1, *digits.shape[1:]), np.float16)
    for n, image_id in enumerate(image_ids):
        seed = int.from_bytes(hashlib.sha256(f"noise/{image_id}".encode()).digest()[:8], "little")
        noise = np.random.default_rng(seed).normal(NOISE_MEAN, NOISE_SD, digits.shape[1:])
        images[n, 0] = np.clip(digits[n] / 255 + noise, 0, 1)
    return images


def truth_of(digits: Digits) -> Int8[ndarray, "image height width"]:
    """The true mask: intensity > 0.5 (paper section 4), 0 = background, 1 = digit."""
    return (digits > 127).astype(np.int8)


def splits_of(n_train: int, n_test: int) -> list[str]:
    """The split of each digit, official order: every fifth training digit, drawn, is held out."""
    held_out = np.zeros(n_train, bool)
    held_out[np.random.default_rng(SPLIT_SEED).permutation(n_train)[: n_train // 5]] = True
    return [*np.where(held_out, "val", "train").tolist(), *["test"] * n_test]


def prepare(
    out: str | Path | None = None,
    source: str = "embedded",
    folder: str | Path | None = None,
    force: bool = False,
) -> Path:
    """Write the prepared folder `out` (default: mnist below the data root) and return it.

    `source`: embedded, idx (official files in `folder`) or torchvision (downloads to `folder`).
    A folder already made by this version from this source is left alone unless `force`.
    Raises FileExistsError for a folder made otherwise, ValueError or FileNotFoundError naming
    the file that is missing or not the official one.
    """
    out = data_root() / "mnist" if out is None else Path(out)
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}; allowed: {', '.join(SOURCES)}")
    if (source == "embedded") != (folder is None):
        raise ValueError(f"source {source!r} {'needs a' if folder is None else 'takes no'} folder")
    with locked(out):
        if not force and _is_done(out, source):
            return out
        digits = SOURCES[source](*[] if folder is None else [Path(folder)])
        return _write(out, source, digits, force)


def _is_done(out: Path, source: str) -> bool:
    if not out.exists() or not any(out.iterdir()):
        return False
    meta = load_dataset(out).meta
    made = ([s["name"] for s in meta["sources"]], meta["prep_version"])
    if made != ([source], PREP_VERSION):
        raise FileExistsError(
            f"{out} was made from {made[0]}, version {made[1]}; asked for [{source!r}], version "
            f"{PREP_VERSION}: use --force to make it again, or --out for another folder"
        )
    return True


def _write(out: Path, source: str, digits: dict[str, Digits], force: bool) -> Path:
    everything = np.concatenate([digits["train"], digits["test"]])
    ids = [f"{split}-{i:05d}" for split in EMBEDDED for i in range(len(digits[split]))]
    checksum = hashlib.sha256(everything.tobytes()).hexdigest()
    return write_prepared(
        out,
        noisy(everything, ids),
        truth=truth_of(everything),
        split=splits_of(len(digits["train"]), len(digits["test"])),
        image_ids=ids,
        overwrite=force,
        name="mnist",
        classes=["background", "digit"],
        channels=["noisy digit"],
        origin="real",
        licence=LICENCE,
        sources=[{"name": source, "checksum": f"sha256:{checksum}"}],
        prep_version=PREP_VERSION,
    )


def summary(path: Path) -> str:
    """Counts, noise and annotators as data_prep/README.md repeats them ("expected")."""
    data = load_dataset(path)
    counts = ", ".join(f"{np.sum(data.split_of == s)} {s}" for s in ("train", "val", "test"))
    train = data.split("train")
    image, inside = train.read_images()[:, 0].astype(float), train.read_truth() == 1
    inner, outer = image[inside], image[~inside]
    return (
        f"{counts} digits; foreground {inside.mean():.3f}; input inside the digit "
        f"{inner.mean():.3f} (sd {inner.std():.3f}), background {outer.mean():.3f} "
        f"(sd {outer.std():.3f})\n" + _rates(inside[:1000], train.image_ids[:1000])
    )


def _rates(truth: Bool[ndarray, "image height width"], image_ids: ndarray) -> str:
    lines = [f"{'annotator':10}{'area / truth':>13}{'false pos.':>12}{'false neg.':>12}"]
    for name in ("good", "over", "under", "wrong", "blank"):
        written = simulate_labels(truth.astype(np.int8), image_ids, [name], seed=0)[:, 0] == 1
        on, off = truth.sum((1, 2)), (~truth).sum((1, 2))
        area = (written.sum((1, 2)) / on).mean()
        false_pos = ((written & ~truth).sum((1, 2)) / off).mean()
        false_neg = ((truth & ~written).sum((1, 2)) / on).mean()
        lines.append(f"{name:10}{area:13.2f}{false_pos:12.3f}{false_neg:12.3f}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line; a data error ends it with one line and exit status 1."""
    parser = parser_of("data_prep.mnist", __doc__)
    parser.add_argument("--source", choices=SOURCES, default="embedded")
    parser.add_argument("--folder", type=Path, help="official IDX files, or where to download to")
    parser.add_argument("--out", type=Path, help="prepared folder (default: mnist in data root)")
    parser.add_argument("--force", action="store_true", help="make the folder again if it exists")
    parser.add_argument("--embed", action="store_true", help="remake embedded/ from --folder")
    args = parser.parse_args(arguments)
    with one_line_errors():
        if args.embed:
            print(f"{embed(args.folder or Path())}: embedded digits written")
        else:
            before = _stamp(args.out)
            path = prepare(args.out, args.source, args.folder, args.force)
            state = "already there, left alone" if before == _stamp(path) else "written"
            print(f"{path}: {state}\n{summary(path)}")


def _stamp(out: Path | None) -> int:
    meta = (data_root() / "mnist" if out is None else out) / "meta.json"
    return meta.stat().st_mtime_ns if meta.exists() else 0


SOURCES = {"embedded": read_embedded, "idx": read_folder, "torchvision": read_torchvision}


if __name__ == "__main__":
    main()
