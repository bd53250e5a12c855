"""Faults that people's files really have: what each must become, or the sentence that helps.

Each kind once, with several members: `pictures` draws a folder, a fault changes it, and what is
prepared is compared with what was drawn.
"""

import os
import unicodedata

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from data_prep import brats, cases
from data_prep.folders.__main__ import main
from data_prep.folders.own import LAYOUT, plan_of
from data_prep.formats import size, volumes
from data_prep.formats.pictures import read_image, read_labels
from noisyseg.data.dataset import load_dataset

COUNT, SIDE = 8, 16


def drawn(n):
    """The mask of picture `n`: asymmetric, so that a turned or swapped one is another."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[2:9, 3 : 7 + n % 4] = 1
    mask[9, 3:5] = 1
    return mask


@pytest.fixture
def folder(tmp_path):
    for n in range(COUNT):
        grey = (60 + 120 * drawn(n) + np.random.default_rng(n).normal(0, 9, (SIDE, SIDE))).clip(0)
        for who, array in {"images": grey, "anna": 255 * drawn(n), "ben": 255 * drawn(n)}.items():
            (tmp_path / who).mkdir(exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / who / f"case{n}.png")
    return tmp_path


def prepared(folder, *more, who=("anna", "ben")):
    given = [f"--labels={name}={folder / name}" for name in who]
    main([*map(str, [f"--images={folder / 'images'}", *given, f"--out={folder / 'out'}", *more])])
    return load_dataset(folder / "out").read_labels()


def rewritten(change, every=1):
    """A fault: `change(mask, file)` writes every n-th of ben's masks anew."""

    def fault(folder):
        for n in range(0, COUNT, every):
            change(drawn(n), folder / "ben" / f"case{n}.png")

    return fault


def save(array, file, mode=None, **how):
    picture = Image.fromarray(np.asarray(array, np.uint8))
    (picture.convert(mode) if mode else picture).save(file, **how)


def palette(colours, numbers=(0, 1)):
    """A mask as a palette in which background and foreground have these numbers."""

    def change(mask, file):
        picture = Image.fromarray(np.where(mask, numbers[1], numbers[0]).astype(np.uint8))
        picture.putpalette([v for colour in colours for v in colour])
        picture.save(file)

    return rewritten(change)


def layers(colour, alpha, background=(0, 0, 0), clear=0):
    def change(mask, file):
        inside = mask[..., None] == 1
        rgb = np.where(inside, colour, background)
        save(np.dstack([rgb, np.where(mask, alpha, clear)]), file)

    return rewritten(change)


def turned_tiff(orientation, **how):
    """Stored so that a viewer, which follows the tag, shows the mask."""
    back = {1: lambda m: m, 2: np.fliplr, 3: lambda m: np.rot90(m, 2), 4: np.flipud,
            5: np.transpose, 6: np.rot90, 7: lambda m: np.rot90(m, 2).T,
            8: lambda m: np.rot90(m, -1)}[orientation]  # fmt: skip

    def change(mask, file):
        file.unlink()
        tag = [(274, "H", 1, orientation, True)]
        stored = np.ascontiguousarray(255 * back(mask))
        tifffile.imwrite(file.with_suffix(".tif"), stored, extratags=tag, **how)

    return rewritten(change)


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)
SAME = {
    "half of the files with one bit": rewritten(lambda m, f: save(255 * m, f, "1"), every=2),
    "half of the files with 0 and 1": rewritten(save, every=2),
    "a palette with white first": palette([WHITE, BLACK], (1, 0)),
    "a quantised picture": rewritten(
        lambda m, f: Image.fromarray(255 * m).quantize(2).save(f)
    ),
    "a palette of colours": palette([BLACK, RED]),
    "a palette of which much is not used": palette([BLACK, RED, WHITE, (0, 255, 0)]),
    "the mask in alpha alone": layers(WHITE, 255, WHITE),
    "the mask in alpha alone, red": layers(RED, 255, RED),
    "alpha and grey alike": layers(WHITE, 255),
    "an opaque alpha": layers(WHITE, 255, clear=255),
    "grey and alpha": rewritten(lambda m, f: save(255 * m, f, "LA")),
    **{f"a TIFF turned by tag {n}": turned_tiff(n) for n in range(1, 9)},
    **{f"a packed TIFF turned by tag {n}": turned_tiff(n, compression="zlib", predictor=True)
       for n in (3, 5, 6, 8)},
}  # fmt: skip


