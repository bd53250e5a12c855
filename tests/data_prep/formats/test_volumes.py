"""Volumes against SimpleITK and nibabel: the same world point has the same value."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import apply_affine
from trees import brain, lesion, oblique, save

from data_prep.cases import Unusable
from data_prep.formats import volumes

SPACING = np.diag([1.0, 1.5, 2.0, 1])
ORIENTATIONS = {
    "RAS": SPACING,
    "LPS": np.diag([-1.0, -1.5, 2.0, 1]),
    "LAS": np.diag([-1.0, 1.5, 2.0, 1]),
    "PSR": np.array([[0, 0, 2.0, -7], [-1, 0, 0, 4], [0, 1.5, 0, 9], [0, 0, 0, 1.0]]),
    "oblique": oblique() @ SPACING,
    "oblique and flipped": oblique(-35) @ np.diag([1.0, -1.5, 2.0, 1]),
}


@pytest.fixture(params=ORIENTATIONS)
def file(request, tmp_path):
    affine = ORIENTATIONS[request.param].copy()
    affine[:3, 3] += (5, -3, 11)
    return save(tmp_path / "a.nii.gz", brain(0), affine)


def at_world(volume, points):
    """Nearest voxels of `volume` at world points."""
    index = np.rint(apply_affine(np.linalg.inv(volume.affine), points)).astype(int)
    return volume.array[tuple(index.T)]


def test_every_orientation_keeps_the_world(file):
    volume = volumes.read_volume(file)
    reference = sitk.ReadImage(str(file))
    rng = np.random.default_rng(0)
    for _ in range(50):
        i = [int(rng.integers(0, n)) for n in reference.GetSize()]
        x, y, z = reference.TransformIndexToPhysicalPoint(i)
        assert at_world(volume, [(-x, -y, z)])[0] == pytest.approx(reference[i])  # LPS to RAS
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    assert sorted(volume.spacing) == pytest.approx(sorted(reference.GetSpacing()))


def test_back_on_the_input_grid_nothing_has_moved(file):
    volume = volumes.read_volume(file)
    back = volumes.to_input_grid(volume.array, volume)
    np.testing.assert_allclose(back, np.asarray(nib.load(file).dataobj), atol=1e-3)
    labels = (volume.array > 100).astype(np.int8)
    assert (volumes.to_input_grid(labels, volume, is_mask=True) == (back > 100)).mean() > 0.999


def test_resampling_agrees_with_simpleitk_where_the_image_is_smooth(tmp_path):
    x, y, z = np.indices((20, 22, 16)) / 6.0
    smooth = (100 + 30 * np.sin(x) * np.cos(y) + 20 * np.sin(z)).astype(np.float32)
    file = save(tmp_path / "s.nii", smooth, SPACING)
    volume = volumes.resample(volumes.read_volume(file), (0.8, 0.8, 0.8))
    reference = sitk.ReadImage(str(file))
    inner = [np.array(volume.array.shape) // 2 + d for d in ((0, 0, 0), (3, -4, 5), (-5, 6, -7))]
    for index in inner:
        world = apply_affine(volume.affine, index)
        lps = (-world[0], -world[1], world[2])
        expected = reference.EvaluateAtPhysicalPoint(lps, sitk.sitkLinear)
        assert volume.array[tuple(index)] == pytest.approx(expected, abs=0.5)


def test_resampling_keeps_the_outer_faces_and_the_mean(file):
    volume = volumes.read_volume(file)
    other = volumes.resample(volume, (2.0, 2.0, 2.0))
    for v in (volume, other):
        corner = apply_affine(v.affine, [-0.5, -0.5, -0.5])
        np.testing.assert_allclose(corner, apply_affine(volume.affine, [-0.5] * 3), atol=1e-6)
    mass = [v.array.astype(float).sum() * np.prod(v.spacing) for v in (volume, other)]
    assert mass[1] == pytest.approx(mass[0], rel=0.03)
    assert volumes.resample(volume, volume.spacing) is volume


def test_fine_noise_does_not_alias(tmp_path):
    """A checkerboard of the finest frequency turns grey when voxels become larger."""
    board = (np.indices((24, 24, 24)).sum(0) % 2 * 100).astype(np.float32)
    volume = volumes.read_volume(save(tmp_path / "b.nii", board))
    coarse = volumes.resample(volume, (3.0, 3.0, 3.0)).array[1:-1, 1:-1, 1:-1]
    assert coarse.std() < 5 and coarse.mean() == pytest.approx(50, abs=2)


def test_a_label_map_stays_one_and_keeps_its_volume(tmp_path):
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[4:14, 4:14, 4:14], labels[6:10, 6:10, 6:10] = 2, 1
    volume = volumes.read_mask(save(tmp_path / "m.nii", labels), (0, 1, 2))
    for mm in (0.7, 2.0):
        other = volumes.resample_mask(volume, (mm,) * 3)
        assert set(np.unique(other.array)) == {0, 1, 2}
        for k in (1, 2):
            size = (other.array == k).sum() * np.prod(other.spacing)
            assert size == pytest.approx((labels == k).sum(), rel=0.4 if mm > 1 else 0.15)


def test_scaled_headers_are_honoured(tmp_path):
    image = nib.Nifti1Image(np.arange(24, dtype=np.uint16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(2.0, -5.0)
    nib.save(image, tmp_path / "h.nii")
    expected = nib.load(tmp_path / "h.nii").get_fdata()
    np.testing.assert_allclose(volumes.read_volume(tmp_path / "h.nii").array, expected)
    one = nib.Nifti1Image(np.ones((4, 5, 6, 1), np.float32) * 3, np.eye(4))
    nib.save(one, tmp_path / "one.nii")
    assert volumes.read_volume(tmp_path / "one.nii").array.shape == (4, 5, 6)


def test_normalising_is_by_the_brain_and_leaves_the_background(tmp_path):
    volume = volumes.read_volume(save(tmp_path / "n.nii", brain(3)))
    got, inside = volumes.normalise(volume).array, volume.array != 0
    assert got[inside].mean() == pytest.approx(0, abs=1e-5)
    assert got[inside].std() == pytest.approx(1, abs=1e-5)
    assert (got[~inside] == 0).all()


@pytest.mark.parametrize("around", [None, (0, 0), (4, 1), (2, 5)])
@pytest.mark.parametrize("size", [(3, 4), (7, 9), (1, 8)])
def test_crop_and_pad_about_a_voxel_as_a_slow_loop_does(size, around):
    array = np.arange(1.0, 61.0).reshape(5, 6, 2)
    got = volumes.centre(array, size, around, fill=-1)
    if around is None:  # the middle: as much cut off or added on both sides, or one more behind
        around = [int((n - w) / 2) + w // 2 for n, w in zip(array.shape, size, strict=False)]
    for i, j in np.ndindex(*size):
        x, y = i + around[0] - size[0] // 2, j + around[1] - size[1] // 2
        expected = array[x, y] if 0 <= x < 5 and 0 <= y < 6 else -1
        assert (got[i, j] == expected).all()


def test_cropped_volumes_go_back_to_where_they_were_cut(file):
    """What was cut off comes back as 0, everything else at its own voxel of the input file."""
    volume = volumes.read_volume(file)
    y = volume.array.shape[1]
    part = volumes.crop(volume, (9, y + 4), around=(7, y // 2))
    back = volumes.to_input_grid(part.array, part)
    is_kept = np.zeros(volume.array.shape, np.int8)
    is_kept[3:12] = 1
    kept = volume._replace(array=is_kept)
    inside = volumes.to_input_grid(kept.array, kept, is_mask=True) == 1
    source = np.asarray(nib.load(file).dataobj)
    np.testing.assert_allclose(back[inside], source[inside], atol=1e-3)
    assert source[~inside].any() and (back[~inside] == 0).all()


def test_resampled_and_cropped_volumes_go_back_to_the_same_world(file):
    """A ramp along the world's axes is the same ramp again, at points known from SimpleITK."""
    reference, source = sitk.ReadImage(str(file)), nib.load(file)
    world = apply_affine(source.affine, np.moveaxis(np.indices(source.shape), 0, -1))
    save(file, (world @ (1.0, 2.0, -3.0) + 500).astype(np.float32), source.affine)
    fine = volumes.resample(volumes.read_volume(file), (0.7, 0.8, 0.9))
    part = volumes.crop(fine, (fine.array.shape[0] - 6, fine.array.shape[1] - 4))
    back = volumes.to_input_grid(part.array, part)
    for index in ([9, 10, 6], [11, 13, 8], [8, 14, 5]):
        x, y, z = reference.TransformIndexToPhysicalPoint(index)  # LPS
        assert back[tuple(index)] == pytest.approx(500 - x - 2 * y - 3 * z, abs=0.01)


