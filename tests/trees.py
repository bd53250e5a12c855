"""Small trees in the layouts of MSLSC / ISBI 2015, BraTS and BU-BIL, and ways to damage them."""

import gzip
import shutil

import nibabel as nib
import numpy as np
from PIL import Image

SHAPE = (20, 24, 14)
AFFINE = np.diag([1.0, 1, 1, 1])
BRATS_NAMES = {
    2018: ("MICCAI_BraTS_2018_Data_Training/HGG", "Brats18_2013_{}_1", "_"),
    2019: ("MICCAI_BraTS_2019_Data_Training/LGG", "BraTS19_CBICA_A{}_1", "_"),
    2020: ("MICCAI_BraTS2020_TrainingData", "BraTS20_Training_00{}", "_"),
    2021: ("BraTS2021_Training_Data", "BraTS2021_0000{}", "_"),
    2023: ("ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData", "BraTS-GLI-0000{}-000", "-"),
}
WORDS = {2023: ("t2f", "t1n", "t1c", "t2w")}


def save(file, array, affine=AFFINE):
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), file)
    return file


def brain(seed, shape=SHAPE):
    """Intensities above 0 in an ellipsoid, 0 outside: float32."""
    rng = np.random.default_rng(seed)
    axes = np.moveaxis(np.indices(shape), 0, -1) / (np.array(shape) - 1) * 2 - 1
    inside = (axes**2).sum(-1) < 0.9
    return (inside * rng.uniform(50, 150, shape)).astype(np.float32)


