"""MNIST: official digits -> prepared folder `mnist` (images and truth; annotators are simulated).

Three sources, none of which replaces another silently: the 12,000 real digits embedded in
this repository, a folder of the official IDX files, or torchvision's download. Every
source is verified by checksum. Paper section 4: truth = intensity > 0.5, input = digit
with Gaussian noise, 20 % of the training digits held out for validation.

    python -m data_prep.mnist --help
"""

import argparse
import gzip
import hashlib
import io
import json
from pathlib import Path

import numpy as np
from numpy import ndarray

from noisyseg.data import load_dataset, write_prepared
from noisyseg.paths import data_root

HERE = Path(__file__).parent / "embedded"
EMBEDDED = {"train": 10_000, "test": 2_000}  # the first digits of each official file
# The noise model is stated nowhere. Additive Gaussian noise of this mean and sd, clipped to
# 0…1, comes closest to the authors' samples (inside the digit mean 0.86, background 0.15).
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


def read_idx(content: bytes, file: Path) -> ndarray:
    """Images of an IDX file: (N, height, width) uint8. ValueError if it is truncated."""
    magic, n, height, width = (int(v) for v in np.frombuffer(content[:16], ">i4")) if len(content) >= 16 else (0, 0, 0, 0)
    if magic != 2051 or len(content) != 16 + n * height * width:
        raise ValueError(
            f"{file}: not a whole IDX file of images (magic {magic}, {len(content)} bytes, expected "
            f"{16 + n * height * width}): it is truncated or something else; get it again"
        )
    return np.frombuffer(content, np.uint8, offset=16).reshape(n, height, width)


def read_folder(folder: Path) -> dict[str, ndarray]:
    """The official train and test images from raw or gzipped IDX files in `folder`."""
    images = {}
    for split, name in (("train", "train-images-idx3-ubyte"), ("test", "t10k-images-idx3-ubyte")):
        names = (name, f"{name}.gz", name.replace("-idx3", ".idx3"))
        file = next((folder / n for n in names if (folder / n).exists()), None)
        if file is None:
            raise FileNotFoundError(f"{folder} holds none of {', '.join(names)}: give the folder of the official files")
        try:
            content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        except (OSError, EOFError) as error:
            raise ValueError(f"{file}: cannot be unpacked ({error}): it is truncated; get it again") from error
        images[split] = read_idx(_verified(content, OFFICIAL[name], file), file)
    return images


def read_embedded(folder: Path = HERE) -> dict[str, ndarray]:
    """The embedded digits, checked against `checksums.json` beside them."""
    expected = json.loads((folder / "checksums.json").read_text())
    images = {}
    for split in EMBEDDED:
        file = folder / f"mnist-{split}.npz"
        content = _verified(file.read_bytes(), expected[file.name], file)
        images[split] = np.load(io.BytesIO(content))["images"]
    return images


def read_torchvision(folder: Path) -> dict[str, ndarray]:
    """Download through torchvision into `folder`, then verify like any other folder."""
    from torchvision.datasets import MNIST

    for train in (True, False):
        MNIST(str(folder), train=train, download=True)
    return read_folder(folder / "MNIST" / "raw")


def embed(folder: Path, out: Path = HERE) -> None:
    """Make the embedded files from a folder of the official ones (how they came to be)."""
    checksums = {}
    for split, images in read_folder(folder).items():
        file = out / f"mnist-{split}.npz"
        with file.open("wb") as stream:
            np.savez_compressed(stream, images=images[: EMBEDDED[split]])
        checksums[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (out / "checksums.json").write_text(json.dumps(checksums, indent=1) + "\n")


def noisy(digits: ndarray, image_ids: list[str]) -> ndarray:
    """(N, height, width) uint8 -> (N, 1, height, width) float16 in 0…1, noise by image id."""
    images = np.empty((len(digits), 1, *digits.shape[1:]), np.float16)
    for n, image_id in enumerate(image_ids):
        seed = int.from_bytes(hashlib.sha256(f"noise/{image_id}".encode()).digest()[:8], "little")
        noise = np.random.default_rng(seed).normal(NOISE_MEAN, NOISE_SD, digits.shape[1:])
        images[n, 0] = np.clip(digits[n] / 255 + noise, 0, 1)
    return images


def prepare(
    source: str = "embedded", folder: Path | None = None, out: Path | None = None, force: bool = False
) -> Path:
    """Write the prepared folder and return its path; a finished one is left alone.

    `source`: embedded, idx (needs `folder`) or torchvision (downloads into `folder`).
    """
    out = data_root() / "mnist" if out is None else out
    if out.exists() and not force:
        made = load_dataset(out).meta
        if made["prep_version"] == PREP_VERSION and made["sources"][0]["name"] == source:
            return out
        raise FileExistsError(
            f"{out} was made from {made['sources'][0]['name']!r} (version {made['prep_version']}): "
            f"use --force to make it again from {source!r}, or --out for another folder"
        )
    if source != "embedded" and folder is None:
        raise ValueError(f"--source {source} needs --folder")
    digits = {"embedded": read_embedded, "idx": read_folder, "torchvision": read_torchvision}[source](
        *([] if source == "embedded" else [folder])
    )
    ids = [f"{split}-{i:05d}" for split, images in digits.items() for i in range(len(images))]
    split = np.array(["train"] * len(digits["train"]) + ["test"] * len(digits["test"]))
    held_out = np.random.default_rng(0).permutation(len(digits["train"]))[: len(digits["train"]) // 5]
    split[held_out] = "val"
    everything = np.concatenate([digits["train"], digits["test"]])
    checksum = hashlib.sha256(everything.tobytes()).hexdigest()
    return write_prepared(
        out,
        noisy(everything, ids),
        truth=(everything > 127).astype(np.int8),
        split=split,
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
    """Counts and moments that data_prep/README.md repeats as expected."""
    data = load_dataset(path)
    counts = ", ".join(f"{s} {int((data.split_of == s).sum())}" for s in ("train", "val", "test"))
    train = data.split("train")
    image, inside = train.read_images()[:, 0], train.read_truth() == 1
    inner, outer = image[inside].astype(float), image[~inside].astype(float)
    return (
        f"{path}: {counts} digits; foreground {inside.mean():.3f}; input inside the digit "
        f"{inner.mean():.2f} ± {inner.std():.2f}, background {outer.mean():.2f} ± {outer.std():.2f}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.mnist", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--source", choices=("embedded", "idx", "torchvision"), default="embedded")
    parser.add_argument("--folder", type=Path, help="official IDX files (idx), or where to download to")
    parser.add_argument("--out", type=Path, help="prepared folder (default: mnist below the data root)")
    parser.add_argument("--force", action="store_true", help="make the folder again if it exists")
    parser.add_argument("--embed", action="store_true", help="remake data_prep/embedded from --folder")
    args = parser.parse_args()
    try:
        if args.embed:
            if args.folder is None:
                raise ValueError("--embed needs --folder")
            embed(args.folder)
            print("embedded digits written")
            return
        print(summary(prepare(args.source, args.folder, args.out, args.force)))
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