def test_going_back_needs_an_array_of_that_grid(file):
    volume = volumes.read_volume(file)
    with pytest.raises(ValueError, match="give both alike"):
        volumes.to_input_grid(volume.array[1:], volume)


@pytest.mark.parametrize("size", [(3, 4), (7, 8), (2, 9), (5, 6)])
def test_the_middle_is_cropped_or_padded(size):
    array = np.arange(30.0).reshape(5, 6, 1) + 1
    got = volumes.centre(array, size)
    assert got.shape == (*size, 1)
    if size == (3, 4):
        assert (got == array[1:4, 1:5]).all()
    if size == (7, 8):
        assert (got[1:6, 1:7] == array).all() and got.sum() == array.sum()


def test_axial_slices_show_the_front_above():
    array = np.zeros((4, 5, 3))
    array[1, 4, 2] = 1  # at the front, of the highest slice
    assert volumes.axial(array)[2, 0, 1] == 1 and volumes.axial(array).shape == (3, 5, 4)


def test_written_twice_is_the_same_bytes_and_never_half(tmp_path, monkeypatch):
    array = brain(1)
    files = [volumes.write_nifti(tmp_path / n / "x.nii.gz", array, oblique()) for n in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    read = nib.load(files[0])
    np.testing.assert_allclose(read.affine, oblique(), atol=1e-6)
    np.testing.assert_allclose(np.asarray(read.dataobj), array)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("noisyseg.storage.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        volumes.write_nifti(tmp_path / "a" / "x.nii.gz", array, np.eye(4))
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x.nii.gz"]


def test_a_sheared_affine_is_refused(tmp_path):
    affine = np.eye(4)
    affine[0, 1] = 0.5
    with pytest.raises(Unusable, match="sheared"):
        volumes.read_volume(save(tmp_path / "s.nii", brain(0), affine))


def header_byte(position, value):
    def damage(file):
        content = bytearray(file.read_bytes())
        content[position] = value
        file.write_bytes(bytes(content))

    return damage


HEADERS = {
    "an unknown type of voxels": (header_byte(71, 16), "no readable"),
    "voxels that begin inside the header": (header_byte(111, 0), "no readable"),
    "a negative number of axes": (header_byte(41, 255), "no readable|three axes|cannot be read"),
    "more voxels than the file has": (header_byte(43, 8), "cannot be read"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_damaged_header_is_unusable(kind, tmp_path):
    file = save(tmp_path / "d.nii", brain(0))
    damage, message = HEADERS[kind]
    damage(file)
    with pytest.raises(Unusable, match=message) as error:
        volumes.read_volume(file)
    assert str(file) in str(error.value)


COLOUR = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
NO_NUMBERS = {
    "complex": (np.ones((4, 5, 6), np.complex64), "complex64; give one real number"),
    "colours": (COLOUR, "give one real number"),
    "too large for float32": (np.full((4, 5, 6), 1e300), "120 voxels are NaN or infinite"),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_voxels_that_are_no_numbers_are_unusable(kind, tmp_path):
    array, message = NO_NUMBERS[kind]
    with pytest.raises(Unusable, match=message):
        volumes.read_volume(save(tmp_path / "n.nii", array))


def test_random_damage_never_escapes_as_another_error(tmp_path):
    """300 files with up to three bytes changed: read, or `Unusable` naming the file."""
    whole, rng = (
        save(tmp_path / "w.nii.gz", brain(0, (6, 7, 5))).read_bytes(),
        np.random.default_rng(0),
    )
    file, refused = tmp_path / "r.nii.gz", 0
    for n in range(300):
        content = bytearray(gzip.decompress(whole) if n % 2 else whole)
        for at in rng.integers(0, 352 if n % 2 else len(content), 3):
            content[at] = rng.integers(256)
        file.write_bytes(gzip.compress(bytes(content), 1) if n % 2 else bytes(content))
        try:
            assert np.isfinite(volumes.read_volume(file).array).all()
        except Unusable as error:
            assert str(file) in str(error)
            refused += 1
    assert 50 < refused < 300


def saved_pair(file, array):
    """`array` as a header and an image file, both compressed; the path of the header."""
    nib.save(nib.Nifti1Pair(array, SPACING), file.with_name("p.img.gz"))
    return file.with_name("p.hdr.gz")


KINDS = {"intensities": (brain, save), "labels": (lesion, save), "a pair": (brain, saved_pair)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_refused_or_changes_nothing(kind, tmp_path):
    """400 of the bits of a compressed file, one at a time, from its first byte to its last."""
    make, write = KINDS[kind]
    file = write(tmp_path / "a.nii.gz", make(2, (9, 10, 8)))
    expected = volumes.read_volume(file).array
    stored = file.with_name("p.img.gz") if kind == "a pair" else file
    whole, rng, refused = stored.read_bytes(), np.random.default_rng(0), 0
    for at in np.linspace(0, len(whole) - 1, 400).astype(int):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        stored.write_bytes(bytes(damaged))
        try:
            np.testing.assert_array_equal(volumes.read_volume(file).array, expected)
        except Unusable as error:
            assert str(file) in str(error) and "get it again" in str(error)
            refused += 1
    assert refused > 300


UNITS = {"meter": 0.001, "mm": 1, "micron": 1000, "unknown": 1}


@pytest.mark.parametrize("unit", UNITS)
def test_whatever_unit_the_header_counts_in_the_volume_is_in_mm(unit, tmp_path):
    affine = np.diag([-2.0, 2.0, 3.0, 1])
    affine[:3, 3] = 5, -7, 11
    image = nib.Nifti1Image(brain(1), np.diag([*[UNITS[unit]] * 3, 1]) @ affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "u.nii.gz")
    volume = volumes.read_volume(tmp_path / "u.nii.gz")
    assert volume.spacing == pytest.approx((2, 2, 3))
    back = volumes.to_input_grid(volume.array, volume)
    written = nib.load(volumes.write_nifti(tmp_path / "w.nii.gz", back, volume.source[1]))
    np.testing.assert_allclose(written.affine, affine, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(written.dataobj), brain(1))
    assert written.header.get_xyzt_units()[0] == "mm"


def test_voxels_of_half_a_micron_are_read_and_one_voxel_apart_is_another_grid(tmp_path):
    files = {name: tmp_path / f"{name}.nii.gz" for name in ("here", "there")}
    for name, file in files.items():
        affine = np.diag([0.5, 0.5, 0.5, 1])
        affine[0, 3] = 0.5 * (name == "there")
        image = nib.Nifti1Image(brain(1), affine)
        image.header.set_xyzt_units("micron")
        nib.save(image, file)
    read = {name: volumes.read_volume(file) for name, file in files.items()}
    assert read["here"].spacing == pytest.approx((0.0005,) * 3)
    volumes.same_grid({"a": read["here"], "b": read["here"]})
    with pytest.raises(Unusable, match="0.0005 mm apart"):
        volumes.same_grid(read)