def lesion(seed, shape=SHAPE):
    """A few boxes of 1 near the middle: uint8."""
    rng, mask = np.random.default_rng(seed), np.zeros(shape, np.uint8)
    for _ in range(3):
        x, y, z = (int(rng.integers(n // 2 - 4, n // 2 + 2)) for n in shape)
        mask[x : x + 3, y : y + 4, z : z + 3] = 1
    return mask


def ms_tree(folder, patients=3, visits=2, suffix=".nii", layout="official"):
    """`training/` with `patients` x `visits` scans; layouts: official, flat, deeper, upper."""
    for p in range(1, patients + 1):
        for t in range(1, visits + 1):
            stem = f"training{p:02d}_{t:02d}"
            root = folder / "training" / f"training{p:02d}"
            images, masks = root / "preprocessed", root / "masks"
            if layout == "flat":
                images = masks = folder / "training"
            if layout == "deeper":
                images, masks = images / f"{t:02d}", masks / f"{t:02d}"
            stem = stem.upper() if layout == "upper" else stem
            for k, what in enumerate(("flair", "mprage", "pd", "t2")):
                save(images / f"{stem}_{what}_pp{suffix}", brain(100 * p + 10 * t + k))
            for k in (1, 2):
                save(masks / f"{stem}_mask{k}{suffix}", lesion(100 * p + 10 * t + k))
    return folder / "training"


def tumour(seed, shape=SHAPE, enhancing=4):
    """Nested boxes: oedema 2, enhancing ring, core 1: uint8."""
    mask, shift = np.zeros(shape, np.uint8), int(np.random.default_rng(seed).integers(0, 3))
    for width, label in ((5, 2), (3, enhancing), (2, 1)):
        low = [n // 2 - width + shift for n in shape]
        mask[tuple(slice(a, a + 2 * width - 1) for a in low)] = label
    return mask


def brats_tree(folder, year=2020, cases=4, suffix=".nii.gz", enhancing=None):
    """The training tree of `year`; label 4, from 2023 label 3."""
    parent, pattern, join = BRATS_NAMES[year]
    words = WORDS.get(year, ("flair", "t1", "t1ce", "t2"))
    label = enhancing or (3 if year == 2023 else 4)
    for n in range(1, cases + 1):
        name = pattern.format(n)
        for k, what in enumerate(words):
            save(folder / parent / name / f"{name}{join}{what}{suffix}", brain(50 * n + k))
        save(folder / parent / name / f"{name}{join}seg{suffix}", tumour(n, enhancing=label))
    return folder / parent


def rewrite(file, change=lambda a: a, affine=None):
    """Replace what is in `file` by `change` of it."""
    image = nib.load(file, mmap=False)
    array = change(np.asarray(image.dataobj).copy())
    save(file, array, image.affine if affine is None else affine)


def put(value, at=(10, 12, 7)):
    def change(array):
        array = array.astype(np.float32)
        array[at] = value
        return array

    return change


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def bad_gzip(file):
    content = bytearray(gzip.compress(gzip.decompress(file.read_bytes()))
                        if file.suffix == ".gz" else file.read_bytes())  # fmt: skip
    content[len(content) // 2 :] = b"\0" * (len(content) - len(content) // 2)
    file.write_bytes(bytes(content))


def as_folder(file):
    file.unlink()
    file.mkdir()


def singular(file):
    """An affine that maps all slices onto one: only a damaged header holds it."""
    image = nib.load(file, mmap=False)
    header = image.header.copy()
    header["srow_z"] = 0
    header["sform_code"], header["qform_code"] = 1, 0
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, header), file)


def oblique(degrees=20.0):
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn
    return affine


# Kinds of damage to one image file of a case, and what the report must say of it.
IMAGE_DAMAGE = {
    "missing": (lambda f: f.unlink(), "missing"),
    "truncated": (truncate, "cannot be read|no readable"),
    "corrupt": (bad_gzip, "cannot be read|no readable|NaN|constant|voxel"),
    "zero bytes": (lambda f: f.write_bytes(b""), "no readable|cannot be read"),
    "a text file": (lambda f: f.write_text("not an image"), "no readable|cannot be read"),
    "a folder": (as_folder, "folder where"),
    "another shape": (lambda f: rewrite(f, lambda a: a[:-1]), "one grid"),
    "another affine": (lambda f: rewrite(f, affine=np.diag([1, 1, 1.1, 1])), "mm apart"),
    "shifted": (lambda f: rewrite(f, affine=AFFINE + np.eye(4, k=3) * 0.5), "mm apart"),
    "oblique beside straight": (lambda f: rewrite(f, affine=oblique()), "mm apart"),
    "a singular affine": (singular, "singular"),
    "NaN": (lambda f: rewrite(f, put(np.nan)), "NaN or infinite"),
    "infinite": (lambda f: rewrite(f, put(np.inf)), "NaN or infinite"),
    "constant": (lambda f: rewrite(f, lambda a: a * 0 + 7), "every voxel"),
    "empty": (lambda f: rewrite(f, lambda a: a * 0), "every voxel"),
    "four axes": (lambda f: rewrite(f, lambda a: np.stack([a, a], -1)), "three axes"),
}  # fmt: skip
MASK_DAMAGE = {
    "no mask": (lambda f: f.unlink(), "missing"),
    "a half value": (lambda f: rewrite(f, put(0.5)), "holds 0.5"),
    "an unknown label": (lambda f: rewrite(f, put(9)), "holds 9"),
    "a negative label": (lambda f: rewrite(f, put(-1)), "holds -1"),
    "nothing marked": (lambda f: rewrite(f, lambda a: a * 0), "no slice has"),
    "a mask of another shape": (lambda f: rewrite(f, lambda a: a[:, 1:]), "one grid"),
    "a truncated mask": (truncate, "cannot be read|no readable"),
}


PEOPLE = {
    "phase_crowd": ("crowd1", "crowd2", "crowd3", "crowd4", "crowd5", "truth"),
    "phase_persons": ("person1", "person2", "person3", "person4", "person5"),
}
CELLS = ("a", "a", "b", "c", "c", "c", "d", "e")  # which cell each picture shows


def people_tree(folder):
    """`phase_crowd` and `phase_persons` with eight small pictures of five cells, and their cases.

    Every person marks a rectangle of their own; no two pictures are of one size.
    """
    rng = np.random.default_rng(0)
    for name, people in PEOPLE.items():
        for n in range(len(CELLS)):
            space = (10 + n, 16 - n)
            _png(folder / name / "images" / f"p{n}.png", rng.integers(0, 256, space))
            for k, person in enumerate(people):
                mask = np.zeros(space)
                mask[2 : 4 + k, 2:7] = 255
                _png(folder / name / person / f"p{n}.png", mask)
        rows = [f"p{n},{cell}" for n, cell in enumerate(CELLS)]
        (folder / f"{name}_cases.csv").write_text("\n".join(["image_id,case_id", *rows]) + "\n")
    return folder


def _png(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(file)


def copied(tree, target):
    return shutil.copytree(tree, target / tree.name)


def at_the_edge(mask):
    """One marked box that a narrow crop cuts off."""
    mask = np.zeros_like(mask)
    mask[:2, :3, 4:7] = 1
    return mask


def folder_bytes(path):
    """Every file of a prepared folder by name."""
    return {p.name: p.read_bytes() for p in sorted(path.iterdir())}