@pytest.mark.parametrize("fault", SAME.values(), ids=SAME)
def test_a_mask_means_what_a_viewer_shows(folder, fault):
    fault(folder)
    labels = prepared(folder)
    np.testing.assert_array_equal(labels[:, 1], labels[:, 0])
    assert labels.max() == 1 and (labels[:, 0] == [drawn(n) for n in range(COUNT)]).all()


def with_ignored(mask, file):
    array = mask.copy()
    array[0] = 255
    save(array, file)


def jpeg(mask, file):
    save(255 * mask, file.with_suffix(".jpg"), quality=98)
    Image.open(file.with_suffix(".jpg")).save(file)
    file.with_suffix(".jpg").unlink()


def smooth(mask, file):
    large = Image.fromarray(255 * mask).resize((40, 40), Image.Resampling.BILINEAR)
    large.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(file)


def two_palettes(folder):
    palette([BLACK, RED, (0, 255, 0)])(folder)
    for n in range(0, COUNT, 2):
        picture = Image.fromarray(drawn(n))
        picture.putpalette([*BLACK, 0, 255, 0, *RED])
        picture.save(folder / "ben" / f"case{n}.png")


ASKED = {
    "255 beside 0 and 1": (rewritten(with_ignored), "--ignore", "/ben/"),
    "a JPEG's edges": (rewritten(jpeg), "grey", "--values"),
    "edges of resizing": (rewritten(smooth), "grey", "--values"),
    "two greys": (rewritten(lambda m, f: save(128 * m, f)), "128", "--values"),
    "one number, two colours": (two_palettes, "number 1 as", "one palette"),
}


@pytest.mark.parametrize("fault", ASKED.values(), ids=ASKED)
def test_values_that_need_not_be_classes_are_asked_about(folder, fault):
    change, *said = fault
    change(folder)
    with pytest.raises(SystemExit) as error:
        prepared(folder)
    assert all(text in str(error.value) for text in said), error.value
    assert not (folder / "out").exists()


def test_ignored_values_are_not_labelled(folder, capsys):
    rewritten(with_ignored)(folder)
    labels = prepared(folder, "--ignore", "255", who=["ben"])
    expected = np.array([drawn(n) for n in range(COUNT)], int)
    expected[:, 0] = -1
    np.testing.assert_array_equal(labels[:, 0], expected)
    assert "255 = not labelled" in capsys.readouterr().out


REFUSED = {
    "a coloured palette without black": (palette([WHITE, RED]), "begins with [255, 255, 255]"),
    "alpha against colour": (layers(BLACK, 255, WHITE), "say different things"),
    "colours beside alpha": (layers(RED, 255, (0, 0, 255)), "say different things"),
}


@pytest.mark.parametrize("fault", REFUSED.values(), ids=REFUSED)
def test_a_representation_without_its_key_is_refused(folder, fault):
    change, said = fault
    change(folder)
    with pytest.raises(SystemExit, match="ben") as error:
        prepared(folder)
    assert said in str(error.value)
    assert str(error.value).count("case") < 12  # one in full, the others by name


def test_a_png_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(255 * drawn(0)).save(tmp_path / "a.png", exif=exif)
    for read in (read_labels, read_image):
        found = read(tmp_path / "a.png")
        space = found.array.reshape(SIDE, SIDE)
        np.testing.assert_array_equal(space, np.rot90(255 * drawn(0), -1))
        assert any("turned" in remark for remark in found.remarks)


