"""LIDC-IDRI as TCIA gives it: what is read, and what is refused and why.

The trees are written here with pydicom and by hand-made XML, in three generations of folder
names. A nodule is a bright box, so masks and pictures have known places and values.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from data_prep.cases import Case, Unusable
from data_prep.lidc import archive as lidc
from data_prep.lidc import nodules as lidc_nodules
from data_prep.lidc import readings as lidc_xml
from data_prep.lidc import scans as lidc_scans
from data_prep.lidc.__main__ import main
from data_prep.lidc.archive import Settings, prepare_tree
from noisyseg import load_dataset

SIDE, SLICES, MM = 96, 9, 0.5  # of the scans
SMALL = Settings(crop=32, spacing=0.5)
BOX = (40, 30, 56, 50)  # contour pixels of reader 1: top, left, bottom, right
NAMES = {
    1: "manifest-1/LIDC-IDRI/LIDC-IDRI-0001/01-01-2000-NA-NA-30178/3000566.000000-NA-03192",
    2: "LIDC-IDRI/LIDC-IDRI-0002/01-01-2000-30178/3000566-03192",
    3: "LIDC-IDRI/LIDC-IDRI-0003/1.2.3/1.2.3.4",
    4: "LIDC-IDRI/LIDC-IDRI-0004/1.2.4/1.2.4.4",
}


def uid(patient, k=None):
    return f"1.2.826.{patient}" + ("" if k is None else f".{k + 1}")


def density(patient):
    """HU of the scan: a box of 100 HU, at rows 41 to 55 and columns 31 to 49, in lung."""
    scan = np.full((SLICES, SIDE, SIDE), -800 - patient)
    scan[2:7, 41:56, 31:50] = 100
    return scan


def write_slice(file, patient, k, **changes):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = changes.get("SOPInstanceUID", uid(patient, k))
    data = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.PatientID, data.Modality = uid(patient), f"P{patient}", "CT"
    data.Rows, data.Columns, data.PixelSpacing = SIDE, SIDE, [MM, MM]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [-100, -100, -50 + 2.5 * k]
    data.InstanceNumber, data.SliceThickness = SLICES - k, 2.5  # counted from the top
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 0, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.RescaleSlope, data.RescaleIntercept = 2, -1100
    data.PixelData = ((density(patient)[k] + 1100) // 2).astype("<u2").tobytes()
    for name, value in changes.items():
        setattr(data, name, value)
    data.save_as(file, enforce_file_format=True)


def roi(patient, k, box, inclusion="TRUE"):
    top, left, bottom, right = box
    across, down = range(left, right), range(top, bottom)
    points = [(top, x) for x in across] + [(y, right) for y in down]
    points += [(bottom, x + 1) for x in across[::-1]] + [(y + 1, left) for y in down[::-1]]
    edges = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for y, x in points
    )
    return (
        f"<roi><imageZposition>{-50 + 2.5 * k}</imageZposition><imageSOP_UID>{uid(patient, k)}"
        f"</imageSOP_UID><inclusion>{inclusion}</inclusion>{edges}</roi>"
    )


RATED = "<characteristics><subtlety>5</subtlety><texture>5</texture></characteristics>"
SMALL_MARK = (
    "<unblindedReadNodule><noduleID>9</noduleID><characteristics/><roi><imageZposition>-50"
    "</imageZposition><imageSOP_UID>1.2</imageSOP_UID><inclusion>TRUE</inclusion><edgeMap><xCoord>"
    "3</xCoord><yCoord>3</yCoord></edgeMap></roi></unblindedReadNodule>"
)


def nodule(patient, box=BOX, slices=range(2, 7), more=""):
    rois = "".join(roi(patient, k, box) for k in slices)
    name = "<noduleID>Nodule 001</noduleID>"
    return f"<unblindedReadNodule>{name}{RATED}{rois}{more}</unblindedReadNodule>"


def sessions(*contents):
    return "".join(
        f"<readingSession><servicingRadiologistID>anon</servicingRadiologistID>{content}"
        "<nonNodule><nonNoduleID>1</nonNoduleID></nonNodule></readingSession>"
        for content in contents
    )


def four(patient):
    """Reader r + 1 outlines r pixels more on the left; all mark a small one besides."""
    boxes = [(40, 30 - r, 56, 50) for r in range(4)]
    return sessions(*(nodule(patient, box) + SMALL_MARK for box in boxes))


def xml(patient, body=None, root="LidcReadMessage", tag="SeriesInstanceUid", before=""):
    space = "http://www.nih.gov" + ("/idri" if root.startswith("Idri") else "")
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{before}<{root} xmlns="{space}"><ResponseHeader>'
        f"<{tag}>{uid(patient)}</{tag}></ResponseHeader>"
        f"{four(patient) if body is None else body}</{root}>"
    )


def write_tree(folder, patients=(1, 2, 3)):
    for patient in patients:
        place = folder / NAMES[patient]
        place.mkdir(parents=True)
        for k in range(SLICES):
            # Names in the order of InstanceNumber, which is not that of z.
            name = f"1-{SLICES - k:03d}.dcm" if patient == 1 else f"{SLICES - k:06d}.dcm"
            write_slice(place / name, patient, k)
        tag = "SeriesInstanceUID" if patient == 2 else "SeriesInstanceUid"
        (place / f"{patient:03d}.xml").write_text(xml(patient, tag=tag))
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("tcia"), (1, 2, 3, 4))


@pytest.fixture
def tree(written, tmp_path):
    """A copy to be damaged: patient 4 is the one that tests damage."""
    return Path(shutil.copytree(written, tmp_path / "tree"))


@pytest.fixture(scope="module")
def prepared(written, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "lidc"
    report, notes = prepare_tree(written, out, SMALL)
    assert not report.skipped and len(notes) == 1 and "4 CT series" in notes[0]
    return load_dataset(report.path)


def check_left_out(tree, message, settings=SMALL):
    """Patient 4 is left out for this reason, and the others are as they were; with `strict`
    everything ends."""
    report, _ = prepare_tree(tree, tree.parent / "out", settings)
    (reason,) = report.skipped.values()
    assert message in reason
    data = load_dataset(report.path)
    assert set(data.case_ids) == {"P1", "P2", "P3"} and len(data) == 15
    with pytest.raises(Unusable):
        prepare_tree(tree, tree.parent / "strict", settings, strict=True)
    return data


def place(tree):
    return tree / NAMES[4]


def test_folder_says_what_it_is(prepared):
    assert prepared.origin == "real" and "CC BY 3.0" in prepared.meta["licence"]
    assert prepared.classes == ("background", "nodule") and prepared.spacing_mm == (0.5, 0.5)
    assert prepared.annotators == ("reader 1", "reader 2", "reader 3", "reader 4")
    assert len(prepared) == 20 and prepared.space == (32, 32)
    assert set(prepared.split_of) == {"train", "val", "test"}


def test_pictures_and_masks_are_where_they_belong(prepared):
    # The union's contours span rows 40 to 56 and columns 27 to 50; pixel 16 is the centre.
    rows, columns = 48 - 16 + np.arange(32), 39 - 16 + np.arange(32)
    for n, name in enumerate(prepared.image_ids):
        patient = int(prepared.case_ids[n][1:])
        k = round((float(name.rsplit("z", 1)[1]) + 50) / 2.5)
        expected = (density(patient)[k][np.ix_(rows, columns)] + 1000) / 1400
        # Stored values are even: the slope is 2.
        assert np.abs(prepared.read_images()[n, 0] - expected).max() < 1.5 / 1400
        for reader, written in enumerate(prepared.read_labels()[n]):
            inside = (rows > 40)[:, None] & (rows < 56)[:, None]
            inside = inside & (columns > 30 - reader) & (columns < 50)
            assert (written == inside).all()


def test_reference_is_spatial_staple(prepared):
    labels, truth = prepared.read_labels(), prepared.read_truth()
    assert (truth >= labels.min(1)).all() and (truth <= labels.max(1)).all() and truth.any()
    assert (truth == lidc.reference(labels == 1)).all()


def test_the_same_tree_gives_the_same_bytes(prepared, written, tmp_path):
    report, _ = prepare_tree(written, tmp_path / "again", SMALL)
    for name in ("images.npy", "labels.npy", "truth.npy", "index.csv"):
        assert (report.path / name).read_bytes() == (prepared.path / name).read_bytes(), name


def test_crops_of_one_millimetre(written, tmp_path):
    report, _ = prepare_tree(written, tmp_path / "out", Settings(crop=20, every=2))
    data = load_dataset(report.path)
    assert data.spacing_mm == (1.0, 1.0) and data.space == (20, 20) and len(data) == 12
    # 15 x 19 pixels of half a millimetre are 71.25 square millimetres
    area = data.read_labels()[:, 0].sum((1, 2))
    assert (np.abs(area - 71.25) < 10).all()


def test_what_lies_beyond_the_scan_is_air(written, tmp_path):
    report, _ = prepare_tree(written, tmp_path / "out", Settings(crop=180))
    data = load_dataset(report.path)
    assert data.space == (180, 180)
    assert (data.read_images()[:, 0, :20] == 0).all() and (
        data.read_labels()[..., :20, :] == 0
    ).all()


def test_absent_readers_are_empty_and_too_few_are_left_out(tree):
    body = sessions("", nodule(4), SMALL_MARK, nodule(4))
    (place(tree) / "004.xml").write_text(xml(4, body))
    check_left_out(tree, "no nodule outlined by 4 readers")
    report, _ = prepare_tree(tree, tree.parent / "two", Settings(32, 0.5, readers=2))
    data = load_dataset(report.path)
    labels = data.read_labels()[data.case_ids == "P4"]
    assert labels[:, [1, 3]].any((2, 3)).all() and not labels[:, [0, 2]].any()


@pytest.mark.parametrize("ratings", ["", "<characteristics/>"])
def test_an_outline_without_ratings_is_an_outline(ratings, tree, prepared):
    """Otherwise its reader would have seen nothing there."""
    body = ratings.join(four(4).rsplit(RATED, 1))  # of reader 4
    (place(tree) / "004.xml").write_text(xml(4, body))
    report, notes = prepare_tree(tree, tree.parent / "out", replace(SMALL, readers=3))
    data = load_dataset(report.path)
    labels = data.read_labels()[data.case_ids == "P4"]
    # 15 rows of 19 to 22 columns in five slices
    assert (labels == 1).sum((0, 2, 3)).tolist() == [1425, 1500, 1575, 1650]
    assert (data.read_truth() == prepared.read_truth()).all()
    assert notes[1:] == ["1 outlines without ratings are used like the others"]


def test_one_point_is_no_outline_even_if_it_is_rated(tree):
    """Some marks of small nodules have ratings of zero; some outlines have a stray point."""
    zeros = "<characteristics><subtlety>0</subtlety><texture>0</texture></characteristics>"
    point = roi(4, 3, (48, 40, 48, 41)).partition("<edgeMap>")[0]
    point += "<edgeMap><xCoord>40</xCoord><yCoord>48</yCoord></edgeMap></roi>"
    mark = SMALL_MARK.replace("<characteristics/>", zeros)
    readings = [nodule(4, more=point), nodule(4), nodule(4), mark]
    (place(tree) / "004.xml").write_text(xml(4, sessions(*readings)))
    reading = lidc_xml.read_xml(place(tree) / "004.xml")
    assert ([n.reader for n in reading.nodules], reading.small) == ([0, 1, 2], 1)
    check_left_out(tree, "no nodule outlined by 4 readers or more: 1 by fewer")
    report, _ = prepare_tree(tree, tree.parent / "three", replace(SMALL, readers=3))
    data = load_dataset(report.path)
    labels = data.read_labels()[data.case_ids == "P4"]
    assert labels[:, :3].all(1).sum((1, 2)).tolist() == [15 * 19] * 5 and not labels[:, 3].any()


def test_a_reading_that_is_not_there_is_no_label(tree):
    boxes = [(40, 30 - r, 56, 50) for r in range(3)]
    body = sessions(*(nodule(4, box) for box in boxes))
    (place(tree) / "004.xml").write_text(xml(4, body))
    check_left_out(tree, "no nodule outlined by 4 readers")
    report, notes = prepare_tree(tree, tree.parent / "three", replace(SMALL, readers=3))
    data = load_dataset(report.path)
    mine = data.case_ids == "P4"
    labels = data.read_labels()[mine]
    assert (labels[:, 3] == -1).all() and labels[:, :3].any((2, 3)).all()
    assert data.has_label[mine].tolist() == [[True, True, True, False]] * 5
    assert data.has_label[~mine].all()
    assert (data.read_truth()[mine] == lidc.reference(labels[:, :3] == 1)).all()
    assert "1 scans have fewer than 4 readings" in notes[1] and len(notes) == 2


def crowded(patient):
    """A nodule of four readers, one of two of them, and a place with five outlines."""
    here, there = nodule(patient, (5, 5, 20, 20)), nodule(patient, (70, 70, 90, 90))
    parts = [here + there, here + there, here, here + here]
    return sessions(*(nodule(patient) + part for part in parts))


def test_nodules_left_out_of_a_scan_that_is_used_are_counted(tree):
    for patient in (3, 4):
        (tree / NAMES[patient] / f"{patient:03d}.xml").write_text(xml(patient, crowded(patient)))
    report, notes = prepare_tree(tree, tree.parent / "out", SMALL)
    assert not report.skipped and len(load_dataset(report.path)) == 20
    assert notes[1:] == [
        "2 groups of more than 4 outlines, which nobody can part, have no crops",
        "2 nodules that fewer readers outlined than asked for have no crops; lower --readers",
    ]
    report, notes = prepare_tree(tree, tree.parent / "two", replace(SMALL, readers=2))
    assert len(load_dataset(report.path)) == 30 and len(notes) == 2


def test_an_interrupted_run_counts_what_was_left_out_before_it(tree, monkeypatch):
    (tree / NAMES[1] / "001.xml").write_text(xml(1, crowded(1)))
    read, seen = lidc.read_slice, []

    def interrupted(file, shape):
        seen.append(file)
        if len(seen) > 10:  # five slices of each of the first two scans
            raise KeyboardInterrupt
        return read(file, shape)

    with monkeypatch.context() as patch:
        patch.setattr(lidc, "read_slice", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_tree(tree, tree.parent / "out", SMALL)
    _, notes = prepare_tree(tree, tree.parent / "out", SMALL)
    _, at_once = prepare_tree(tree, tree.parent / "again", SMALL)
    assert notes == at_once and len(notes) == 3


def test_linked_scans_are_scans(tree, prepared):
    linked = tree / "LIDC-IDRI" / "LIDC-IDRI-0004"
    linked.rename(tree.parent / "elsewhere")
    linked.symlink_to(tree.parent / "elsewhere")
    (linked / "loop").symlink_to(tree)
    report, _ = prepare_tree(tree, tree.parent / "out", SMALL)
    assert not report.skipped
    for name in ("images.npy", "labels.npy", "truth.npy", "index.csv"):
        assert (report.path / name).read_bytes() == (prepared.path / name).read_bytes(), name


def test_holes_and_neighbours_of_the_same_reader(tree):
    hole = "".join(roi(4, k, (44, 36, 50, 44), "FALSE") for k in range(2, 7))
    near = nodule(4, (40, 54, 50, 60))
    (place(tree) / "004.xml").write_text(xml(4, sessions(nodule(4, more=hole) + near)))
    report, _ = prepare_tree(tree, tree.parent / "out", Settings(64, 0.5, readers=1))
    data = load_dataset(report.path)
    labels = data.read_labels()[data.case_ids == "P4"]
    assert len(labels) == 10, "one crop of each nodule and slice"
    whole = 15 * 19 - 7 * 9 + 9 * 5  # within the first ring, the hole and its ring, the other
    assert (labels[:, 0].sum((1, 2)) == whole).all()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "no nodule of 3 mm or more (0 marks of smaller ones, 0 of other findings)"),
        (sessions(SMALL_MARK, SMALL_MARK), "(2 marks of smaller ones, 2 of other findings)"),
        (sessions(*[nodule(4)] * 5), "5 readers"),
        (sessions(nodule(4, (40, 30, 56, 120))), "leaves the (96, 96) pixels"),
        (sessions(nodule(4, slices=range(2, 12))), "z -27.5 mm: slice 1.2.826.4.10 is not there"),
        (sessions(nodule(4).replace("TRUE", "MAYBE")), "inclusion 'MAYBE'"),
        (sessions(nodule(4).replace("<xCoord>30", "<xCoord>3o")), "invalid literal"),
        (sessions(nodule(4).replace("yCoord", "y")), "edgeMap has no yCoord"),
        (sessions(nodule(4, slices=())), "rated but has no outline"),
    ],
)
def test_xml_that_cannot_be_used(body, message, tree):
    (place(tree) / "004.xml").write_text(xml(4, body))
    check_left_out(tree, message)


BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (xml(4, root="OtherMessage"), "root element is OtherMessage"),
        (xml(4, "&b;", before=BOMB), "declares a document type"),
        (xml(4)[:-9], "no XML"),
        ("", "no XML"),
        (xml(4, tag="StudyUid"), "names no SeriesInstanceUid"),
    ],
)
def test_xml_that_is_none_of_ours_is_reported_with_its_scan(content, message, tree):
    (place(tree) / "004.xml").write_text(content)
    report, _ = prepare_tree(tree, tree.parent / "out", SMALL)
    assert len(report.skipped) == 2
    assert any(message in reason for reason in report.skipped.values()), report.skipped
    assert "0 XML files for series" in report.skipped[uid(4)]
    assert len(load_dataset(report.path)) == 15


def test_two_readings_of_a_scan_are_refused_but_copies_are_not(tree):
    archive = tree / "tcia-lidc-xml" / "157"
    archive.mkdir(parents=True)
    shutil.copy(place(tree) / "004.xml", archive / "158.xml")
    report, _ = prepare_tree(tree, tree.parent / "copies", SMALL)
    assert not report.skipped
    (archive / "158.xml").write_text(xml(4, sessions(nodule(4))))
    check_left_out(tree, "2 XML files for series")


def test_xml_of_other_scans_and_x_ray_pictures_are_counted(tree):
    (tree / "other.xml").write_text(xml(77))
    (tree / "x-ray.xml").write_text(xml(4, root="IdriReadMessage"))
    write_slice(place(tree) / "x.dcm", 4, 0, Modality="DX", SeriesInstanceUID="1.9")
    (tree / "LICENSE").write_text("CC BY 3.0")
    report, (note,) = prepare_tree(tree, tree.parent / "out", SMALL)
    assert not report.skipped and sum(report.counts.values()) == 20
    assert "1 series of other kinds ['DX'] and 1 XML files of X-ray" in note
    assert "1 XML files belong to series that are not here" in note


def test_a_truncated_file_is_refused(tree):
    file = place(tree) / "000005.dcm"
    file.write_bytes(file.read_bytes()[:-2000])
    check_left_out(tree, "000005.dcm")


def test_a_file_cut_in_its_header_is_refused(tree):
    file = place(tree) / "000005.dcm"
    file.write_bytes(file.read_bytes()[:100])
    check_left_out(tree, "000005.dcm")


def test_a_missing_slice_of_a_nodule_is_refused(tree):
    (place(tree) / "000005.dcm").unlink()
    check_left_out(tree, "is not there; download the series again")


def test_a_gap_between_outlined_slices_is_refused(tree):
    (place(tree) / "000005.dcm").unlink()  # nobody outlined it
    body = sessions(*[nodule(4, slices=(2, 3, 5, 6))] * 4)
    (place(tree) / "004.xml").write_text(xml(4, body))
    check_left_out(tree, "5.00 mm apart within a nodule and 2.50 mm elsewhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PixelSpacing": [0.6, 0.6]}, "PixelSpacing is [0.6, 0.6]"),
        ({"Rows": 48, "PixelData": b"\0" * 96 * 96}, "Rows is 48"),
        ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, "ImageOrientationPatient"),
        ({"PixelSpacing": [0, 0]}, "no number"),
        ({"PixelData": b"\0" * 96 * 96}, "cut short"),
        ({"RescaleSlope": None}, "000005.dcm"),
        ({"InstanceNumber": None}, "000005.dcm"),
    ],
)
def test_a_slice_unlike_the_others_is_refused(changes, message, tree):
    write_slice(place(tree) / "000005.dcm", 4, SLICES - 5, **changes)
    check_left_out(tree, message)


def test_of_two_slices_at_one_place_the_lower_number_stays(tree):
    wrong = np.zeros((SIDE, SIDE), "<u2").tobytes()
    write_slice(
        place(tree) / "again.dcm", 4, 4, SOPInstanceUID="1.5", InstanceNumber=99, PixelData=wrong
    )
    report, _ = prepare_tree(tree, tree.parent / "out", SMALL)
    assert not report.skipped
    data = load_dataset(report.path)
    assert len(data) == 20
    assert data.read_images()[data.case_ids == "P4"].max((1, 2, 3)).min() > 0.7
    ct = lidc_scans.stack(sorted(place(tree).glob("*.dcm")))
    assert ct.index_of["1.5"] == ct.index_of[uid(4, 4)] and len(ct.files) == SLICES
    write_slice(
        place(tree) / "again.dcm", 4, 4, SOPInstanceUID="1.5", InstanceNumber=1, PixelData=wrong
    )
    assert lidc_scans.stack(sorted(place(tree).glob("*.dcm"))).files[4].name == "again.dcm"


def test_columns_that_run_backwards_keep_z_rising(tree):
    for k in range(SLICES):
        write_slice(
            place(tree) / f"{SLICES - k:06d}.dcm", 4, k, ImageOrientationPatient=[1, 0, 0, 0, -1, 0]
        )
    ct = lidc_scans.stack(sorted(place(tree).glob("*.dcm")))
    assert (ct.heights == -50 + 2.5 * np.arange(SLICES)).all()


def test_two_patients_in_one_series_are_refused(tree):
    write_slice(place(tree) / "000005.dcm", 4, 4, PatientID="P9")
    with pytest.raises(ValueError, match="patient .* but others of series"):
        prepare_tree(tree, tree.parent / "out", SMALL)


def test_a_folder_without_scans(tmp_path):
    with pytest.raises(SystemExit, match="error: .*no CT series"):
        main(["--folder", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="is no folder"):
        main(["--folder", str(tmp_path / "none"), "--out", str(tmp_path / "out")])


def test_the_command_line(written, tmp_path, capsys):
    arguments = ["--folder", str(written), "--out", str(tmp_path / "a"), "--crop", "16"]
    main([*arguments, "--readers", "4", "--every", "3"])
    assert "4 CT series" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="exists; --force"):
        main(arguments)
    for wrong in (["--crop", "2"], ["--readers", "5"], ["--spacing", "0"], ["--every", "0"]):
        with pytest.raises(SystemExit, match="error: "):
            main([*arguments, *wrong])


def test_readers_are_sessions_of_the_file(written):
    reading = lidc_xml.read_xml(written / NAMES[1] / "001.xml")
    assert [n.reader for n in reading.nodules] == [0, 1, 2, 3]
    assert (reading.small, reading.other, reading.series_uid) == (4, 4, uid(1))
    case = Case(uid(1), "P1", (*sorted((written / NAMES[1]).glob("*.dcm")),))
    with pytest.raises(Unusable, match="0 XML files"):
        lidc_nodules.read_scan(4, case)
