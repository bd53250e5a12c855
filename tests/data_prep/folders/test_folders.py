"""Your own folders -> prepared folder: matched by name, checked, and never a wrong array."""

import hashlib
import shutil

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image
from sklearn.metrics import f1_score

from data_prep.cases import Unusable
from data_prep.folders import prepare as prepare_module
from data_prep.folders.__main__ import main
from data_prep.folders.plans import plan_folders, plan_tree
from data_prep.folders.prepare import prepare
from data_prep.folders.slicing import slices_of
from data_prep.formats.pictures import read_image, read_labels, to_space
from noisyseg.data.dataset import load_dataset

SIZE = (14, 16)
NAMES = [f"case{n}" for n in range(9)]


def picture(n, size=SIZE):
    return np.random.default_rng(n).integers(0, 256, size, dtype=np.uint8)


def mask(n, size=SIZE, high=255):
    """A rectangle that tells the images and the annotators apart."""
    array = np.zeros(size, np.uint8)
    array[2 : 5 + n % 7, 3 : 6 + n // 2 % 7] = high
    return array


def png(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)
    return file


def nifti(file, array, affine=None, dtype=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(np.asarray(array, dtype), affine), file)
    return file


@pytest.fixture
def own(tmp_path):
    """Nine pictures; anna labelled all, ben all, cleo a third; written in another order."""
    for n in range(9):
        png(tmp_path / "scans" / f"case{n}.png", picture(n))
    for n in reversed(range(9)):
        png(tmp_path / "anna" / f"case{n}.png", mask(n))
        png(tmp_path / "ben" / f"case{n}_ben.png", mask(n + 1))
        if n % 3 == 0:
            png(tmp_path / "cleo" / f"Cleo-case{n}.png", mask(n + 2))
    return tmp_path


def arguments(own, *more, labels=("anna", "ben", "cleo"), out="out"):
    given = [a for who in labels for a in ("--labels", f"{who}={own / who}")]
    return [*map(str, ["--images", own / "scans", *given, "--out", own / out, *more])]


def run(own, *more, **keywords):
    main(arguments(own, *more, **keywords))
    return load_dataset(own / "out")


def stems(data):
    return [i.split("/")[0] for i in data.image_ids]


def test_three_annotators_of_whom_one_labelled_a_third(own, capsys):
    data = run(own, "--normalise", "none", "--classes", "background", "lesion")
    assert stems(data) == NAMES and data.annotators == ("anna", "ben", "cleo")
    assert data.classes == ("background", "lesion") and data.truth is None
    for n in range(9):
        np.testing.assert_array_equal(data.images[n, 0], picture(n))
        np.testing.assert_array_equal(data.labels[n, 0], mask(n) // 255)
        np.testing.assert_array_equal(data.labels[n, 1], mask(n + 1) // 255)
        expected = mask(n + 2) // 255 if n % 3 == 0 else np.full(SIZE, -1)
        np.testing.assert_array_equal(data.labels[n, 2], expected)
    printed = capsys.readouterr().out
    assert "0 = background, 255 = lesion" in printed and "9 images" not in printed


def test_the_table_shows_who_agrees_with_whom(own, capsys):
    data = run(own)
    rows = {r.split()[0]: r.split() for r in capsys.readouterr().out.splitlines() if r.split()}
    labels = np.asarray(data.labels)
    both = (labels[:, 2] >= 0).all((1, 2))
    expected = f1_score(labels[both, 0].ravel(), labels[both, 2].ravel())
    assert rows["anna"][1] == "9" and rows["cleo"][1] == "3"
    assert float(rows["anna"][3]) == pytest.approx((labels[:, 0] == 1).mean(), abs=1e-4)
    assert float(rows["anna"][6]) == pytest.approx(expected, abs=1e-3)
    assert rows["cleo"][4] == rows["anna"][6] and rows["cleo"][6] == "1.000"


def test_zscore_and_minmax_are_of_each_image(own):
    data = run(own)
    images = data.read_images()
    np.testing.assert_allclose(images.mean((2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(images.std((2, 3)), 1, atol=1e-5)
    images = run(own, "--force", "--normalise", "minmax").read_images()
    np.testing.assert_allclose([images.min((2, 3)), images.max((2, 3))], [[[0]] * 9, [[1]] * 9])


def digests(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_byte_for_byte_the_same_from_files_in_another_order(own, tmp_path):
    run(own)
    copy = tmp_path / "copy"
    for folder in ("scans", "anna", "ben", "cleo"):
        for file in sorted((own / folder).iterdir(), reverse=True):
            (copy / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy / folder)
    run(copy)
    assert digests(own / "out") == digests(copy / "out")


def test_a_gap_shifts_no_mask(own):
    (own / "anna" / "case1.png").unlink()
    data = run(own)
    expected = [np.full(SIZE, -1) if n == 1 else mask(n) // 255 for n in range(9)]
    np.testing.assert_array_equal(data.read_labels()[:, 0], expected)


def test_roles_are_no_part_of_a_cache_for_other_roles(own):
    first = run(own, labels=("anna", "ben")).read_labels()
    main(
        ["--images", str(own / "scans"), "--labels", f"anna={own / 'ben'}"]
        + ["--labels", f"ben={own / 'anna'}", "--out", str(own / "out"), "--force"]
        + ["--normalise", "none"]
    )
    np.testing.assert_array_equal(load_dataset(own / "out").read_labels(), first[:, ::-1])


def test_truth_channels_and_patients_from_a_pattern(own):
    for n in range(9):
        png(own / "second" / f"case{n}_second.png", picture(n + 50))
        png(own / "gold" / f"case{n}_truth.png", mask(n + 3))
    more = ["--images", own / "second", "--truth", own / "gold", "--cases", "case([0-2]|3|.)"]
    data = run(own, *more, "--normalise", "none")
    np.testing.assert_array_equal(data.images[4], [picture(4), picture(54)])
    np.testing.assert_array_equal(data.read_truth(), [mask(n + 3) // 255 for n in range(9)])
    assert data.channels == ("scans", "second") and data.case_ids.tolist() == list("012345678")


def test_numbered_files_are_channels(own):
    for n in range(9):
        (own / "scans" / f"case{n}.png").rename(own / "scans" / f"case{n}_0000.png")
        png(own / "scans" / f"case{n}_0001.png", picture(n + 50))
    data = run(own, "--numbered", "--normalise", "none")
    assert stems(data) == NAMES
    np.testing.assert_array_equal(data.images[4], [picture(4), picture(54)])


def table(own, rows, head="image_id,case_id,split"):
    (own / "cases.csv").write_text("\n".join([head, *rows]) + "\n")
    return "--cases", own / "cases.csv"


def test_patients_and_splits_from_a_table(own):
    splits = ["train"] * 4 + ["validation"] * 2 + ["test"] * 3
    data = run(own, *table(own, [f"case{n},p{n // 2},{s}" for n, s in enumerate(splits)][:8]
                           + ["case8,p9,test"]))  # fmt: skip
    assert data.split_of.tolist() == [s.replace("validation", "val") for s in splits]
    assert data.case_ids.tolist() == [f"p{n // 2}" for n in range(8)] + ["p9"]


def test_crop_and_pad_keep_the_middle(own, capsys):
    png(own / "scans" / "case3.png", picture(3, (10, 20)))
    for who in ("anna/case3", "ben/case3_ben", "cleo/Cleo-case3"):
        png(own / f"{who}.png", mask(3, (10, 20)))
    data = run(own, "--size", "12", "16", "--normalise", "none")
    assert "9 images cropped, 1 padded" in capsys.readouterr().out
    np.testing.assert_array_equal(data.images[0, 0], picture(0)[1:13])
    np.testing.assert_array_equal(data.images[3, 0, 1:11], picture(3, (10, 20))[:, 2:18])
    np.testing.assert_array_equal(data.labels[3, 0, 1:11], mask(3, (10, 20))[:, 2:18] // 255)
    assert (np.asarray(data.labels[3, 0])[[0, 11]] == -1).all()  # nobody labelled the padding
    assert (np.asarray(data.images[3, 0])[[0, 11]] == picture(3, (10, 20)).min()).all()
    assert run(own, "--size", "largest", "--force").space == (14, 20)


def test_colours_and_16_bits_and_floats(own):
    colours = np.random.default_rng(0).integers(0, 256, (9, *SIZE, 3), np.uint8)
    for n in range(9):
        png(own / "scans" / f"case{n}.png", np.dstack([colours[n], picture(n)]))
    plan = plan_folders([own / "scans"], {"anna": own / "anna"})
    made = prepare(own / "out", plan, normalise="none", origin="real")
    np.testing.assert_array_equal(load_dataset(own / "out").images, np.moveaxis(colours, -1, 1))
    assert "alpha channel dropped: 9 images" in made.notes


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_pictures_keep_their_values(own, dtype):
    deep = np.random.default_rng(0).integers(0, 60000, (9, *SIZE)).astype(dtype)
    for n in range(9):
        (own / "scans" / f"case{n}.png").unlink()
        if dtype == np.uint16 and n % 2:
            png(own / "scans" / f"case{n}.png", deep[n])
        else:
            tifffile.imwrite(own / "scans" / f"case{n}.tif", deep[n])
    np.testing.assert_array_equal(run(own, "--normalise", "none").images[:, 0], deep)


def test_masks_as_palette_grey_rgb_one_bit_and_16_bits_mean_the_same(own):
    expected = [mask(n, high=1) for n in range(9)]
    kinds = {
        0: Image.fromarray(np.dstack([expected[0]] * 3)),
        1: Image.fromarray(expected[1]).convert("P"),
        2: Image.fromarray(expected[2].astype(bool)),
        3: Image.fromarray(expected[3].astype(np.uint16)),
        4: Image.fromarray(np.dstack([expected[4]] * 3 + [np.full(SIZE, 255, np.uint8)])),
    }
    kinds[1] = Image.fromarray(expected[1])
    kinds[1].putpalette([0, 0, 0, 0, 9, 0])
    for n in range(9):
        kinds.get(n, Image.fromarray(expected[n])).save(own / "anna" / f"case{n}.png")
    np.testing.assert_array_equal(run(own).read_labels()[:, 0], expected)  # ben wrote 0 and 255


def test_values_name_the_classes_in_their_order(own):
    for n in range(9):
        array = mask(n, high=30)
        array[0, 0] = 7
        png(own / "anna" / f"case{n}.png", array)
    data = run(own, "--values", "30", "0", "7", "--classes", "a", "b", "c", labels=["anna"])
    expected = np.array([mask(n, high=1) for n in range(9)])
    expected = np.where(expected == 1, 0, 1)
    expected[:, 0, 0] = 2
    np.testing.assert_array_equal(data.read_labels()[:, 0], expected)
    assert data.classes == ("a", "b", "c")


def test_a_label_of_300_is_no_wrapped_44(own):
    for n in range(9):
        png(own / "anna" / f"case{n}.png", mask(n).astype(np.uint16) // 255 * 300)
    data = run(own, labels=["anna"])
    np.testing.assert_array_equal(data.read_labels()[:, 0], [mask(n) // 255 for n in range(9)])


def test_a_tiff_stack_is_a_volume_cut_into_slices_or_kept(own):
    stacks = np.random.default_rng(0).integers(0, 4000, (4, 5, *SIZE)).astype(np.uint16)
    (own / "stacks").mkdir()
    (own / "dan").mkdir()
    for n, stack in enumerate(stacks):
        tifffile.imwrite(own / "stacks" / f"s{n}.tif", stack)
        inside = stack > 2000
        inside[1] = False
        tifffile.imwrite(own / "dan" / f"s{n}.tiff", inside.astype(np.uint8), compression="zlib")
    call = ["--images", own / "stacks", "--labels", f"dan={own / 'dan'}", "--out", own / "out"]
    call = [*map(str, call), "--normalise", "none", "--force"]
    main(call)
    data = load_dataset(own / "out")
    assert data.image_ids[:6].tolist() == [f"s0/z{n:03d}" for n in range(5)] + ["s1/z000"]
    assert data.case_ids[:6].tolist() == ["s0"] * 5 + ["s1"]
    np.testing.assert_array_equal(data.images[:, 0], stacks.reshape(-1, *SIZE))
    main([*call, "--slices", "labelled"])
    data = load_dataset(own / "out")
    assert [i[-4:] for i in data.image_ids] == ["z000", "z002", "z003", "z004"] * 4
    np.testing.assert_array_equal(data.labels[:, 0], np.asarray(data.images[:, 0]) > 2000)
    main([*call, "--dims", "3"])
    data = load_dataset(own / "out")
    np.testing.assert_array_equal(data.images[:, 0], stacks)
    assert data.space == (5, *SIZE)


@pytest.mark.parametrize("written", ["at once", "page by page", "compressed", "by Pillow"])
def test_a_stack_that_was_cut_off_is_never_a_shorter_one(tmp_path, written):
    stack, file = np.stack([mask(n) for n in range(5)]), tmp_path / "stack.tif"
    if written == "page by page":
        with tifffile.TiffWriter(file) as writer:
            for page in stack:
                writer.write(page, contiguous=False)
    elif written == "by Pillow":
        first, *rest = [Image.fromarray(page) for page in stack]
        first.save(file, save_all=True, append_images=rest)
    else:
        tifffile.imwrite(file, stack, compression="zlib" if written == "compressed" else None)
    np.testing.assert_array_equal(read_labels(file).array, stack)
    whole, refused = file.read_bytes(), 0
    for kept in range(0, len(whole), 23):
        file.write_bytes(whole[:kept])
        try:
            np.testing.assert_array_equal(read_labels(file).array, stack)
        except Unusable as error:
            refused += str(file) in str(error)
    assert refused > 10

    assert refused > 10


RAMP = (np.add.outer(np.arange(32), np.arange(32)) * 300).astype(np.uint16)


@pytest.mark.parametrize(
    ("read", "array"), [(read_image, RAMP), (read_labels, mask(3, (64, 64)))], ids=["image", "mask"]
)
def test_a_flipped_bit_in_a_png_is_refused_or_changes_nothing(tmp_path, read, array):
    """Every bit of the file in turn; the checksums of the pixels stand beside them."""
    file = png(tmp_path / "a.png", array)
    whole, refused = file.read_bytes(), 0
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bytes(damaged))
        try:
            np.testing.assert_array_equal(np.squeeze(read(file).array), array)
        except Unusable as error:
            refused += str(file) in str(error)
    assert refused > 7 * len(whole)


@pytest.mark.parametrize("compression", ["lzw", "packbits", "adobe_deflate"])
def test_compressed_tiffs_are_read_exactly(own, compression):
    named = {"lzw": "tiff_lzw", "adobe_deflate": "tiff_adobe_deflate"}
    for n in range(9):
        (own / "scans" / f"case{n}.png").unlink()
        file = own / "scans" / f"case{n}.tif"
        Image.fromarray(picture(n)).save(file, compression=named.get(compression, compression))
    data = run(own, "--normalise", "none")
    np.testing.assert_array_equal(data.images[:, 0], [picture(n) for n in range(9)])


OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.2, 0.1, 0.3) @ np.diag([0.9, 1.1, 2.5]), [4, -7, 3]
)
FLIPPED = np.diag([-1.0, -1.0, 3.0, 1.0]) + [[0, 0, 0, 11], [0, 0, 0, 5], [0, 0, 0, 0], [0] * 4]
TURNED = np.array([[0, 0, -2.0, 9], [1.5, 0, 0, 0], [0, -1, 0, 4], [0, 0, 0, 1]])
AFFINES = {"oblique": OBLIQUE, "flipped": FLIPPED, "axes turned": TURNED}


def scans(own, affine, shape=(7, 9, 5)):
    """Four volumes with a mask of all voxels above 500, written in another orientation."""
    arrays = np.random.default_rng(3).integers(1, 1000, (4, *shape))
    for n, array in enumerate(arrays):
        volume = nib.Nifti1Image(array.astype(np.int16), affine)
        (own / "volumes").mkdir(exist_ok=True)
        nib.save(volume, own / "volumes" / f"v{n}.nii.gz")
        inside = nib.Nifti1Image((array > 500).astype(np.uint8), affine)
        (own / "eve").mkdir(exist_ok=True)
        nib.save(nib.as_closest_canonical(inside), own / "eve" / f"v{n}_eve.nii")
    call = ["--images", own / "volumes", "--labels", f"eve={own / 'eve'}", "--out", own / "out"]
    return arrays, [*map(str, call), "--normalise", "none", "--force"]


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("more", [[], ["--dims", "3"]], ids=["slices", "whole"])
def test_nifti_masks_stay_on_their_voxels(own, affine, more):
    arrays, call = scans(own, affine)
    main([*call, *more])
    data = load_dataset(own / "out")
    np.testing.assert_array_equal(data.labels[:, 0], np.asarray(data.images[:, 0]) > 500)
    canonical = [nib.as_closest_canonical(nib.Nifti1Image(a * 1.0, affine)) for a in arrays]
    expected = np.stack([to_space(c.get_fdata()) for c in canonical])
    found = np.asarray(data.images[:, 0]).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)
    spacing = nib.affines.voxel_sizes(canonical[0].affine)[::-1]
    np.testing.assert_allclose(data.spacing_mm, spacing if more else spacing[1:], rtol=1e-4)


def test_nifti_at_another_spacing_keeps_masks_whole_and_on_place(own):
    _, call = scans(own, np.diag([2.0, 2.0, 2.0, 1.0]))
    for n in range(4):
        ball = np.zeros((16, 16, 16), np.int16)
        ball[4:12, 6:10, 2 + n : 12] = 100
        nifti(own / "volumes" / f"v{n}.nii.gz", ball, np.diag([2.0, 2, 2, 1]), np.int16)
        nifti(own / "eve" / f"v{n}_eve.nii", ball > 50, np.diag([2.0, 2, 2, 1]), np.uint8)
    main([*call, "--spacing", "1", "--dims", "3"])
    data = load_dataset(own / "out")
    assert data.spacing_mm == pytest.approx((1, 1, 1)) and data.space == (32, 32, 32)
    inside = np.asarray(data.images[:, 0]) > 50
    assert f1_score(inside.ravel(), np.asarray(data.labels[:, 0]).ravel()) > 0.9
    assert set(np.unique(data.labels)) == {0, 1}


def tiff(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    colours = array.ndim == 3 and array.shape[-1] <= 4  # what older writers made of such shapes
    tifffile.imwrite(file, array, photometric="rgb" if colours else "minisblack")


def tree(folder, form, splits=(("train", 4), ("validate", 2), ("test", 2))):
    """The authors' tree as their scripts write it; image n has mask(n + i) from annotator i."""
    made, number = [], 0
    for split, count in splits:
        for _ in range(count):
            number += 1
            for array, file in form(number):
                tiff(folder / split / file, array)
            made.append(number)
    return made


def mnist_form(n):
    yield np.dstack([picture(n) / np.float32(255)] * 3), f"Gaussian/1{n:04d}_Gaussian.tif"
    grey = mask(n).astype(np.float32)
    grey[0, 0], grey[0, 1] = 10, 11  # at and above the threshold of the authors' loader
    yield grey, f"GT/1{n:04d}_GT.tif"
    for i, kind in enumerate(["Over", "Under", "Wrong"], 1):
        yield mask(n + i, high=1).astype(np.float32), f"{kind}/1{n:04d}_{kind}.tif"


def brats_form(n):
    case = f"Brats18_{n // 2}_1"
    channels = np.stack([picture(n + i) - np.float32(9) for i in range(4)], -1)
    yield (
        channels if n % 2 else np.moveaxis(channels, -1, 0).copy(),
        (f"Image/{case}_slice_{n}.tif"),
    )
    for i, kind in enumerate(["Good", "Over", "Under", "Wrong"]):
        array = mask(n + i, high=4)
        array[0, 0:2] = 1, 2
        yield array, f"{kind}/{case}_{kind.lower()}_{n}.tif"


def lidc_form(n):
    yield picture(n), f"Image/p{n}.tif"
    for i in range(1, 6):
        yield mask(n + i, high=1), f"Annotator_{i}/p{n}.tif"


def read_tree(own, form, *more):
    numbers = tree(own / "tree", form)
    call = ["--tree", own / "tree", "--out", own / "out", "--normalise", "none", *more]
    main([*map(str, call)])
    data = load_dataset(own / "out")
    assert sorted(data.split_of) == ["test"] * 2 + ["train"] * 4 + ["val"] * 2
    order = np.argsort(
        [int("".join(filter(str.isdigit, i.split("/")[1][-4:]))) for i in stem(data)]
    )
    return data, numbers, order


def stem(data):
    return [i.removesuffix("/image") for i in data.image_ids]


def test_the_authors_tree_for_mnist(own):
    data, numbers, order = read_tree(own, mnist_form)
    assert data.annotators == ("over", "under", "wrong")
    assert stem(data)[:3] == ["test/10007", "test/10008", "train/10001"]
    truth = np.array([mask(n) // 255 for n in numbers])
    truth[:, 0, 1] = 1
    np.testing.assert_array_equal(data.read_truth()[order], truth)
    expected = [[mask(n + i, high=1) for i in (1, 2, 3)] for n in numbers]
    np.testing.assert_array_equal(data.read_labels()[order], expected)
    images = [[picture(n) / np.float32(255)] * 3 for n in numbers]
    np.testing.assert_array_equal(data.read_images()[order], images)


def test_the_authors_tree_for_brats(own, capsys):
    data, numbers, order = read_tree(own, brats_form)
    assert data.annotators == ("good", "over", "under", "wrong") and data.n_classes == 4
    to_class = np.array([0, 1, 2, -9, 3])
    masks = np.array([[mask(n + i, high=4) for i in range(4)] for n in numbers])
    masks[:, :, 0, 0:2] = 1, 2
    np.testing.assert_array_equal(data.read_labels()[order], to_class[masks])
    np.testing.assert_array_equal(data.read_truth(), data.read_labels()[:, 0])
    images = [[picture(n + i) - np.float32(9) for i in range(4)] for n in numbers]
    np.testing.assert_array_equal(data.read_images()[order], images)
    assert "Good is used as an annotator and as the truth" in capsys.readouterr().out


def test_the_authors_tree_for_lidc(own):
    data, numbers, order = read_tree(own, lidc_form)
    assert data.annotators == tuple(f"annotator_{i}" for i in range(1, 5))
    np.testing.assert_array_equal(data.read_truth()[order], [mask(n + 5, high=1) for n in numbers])
    expected = [[mask(n + i, high=1) for i in range(1, 5)] for n in numbers]
    np.testing.assert_array_equal(data.read_labels()[order], expected)


def test_a_gap_in_the_tree_shifts_no_mask(own):
    tree(own / "tree", lidc_form)
    (own / "tree" / "train" / "Annotator_2" / "p2.tif").unlink()
    prepare(own / "out", plan_tree(own / "tree"), normalise="none", origin="real")
    data = load_dataset(own / "out")
    here = stem(data).index("train/p3")
    np.testing.assert_array_equal(data.labels[here, 1], mask(3 + 2, high=1))
    assert (np.asarray(data.labels[stem(data).index("train/p2"), 1]) == -1).all()


def truth_form(truth, marks):
    """GT is `truth` of the image's number, Over and Under are `marks` of it."""

    def form(n):
        yield picture(n), f"Image/p{n}.tif"
        yield truth(n), f"GT/p{n}.tif"
        yield marks(n), f"Over/p{n}.tif"
        yield marks(n + 1), f"Under/p{n}.tif"

    return form


def numbered_mask(values):
    """Masks that hold background 0 and `values`, one beside the other."""

    def make(n):
        array = mask(n, high=values[0])
        array[0, : len(values)] = values
        return array

    return make


@pytest.mark.parametrize("marks", [[1], [3, 2, 1]], ids=["binary masks", "classes"])
def test_class_numbers_in_gt_stay_class_numbers(own, capsys, marks):
    truth = numbered_mask([2, 1, 3])
    data, numbers, order = read_tree(own, truth_form(truth, numbered_mask(marks)))
    np.testing.assert_array_equal(data.read_truth()[order], [truth(n) for n in numbers])
    marked = [numbered_mask(marks)(n) for n in numbers]
    np.testing.assert_array_equal(data.read_labels()[order, 0], marked)
    assert "GT is grey" not in capsys.readouterr().out


def test_class_numbers_above_the_grey_threshold_stay_class_numbers(own):
    made = numbered_mask([5, 11, 12])
    data, numbers, order = read_tree(own, truth_form(made, made))
    assert data.n_classes == 4
    to_class = np.array([0, *[-9] * 4, 1, *[-9] * 5, 2, 3])
    np.testing.assert_array_equal(data.read_truth()[order], [to_class[made(n)] for n in numbers])


def test_grey_truth_is_thresholded_in_every_file_and_said(own, capsys):
    def grey(n):
        if n == 3:
            return mask(n, high=1)
        array = mask(n, high=200)
        array[0, :4] = 1, 2, 10, 11
        return array

    data, numbers, order = read_tree(own, truth_form(grey, numbered_mask([1])))
    expected = np.array([mask(n, high=1) for n in numbers])
    expected[[n != 3 for n in numbers], 0, 3] = 1
    np.testing.assert_array_equal(data.read_truth()[order], expected)
    printed = capsys.readouterr().out
    assert "GT is grey: values above 10 are foreground, in 7 masks" in printed


def test_a_gt_of_0_and_255_can_be_named_in_values(own):
    data, numbers, order = read_tree(own, truth_form(mask, mask), "--values", "0", "255")
    truth = [mask(n, high=1) for n in numbers]
    np.testing.assert_array_equal(data.read_truth()[order], truth)


def test_annotator_5_beside_gt_is_an_annotator(own):
    def form(n):
        yield from lidc_form(n)
        yield mask(n, high=1), f"GT/p{n}.tif"

    data, numbers, order = read_tree(own, form)
    assert data.annotators == tuple(f"annotator_{i}" for i in range(1, 6))
    np.testing.assert_array_equal(data.read_truth()[order], [mask(n, high=1) for n in numbers])
    fifth = [mask(n + 5, high=1) for n in numbers]
    np.testing.assert_array_equal(data.read_labels()[order, 4], fifth)


def test_a_truth_that_only_one_split_has_leaves_out_no_image(own, capsys):
    tree(own / "tree", truth_form(mask, mask))
    for split in ("train", "validate"):
        shutil.rmtree(own / "tree" / split / "GT")
    main(["--tree", str(own / "tree"), "--out", str(own / "out")])
    data = load_dataset(own / "out")
    assert sorted(data.split_of) == ["test"] * 2 + ["train"] * 4 + ["val"] * 2
    assert data.truth is None and data.annotators == ("over", "under")
    assert "tree: no GT in train, validate, so no truth is used" in capsys.readouterr().out


def no_train_folder(folder):
    shutil.rmtree(folder / "train")
    return "none of 0 images of train has a mask of an annotator and gt"


def no_masks_in_train(folder):
    for kind in ("Over", "Under"):
        shutil.rmtree(folder / "train" / kind)
    return "none of 4 images of train has a mask of an annotator and gt"


def truth_of_one_split_alone(folder):
    for split in ("train", "validate", "test"):
        for kind in ("Over", "Under", *(["GT"] if split != "test" else [])):
            shutil.rmtree(folder / split / kind)
    return "no annotator and no truth in every split"


NO_TRAIN = [no_train_folder, no_masks_in_train, truth_of_one_split_alone]


@pytest.mark.parametrize("damage", NO_TRAIN, ids=lambda d: d.__name__)
def test_a_tree_that_cannot_be_learned_from_is_refused(own, damage):
    tree(own / "tree", truth_form(mask, mask))
    said = damage(own / "tree")
    with pytest.raises(SystemExit) as error:
        main(["--tree", str(own / "tree"), "--out", str(own / "out")])
    assert said in str(error.value) and str(own / "tree") in str(error.value)
    assert not (own / "out").exists()


def test_a_tree_whose_train_images_are_all_damaged_is_refused(own):
    tree(own / "tree", truth_form(mask, mask))
    for file in (own / "tree" / "train" / "Image").iterdir():
        tiff(file, np.full(SIZE, 9, np.uint8))
    with pytest.raises(SystemExit, match="no usable image is in train .4 are left out"):
        main(["--tree", str(own / "tree"), "--out", str(own / "out")])
    assert not (own / "out").exists()


def test_a_table_without_train_is_refused(own):
    rows = [f"case{n},p{n},test" for n in range(9)]
    with pytest.raises(SystemExit, match="no usable image is in train"):
        run(own, *table(own, rows))


def one_pair(folder, image, named):
    """A tree of one image, with one mask by Under and one by Over, who names it as the image."""
    for kind, stem in (("Image", image), ("Over", image), ("Under", named)):
        (folder / "train" / kind).mkdir(parents=True)
        (folder / "train" / kind / f"{stem}.tif").touch()
    return plan_tree(folder)


@pytest.mark.parametrize(
    "image, named",
    [
        ("case1_50", "case1_51"),
        ("case1_50", "case1_051"),
        ("case1_z050", "case1_z051"),
        ("case1_slice50", "case1_slice51"),
        ("case1_50", "case1"),
        ("case1", "case1_50"),
        ("case1_50", "case1_under"),
    ],
)
def test_a_mask_of_another_slice_is_of_no_image(own, image, named):
    with pytest.raises(ValueError, match="1 of 1 masks belong to no image") as error:
        one_pair(own / "tree", image, named)
    assert f"Under/{named}.tif" in str(error.value) and "move it away" in str(error.value)


@pytest.mark.parametrize(
    "image, named",
    [
        ("case1_50", "case1_050"),
        ("case1_z050", "case1_50"),
        ("case1_slice_50", "case1_under_50"),
        ("case1_50", "case1_50_seg"),
        ("case1_t1", "case1_seg"),
        ("case1", "case1_annotator1"),
        ("case1_image", "case1_under"),
    ],
)
def test_a_mask_called_a_little_otherwise_is_of_its_image(own, image, named):
    (entry,) = one_pair(own / "tree", image, named).entries
    assert entry.masks["under"].name == f"{named}.tif"


def with_value(own, who, number, value):
    """The mask of one annotator with `value` in its first row, as 16-bit TIFF."""
    array = mask(number).astype(np.int16)
    array[0] = value
    (own / who / f"case{number}.png").unlink()
    tifffile.imwrite(own / who / f"case{number}.tif", array)


@pytest.mark.parametrize("more", [[], ["--values", "0", "255"]], ids=["found", "given"])
def test_minus_1_in_a_mask_is_not_labelled(own, capsys, more):
    with_value(own, "anna", 3, -1)
    data = run(own, *more)
    assert stems(data) == NAMES and data.classes == ("background", "foreground")
    expected = np.array([mask(n) // 255 for n in range(9)], np.int64)
    expected[3, 0] = -1
    np.testing.assert_array_equal(data.read_labels()[:, 0], expected)
    printed = capsys.readouterr().out
    assert "mask values: 0 = background, 255 = foreground" in printed
    assert "-1 in a mask, which means not labelled unless --values names it: 1 images" in printed


def test_minus_1_in_the_truth_leaves_out_one_case(own, capsys):
    for n in range(9):
        png(own / "gold" / f"case{n}.png", mask(n))
    with_value(own, "gold", 3, -1)
    data = run(own, "--truth", own / "gold")
    assert stems(data) == [n for n in NAMES if n != "case3"]
    assert "gold/case3.tif: value -1 is none of 0, 255" in capsys.readouterr().out


def test_slices_that_nobody_labelled_are_left_out(own, capsys):
    arrays, call = scans(own, np.diag([1.0, 1, 2, 1]))
    for n, array in enumerate(arrays):
        marked = (array > 500).astype(np.int16)
        marked[..., 1:3] = -1
        nifti(own / "eve" / f"v{n}_eve.nii", marked if n else 0 * marked - 1, dtype=np.int16)
    main(call)
    data = load_dataset(own / "out")
    assert data.image_ids.tolist() == [f"v{n}/z{z:03d}" for n in (1, 2, 3) for z in (0, 3, 4)]
    np.testing.assert_array_equal(data.labels[:, 0], np.asarray(data.images[:, 0]) > 500)
    assert "v0.nii.gz: its masks hold -1 (not labelled) only" in capsys.readouterr().out


def test_a_value_below_0_is_refused_unless_it_is_given(own, capsys):
    with_value(own, "anna", 3, -2)
    with pytest.raises(SystemExit, match="anna/case3.tif: value -2 is below 0; .*--values"):
        run(own)
    assert not (own / "out").exists()
    assert "case3" not in stems(run(own, "--values", "0", "255"))
    assert "anna/case3.tif: value -2 is none of 0, 255" in capsys.readouterr().out
    data = run(own, "--values", "0", "255", "-2", "--force")
    expected = mask(3) // 255
    expected[0] = 2
    np.testing.assert_array_equal(data.labels[3, 0], expected)


def test_minus_1_is_a_class_where_it_is_given(own):
    with_value(own, "anna", 3, -1)
    data = run(own, "--values", "-1", "0", "255")
    expected = 1 + mask(3) // 255
    expected[0] = 0
    np.testing.assert_array_equal(data.labels[3, 0], expected)


def test_an_annotator_who_labelled_nothing_is_refused(own):
    for n in range(9):
        with_value(own, "anna", n, -1)
        tifffile.imwrite(own / "anna" / f"case{n}.tif", np.full(SIZE, -1, np.int16))
    with pytest.raises(SystemExit, match="anna/case0.tif: like all masks of anna it holds -1"):
        run(own)
    assert not (own / "out").exists()


# Damage: what is done to the folder, whether it ends everything or leaves out one case, and
# what the message must name besides a file: the value and the remedy.


def unmatched(own):
    png(own / "anna" / "casee3.png", mask(0))
    return "casee3.png", "near: case3", "name each like its image"


def repeated_stem(own):
    tifffile.imwrite(own / "anna" / "case3.tif", mask(0))
    return "case3.png", "case3.tif", "remove or rename"


def two_masks_for_one_image(own):
    png(own / "anna" / "case3_anna.png", mask(0))
    return "case3_anna.png", "image case3", "remove one"


def wrong_size(own):
    png(own / "anna" / "case3.png", mask(0, (14, 15)))
    return "anna/case3.png", "(14, 15)", "one grid"


def images_of_two_sizes(own):
    png(own / "scans" / "case3.png", picture(0, (9, 9)))
    for who in ("anna/case3", "ben/case3_ben", "cleo/Cleo-case3"):
        png(own / f"{who}.png", mask(0, (9, 9)))
    return "case3", "(9, 9)", "--size"


def unknown_value(own):
    png(own / "anna" / "case3.png", np.where(mask(3) > 0, 7, 0).astype(np.uint8))
    return "anna/case3.png", "7", "--values"


def grey_mask(own):
    png(own / "anna" / "case3.png", picture(3))
    return "values occur", "grey picture", "--values"


def colour_mask(own):
    png(own / "anna" / "case3.png", np.dstack([mask(3), mask(3), 0 * mask(3)]))
    return "anna/case3.png", "[255, 255, 0]", "palette"


def truncated_png(own):
    file = own / "scans" / "case3.png"
    file.write_bytes(file.read_bytes()[:-60])
    return "scans/case3.png", "cannot be read", "save it again"


def truncated_tiff(own):
    (own / "scans" / "case3.png").unlink()
    file = own / "scans" / "case3.tif"
    tifffile.imwrite(file, picture(3))
    file.write_bytes(file.read_bytes()[:-60])
    return "scans/case3.tif", "bytes", "save it again"


def text_called_tiff(own):
    (own / "scans" / "case3.png").unlink()
    (own / "scans" / "case3.tif").write_text("no picture at all, only words")
    return "scans/case3.tif", "cannot be read", "save it again"


def unlike_pages(own):
    (own / "scans" / "case3.png").unlink()
    with tifffile.TiffWriter(own / "scans" / "case3.tif") as writer:
        writer.write(picture(3))
        writer.write(picture(3, (5, 5)))
    return "scans/case3.tif", "2 unlike pictures", "save one"


def white_is_zero(own):
    (own / "anna" / "case3.png").unlink()
    tifffile.imwrite(own / "anna" / "case3.tif", mask(3), photometric="miniswhite")
    return "anna/case3.tif", "zero means white", "black"


def deep_colour_png(own):
    header = (own / "scans" / "case3.png").read_bytes()
    (own / "scans" / "case3.png").write_bytes(header[:24] + bytes([16, 2]) + header[26:])
    return "scans/case3.png", "16 bits", "TIFF"


def not_a_number(own):
    (own / "scans" / "case3.png").unlink()
    bad = picture(3).astype(np.float32)
    bad[4, 4] = np.nan
    tifffile.imwrite(own / "scans" / "case3.tif", bad)
    return "scans/case3.tif", "NaN", "fill"


def half_a_class(own):
    (own / "anna" / "case3.png").unlink()
    tifffile.imwrite(own / "anna" / "case3.tif", mask(3, high=1) * np.float32(0.5))
    return "anna/case3.tif", "0.5", "class numbers"


def zero_bytes(own):
    (own / "anna" / "case3.png").write_bytes(b"")
    return "anna/case3.png", "0 bytes", "save it again"


def constant(own):
    png(own / "scans" / "case3.png", np.full(SIZE, 9, np.uint8))
    return "scans/case3.png", "9.0 everywhere", "--normalise none"


def folder_like_a_mask(own):
    (own / "anna" / "case3.png").unlink()
    (own / "anna" / "case3.png").mkdir()
    return "anna/case3.png", "is a folder", "move"


def unknown_format(own):
    (own / "anna" / "case3.png").rename(own / "anna" / "case3.mha")
    return "case3.mha", ".mha", "convert"


def empty_folder(own):
    shutil.rmtree(own / "anna")
    (own / "anna").mkdir()
    return "anna", "holds no file", "put some"


def no_folder(own):
    shutil.rmtree(own / "anna")
    return "anna", "does not exist", "give the folder"


def file_for_a_folder(own):
    shutil.rmtree(own / "anna")
    (own / "anna").write_text("x")
    return "anna", "is a file", "give the folder"


def no_label_at_all(own):
    for file in ("anna/case1.png", "ben/case1_ben.png"):
        (own / file).unlink()
    return "scans/case1.png", "nobody labelled it", "add a mask or remove it"


def every_mask_of_one_damaged(own):
    for file in (own / "cleo").iterdir():
        file.write_bytes(b"")
    return "cleo", "no mask of annotator cleo", "leave them out"


def mixed_channels(own):
    png(own / "scans" / "case3.png", np.dstack([picture(3)] * 3))
    return "case3", "channels 3", "convert"


def mixed_dimensions(own):
    (own / "scans" / "case3.png").unlink()
    tifffile.imwrite(own / "scans" / "case3.tif", np.stack([picture(i) for i in range(5)]))
    for who in ("anna/case3", "ben/case3_ben", "cleo/Cleo-case3"):
        (own / f"{who}.png").unlink()
        tifffile.imwrite(own / f"{who}.tif", np.stack([mask(i) for i in range(5)]))
    return "case3", "axes 3", "alone"


def empty_masks(own):
    for who in ("anna", "ben", "cleo"):
        for file in (own / who).iterdir():
            png(file, 0 * mask(0))
    return "only the value 0", "--values"


def two_images_alone(own):
    for n in range(2, 9):
        for file in own.glob(f"*/*case{n}*"):
            file.unlink()
    return "fewer than three", "--cases"


FATAL = [
    unmatched, repeated_stem, two_masks_for_one_image, images_of_two_sizes, unknown_value,
    grey_mask, folder_like_a_mask, unknown_format, empty_folder, no_folder, file_for_a_folder,
    every_mask_of_one_damaged, mixed_channels, mixed_dimensions, empty_masks, two_images_alone,
]  # fmt: skip
LEFT_OUT = [
    wrong_size, colour_mask, truncated_png, truncated_tiff, text_called_tiff, unlike_pages,
    white_is_zero, deep_colour_png, not_a_number, half_a_class, zero_bytes, constant,
    no_label_at_all,
]  # fmt: skip


def by_name(damage):
    return damage.__name__


@pytest.mark.parametrize("damage", FATAL, ids=by_name)
def test_damage_that_ends_everything(own, damage):
    if damage is unknown_value:
        said, more = damage(own), ["--classes", "background", "lesion"]
    else:
        said, more = damage(own), []
    with pytest.raises(SystemExit) as error:
        run(own, *more)
    assert str(error.value).startswith("error: ")
    assert all(text in str(error.value) for text in said)
    assert not (own / "out").exists()


@pytest.mark.parametrize("damage", LEFT_OUT, ids=by_name)
def test_damage_that_leaves_out_one_case(own, capsys, damage):
    expected = [mask(n) // 255 for n in range(9)]
    said = damage(own)
    data = run(own)
    line = next(r for r in capsys.readouterr().out.splitlines() if r.startswith("- case"))
    assert all(text in line for text in said)
    number = int(line[6])
    assert stems(data) == [n for n in NAMES if n != f"case{number}"]
    np.testing.assert_array_equal(data.labels[:, 0], np.delete(expected, number, axis=0))
    with pytest.raises(SystemExit) as error:
        run(own, "--strict", "--force")
    assert all(text in str(error.value) for text in said)


def test_a_value_beside_those_given_leaves_out_one_case(own, capsys):
    png(own / "anna" / "case3.png", mask(3).astype(np.uint16) // 255 * 300)
    data = run(own, "--values", "0", "255")
    assert stems(data) == [n for n in NAMES if n != "case3"]
    assert "anna/case3.png: value 300" in capsys.readouterr().out


COMMANDS = {
    "annotator named twice": (["--labels", "anna={own}/ben"], "annotator anna is given"),
    "annotator named twice for one folder": (["--labels", "anna={own}/anna"], "given twice"),
    "folder given twice": (["--labels", "dora={own}/anna"], "for annotator anna and for"),
    "values for too many classes": (
        ["--values", "0", "255", "9", "--classes", "a", "b"],
        "9 nowhere",
    ),
    "value twice": (["--values", "0", "0"], "different values"),
    "class names that do not fit": (["--classes", "a", "b", "c"], "--values"),
    "pattern without a group": (["--cases", "case"], "no group"),
    "pattern that is none": (["--cases", "case("], "no regular expression"),
    "pattern that finds nothing": (["--cases", "patient(.)"], "finds no patient in case0"),
    "table that is not there": (["--cases", "{own}/none.csv"], "no such file"),
    "spacing of a picture": (["--spacing", "1"], "no spacing in mm"),
    "spacing below zero": (["--spacing", "-1"], "millimetres above 0"),
    "size in words": (["--size", "big"], "whole numbers"),
    "size of one number": (["--size", "8"], "give 2 numbers"),
    "size of zero": (["--size", "8", "0"], "above 0"),
    "numbered files that are not": (["--numbered"], "case0_0000"),
    "tree and images": (["--tree", "{own}"], "leave the others away"),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_that_cannot_be_meant(own, what):
    more, said = COMMANDS[what]
    labels = ("anna", "ben")
    with pytest.raises(SystemExit) as error:
        run(own, *(m.format(own=own) for m in more), labels=labels)
    assert said in str(error.value) and not (own / "out").exists()


ROWS = [f"case{n},p{n},{'train' if n < 6 else 'test'}" for n in range(9)]
TABLES = {
    "unknown image": ([*ROWS, "casee3,p1,train"], "casee3 (near: case3"),
    "image without a row": (ROWS[1:], "no row for image case0"),
    "image twice": ([*ROWS, ROWS[0]], "case0 is there twice"),
    "case in two splits": ([*ROWS[:8], "case8,p0,test"], "case p0 is in train (image case0)"),
    "unknown split": ([*ROWS[:8], "case8,p8,dev"], "split 'dev' of image case8"),
    "empty case": ([*ROWS[:8], "case8,,test"], "case_id of case8 is empty"),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_that_does_not_fit(own, what):
    rows, said = TABLES[what]
    with pytest.raises(SystemExit) as error:
        run(own, *table(own, rows))
    assert said in str(error.value) and "cases.csv" in str(error.value)
    assert not (own / "out").exists()


def test_a_table_without_its_columns(own):
    with pytest.raises(SystemExit, match="cases.csv: no column case_id"):
        run(own, *table(own, ROWS, "image_id,patient,split"))


def missing_channel(own):
    for n in range(9):
        if n != 3:
            png(own / "second" / f"case{n}.png", picture(n))
    return ["--images", own / "second"], "channel 2 of image case3 is missing"


def missing_truth(own):
    for n in range(9):
        if n != 3:
            png(own / "gold" / f"case{n}.png", mask(n))
    return ["--truth", own / "gold"], "scans/case3.png: no truth mask"


@pytest.mark.parametrize("damage", [missing_channel, missing_truth], ids=by_name)
def test_what_one_image_lacks(own, capsys, damage):
    more, said = damage(own)
    data = run(own, *more)
    assert said in capsys.readouterr().out
    assert stems(data) == [n for n in NAMES if n != "case3"]


def other_affine(own, arrays):
    nifti(own / "eve" / "v1_eve.nii", arrays[1] > 500, np.diag([1.0, 1, 2, 1]), np.uint8)


def nan_in_volume(own, arrays):
    nifti(own / "volumes" / "v1.nii.gz", np.full(arrays[1].shape, np.nan), OBLIQUE, np.float32)


def truncated_volume(own, arrays):
    file = own / "volumes" / "v1.nii.gz"
    file.write_bytes(file.read_bytes()[:200])


def half_in_volume(own, arrays):
    nifti(own / "eve" / "v1_eve.nii", (arrays[1] > 500) * 0.5, OBLIQUE, np.float32)


def stack_for_a_volume(own, arrays):
    (own / "eve" / "v1_eve.nii").unlink()
    tifffile.imwrite(own / "eve" / "v1_eve.tif", (arrays[1] > 500).T.astype(np.uint8))


VOLUME_DAMAGE = [other_affine, nan_in_volume, truncated_volume, half_in_volume, stack_for_a_volume]


@pytest.mark.parametrize("damage", VOLUME_DAMAGE, ids=by_name)
def test_a_damaged_volume_is_left_out(own, capsys, damage):
    arrays, call = scans(own, OBLIQUE)
    damage(own, arrays)
    main(call)
    line = next(r for r in capsys.readouterr().out.splitlines() if r.startswith("- v1"))
    assert "v1_eve" in line or "v1.nii.gz" in line
    data = load_dataset(own / "out")
    assert set(stems(data)) == {"v0", "v2", "v3"}
    np.testing.assert_array_equal(data.labels[:, 0], np.asarray(data.images[:, 0]) > 500)


def test_one_digit_in_two_splits_of_the_tree(own):
    tree(own / "tree", mnist_form)
    for kind in ("Gaussian", "GT", "Over", "Under", "Wrong"):
        shutil.copy(own / f"tree/train/{kind}/10001_{kind}.tif", own / f"tree/test/{kind}")
    with pytest.raises(SystemExit, match="case 10001 is in test .* and in train"):
        main(["--tree", str(own / "tree"), "--out", str(own / "out")])


def test_a_folder_that_is_no_tree(own):
    with pytest.raises(SystemExit, match="holds none of train"):
        main(["--tree", str(own), "--out", str(own / "out")])
    (own / "train" / "Over").mkdir(parents=True)
    with pytest.raises(SystemExit, match="needs one of Image and Gaussian"):
        main(["--tree", str(own), "--out", str(own / "out")])


@pytest.mark.parametrize(
    "there, meant",
    [
        (["a", "a_1", "b"], ["a", "a_1", "b"]),  # plain names
        (["a_1_1", "b_1"], ["a_1", "b"]),  # each with the annotator's name behind
        (["a_1", "b_1"], None),  # a_1 may be image a_1 or image a
        (["a_1"], None),
    ],
)
def test_a_mask_name_with_two_meanings_is_refused(own, there, meant):
    for name in ("a", "a_1", "b", "c", "d"):
        png(own / "two" / f"{name}.png", picture(1))
    for name in there:
        png(own / "1" / f"{name}.png", mask(1))
    if meant is None:
        with pytest.raises(ValueError, match="a_1.png may belong to image a_1 or a;"):
            plan_folders([own / "two"], {"1": own / "1"})
        return
    entries = plan_folders([own / "two"], {"1": own / "1"}).entries
    found = {e.masks["1"].stem: e.name for e in entries if e.masks}
    assert found == dict(zip(there, meant, strict=True))


def test_what_is_there_stays_without_force(own):
    before = digests(run(own).path)
    with pytest.raises(SystemExit, match="--force"):
        run(own, "--normalise", "none")
    assert digests(own / "out") == before


def test_an_interrupted_run_goes_on_and_reads_no_case_twice(own, monkeypatch):
    calls = []

    def interrupted(entry, recipe):
        calls.append(entry.name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return slices_of(entry, recipe)

    monkeypatch.setattr(prepare_module, "slices_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(own)
    assert not (own / "out").exists()
    data = run(own)
    assert calls == [*NAMES[:4], *NAMES[3:]]  # the one that was cut off is read again
    monkeypatch.undo()
    before = digests(data.path)
    assert digests(run(own, "--force").path) == before


def test_nothing_that_can_be_read_is_an_error_with_a_reason(own):
    for file in (own / "scans").iterdir():
        file.write_bytes(b"")
    with pytest.raises(SystemExit, match="no usable case among 9 .case0: .*case0.png: 0 bytes"):
        run(own)


def test_a_number_too_large_for_an_image_is_left_out(own, capsys):
    (own / "scans" / "case3.png").unlink()
    tifffile.imwrite(own / "scans" / "case3.tif", np.full(SIZE, 1e300))
    assert "case3" not in stems(run(own))
    assert "case3.tif: has NaN or infinite" in capsys.readouterr().out


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--help"])
    assert error.value.code == 0
    options = "images labels truth tree classes values cases spacing size normalise slices dims"
    printed = capsys.readouterr().out
    assert all(f"--{name}" in printed for name in options.split())