def nifti(file, array, affine=None, dtype=np.uint8, slope=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([1.5, 1.5, 2, 1]) if affine is None else affine
    image = nib.Nifti1Image(array.astype(dtype), affine)
    if slope:
        image.header.set_slope_inter(slope, 0)
        stored = nib.Nifti1Image(np.asarray(array, np.float32), affine, image.header)
        stored.set_data_dtype(np.uint8)
        image = stored
    nib.save(image, file)


@pytest.fixture
def scans(tmp_path):
    for n in range(4):
        volume = np.stack([drawn(n)] * 3, 2)
        nifti(tmp_path / "images" / f"s{n}.nii.gz", volume * 100 + np.arange(SIDE)[:, None, None])
        nifti(tmp_path / "anna" / f"s{n}.nii.gz", volume)
    return tmp_path


def test_rounded_headers_are_accepted_and_counted(scans, capsys):
    for n in range(4):
        volume = np.stack([drawn(n)] * 3, 2)
        moved = np.diag([1.5, 1.5, 2, 1])
        moved[0, 3] = 0.002
        nifti(scans / "ben" / f"s{n}.nii.gz", 0.996 * volume, moved, slope=0.996 / 255)
    labels = prepared(scans)
    np.testing.assert_array_equal(labels[:, 0], labels[:, 1])
    said = capsys.readouterr().out
    assert "rounded to whole numbers, such as 0.996 to 1: 4 images" in said
    assert "taken as one: 4 images" in said


def unit_affine(scans):
    for n in range(4):
        nifti(scans / "anna" / f"s{n}.nii.gz", np.stack([drawn(n)] * 3, 2), np.eye(4))
    return "copy that file's affine", "and 3 more alike"


def four_axes(scans):
    for n in range(4):
        nifti(scans / "images" / f"s{n}.nii.gz", np.ones((SIDE, SIDE, 3, 2)))
    return "images_1/, images_2/", "and 3 more alike"


def two_axes(scans):
    for n in range(4):
        nifti(scans / "images" / f"s{n}.nii.gz", np.ones((SIDE, SIDE)))
    return "axis of length 1", "and 3 more alike"


@pytest.mark.parametrize("fault", [unit_affine, four_axes, two_axes])
def test_the_remedy_fits_the_situation_and_stands_there_once(scans, fault):
    said = fault(scans)
    with pytest.raises(SystemExit) as error:
        prepared(scans, who=["anna"])
    assert all(text in str(error.value) for text in said), error.value
    assert len(str(error.value).replace(str(scans), "")) < 450


def test_names_match_whatever_computer_wrote_them(folder):
    for n in range(COUNT):
        for who, form in {"images": "NFC", "anna": "NFD", "ben": "NFC"}.items():
            name = unicodedata.normalize(form, f"Müller é {n}.png")
            (folder / who / f"case{n}.png").rename(folder / who / name)
    labels = prepared(folder)
    np.testing.assert_array_equal(labels[:, 0], labels[:, 1])


def test_no_two_annotators_share_a_file():
    names = ["dr a", "dr_a", "dr+a", "Dr_A", "李", "王", "a/b", "x" * 300, "x" * 299 + "y"]
    files = cases.file_names(names)
    assert len({f.casefold() for f in files}) == len(names) and files[1] == "dr_a"
    assert all(f and "/" not in f and len(f.encode()) < 200 for f in files)


@pytest.mark.parametrize("name", ["gt", "GT", "Ground_Truth", "reference"])
def test_a_reference_is_no_annotator(folder, name):
    (folder / "ben").rename(folder / name)
    plan = plan_of(folder)
    assert plan.annotators == ("anna",) and plan.has_truth
    assert any(name in remark and "truth" in remark for remark in plan.remarks)


def nested(folder):
    (folder / "masks").mkdir()
    for who in ("anna", "ben"):
        (folder / who).rename(folder / "masks" / who)


def suffixed(folder):
    (folder / "labels").mkdir()
    for who in ("anna", "ben"):
        for file in (folder / who).iterdir():
            file.rename(folder / "labels" / f"{file.stem}_{who}.png")
        (folder / who).rmdir()


def two_references(folder):
    (folder / "ben").rename(folder / "gt")
    (folder / "truth").mkdir()


@pytest.mark.parametrize("fault", [nested, suffixed, two_references])
def test_another_layout_gets_the_sentence_that_shows_ours(folder, fault):
    fault(folder)
    with pytest.raises(ValueError, match=r"images/") as error:
        plan_of(folder)
    assert LAYOUT in str(error.value)


@pytest.mark.parametrize("name", ["BraTS-PED-00001-000", "BraTS-MEN-00001-000", "BraTS-XYZ-1-0"])
def test_classes_of_glioma_are_given_to_no_other_tumour(tmp_path, name):
    for case in (name, "BraTS-GLI-00002-000"):
        nifti(tmp_path / case / f"{case}-t1n.nii.gz", np.ones((4, 4, 4)))
    with pytest.raises(ValueError, match=name) as error:
        brats.find_cases(tmp_path)
    assert "data_prep.folders" in str(error.value)


def test_reasons_of_one_kind_are_told_once():
    skipped = {f"s{n}": f"/a/b{n}.png: value {n}.5 is none" for n in range(4)} | {"t": "other"}
    first, last = cases.alike(skipped)
    assert first == "s0: /a/b0.png: value 0.5 is none (and 3 more alike: s1, s2, s3)"
    assert last == "t: other"


# Size bombs: a small file that announces what no memory holds.


def nifti_bomb(file):
    import gzip

    header = nib.Nifti1Header()
    header.set_data_shape((1290, 1290, 1290))
    header.set_data_dtype(np.uint8)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    file.write_bytes(gzip.compress(header.binaryblock + bytes(2000)))


def png_bomb(file):
    import struct
    import zlib

    head = struct.pack(">IIBBBBB", 13000, 13000, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def tiff_bomb(file):
    tifffile.imwrite(file, np.zeros((16, 16), np.uint8), compression="zlib")
    raw = file.read_bytes()
    with tifffile.TiffFile(file) as tiff:
        places = [tiff.pages[0].tags[code].valueoffset for code in (256, 257, 278)]
    for place in places:
        raw = raw[:place] + np.array(20000, "<u2").tobytes() + raw[place + 2 :]
    file.write_bytes(raw)


BOMBS = {"a.nii.gz": nifti_bomb, "a.png": png_bomb, "a.tif": tiff_bomb}


@pytest.mark.parametrize(("name", "write"), BOMBS.items(), ids=BOMBS)
def test_what_a_file_announces_is_checked_before_it_is_read(tmp_path, name, write):
    file = tmp_path / name
    write(file)
    for read in (read_image, read_labels):
        with pytest.raises(cases.Unusable, match="announces") as error:
            read(file)
        assert str(file) in str(error.value) and "--max-gb" in str(error.value)
    if name != "a.nii.gz":  # they are damaged as well, and only now that is seen
        with size.allowing(100), pytest.raises(cases.Unusable, match="cannot be read"):
            read_image(file)


def test_a_stream_longer_than_announced_is_refused(tmp_path):
    import gzip

    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "a.nii")
    bomb = tmp_path / "b.nii.gz"
    bomb.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes() + bytes(5 << 20)))
    with pytest.raises(cases.Unusable, match="more follow"):
        volumes.read_volume(bomb)


def test_the_limit_is_an_argument(folder):
    with pytest.raises(SystemExit, match="announces 16 x 16"):
        prepared(folder, "--max-gb", "1e-9")
    with pytest.raises(SystemExit, match="--max-gb"):
        prepared(folder, "--max-gb", "-1")
    assert prepared(folder, "--max-gb", "3").max() == 1


def test_png_text_of_no_use_stays_harmless(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 1000, zip=True)
    Image.fromarray(255 * drawn(0)).save(tmp_path / "a.png", pnginfo=info)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png").array, 255 * drawn(0))
    assert os.listdir(tmp_path) == ["a.png"]
