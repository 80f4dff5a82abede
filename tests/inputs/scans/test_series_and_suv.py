"""DICOM series in the right order or refused with the reason; SUV by the headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from inputs.scans.scans_helpers import ct_series, pet_series, volume
from paperworks.errors import InputError
from paperworks.inputs.scans import dicom_to_suv, read_series

WEIGHT, DOSE, HALF_LIFE = 72.5, 3.2e8, 6586.2
FACTOR = WEIGHT * 1000 / (DOSE * 2 ** (-3600 / HALF_LIFE))


def setter(**values: Any) -> Callable[[int, Any], None]:
    """Sets attributes of a header, or of its injection where they belong there; None deletes."""

    def change(number: int, header: Any) -> None:
        for name, value in values.items():
            injected = name.startswith("Radi") and name != "RadiopharmaceuticalInformationSequence"
            where = header.RadiopharmaceuticalInformationSequence[0] if injected else header
            if value is None:
                delattr(where, name)
            else:
                setattr(where, name, value)

    return change


def moved(number: int, offset: tuple[float, float, float]) -> Callable[[int, Any], None]:
    def change(at: int, header: Any) -> None:
        if at == number:
            place = np.array(header.ImagePositionPatient, float) + offset
            header.ImagePositionPatient = [f"{v:.6f}" for v in place]

    return change


def test_a_series_is_ordered_by_position_and_keeps_its_place(tmp_path: Path) -> None:
    expected = volume()
    array, factor, seen = dicom_to_suv(pet_series(tmp_path))
    read = read_series(tmp_path, "PT").volume().to_ras()
    np.testing.assert_allclose(read.geometry.affine, expected.geometry.affine, atol=1e-5)
    slopes = [float(s.RescaleSlope) for s in read_series(tmp_path, "PT").slices]
    assert len(set(slopes)) == 5  # every slice has a slope of its own
    step = np.array(slopes) * factor / 2
    assert (np.abs(read.array * factor - expected.array) <= step * 1.01).all()
    assert factor == pytest.approx(FACTOR, rel=1e-12)
    assert array.shape == (7, 6, 5)
    assert seen["delay_s"] == 3600
    assert "Phantom" not in str(seen)
    assert "20000101" not in str(seen)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"PatientWeight": "145"}, 2 * FACTOR),
        ({"RadionuclideTotalDose": "6.4e8"}, FACTOR / 2),
        ({"DecayCorrection": "ADMIN"}, WEIGHT * 1000 / DOSE),
        ({"RadionuclideHalfLife": None}, FACTOR),
        ({"RadionuclideHalfLife": None, "RadionuclideCodeSequence": None, "Radiopharmaceutical": "X"}, FACTOR),
        # reprocessed: the series' time is later than that of the frames, which count
        ({"SeriesTime": "120000"}, FACTOR),
        ({"SeriesTime": "000500", "AcquisitionTime": "000500", "RadiopharmaceuticalStartTime": "230500"}, FACTOR),
        ({"SeriesTime": "10:00:00"}, FACTOR),
        # dates were taken out of the headers
        ({"SeriesDate": "", "StudyDate": "", "AcquisitionDate": ""}, FACTOR),
        (
            {
                "SeriesDate": "",
                "StudyDate": "",
                "AcquisitionDate": "",
                "RadiopharmaceuticalStartDateTime": "20240505090000",
            },
            FACTOR,
        ),
        ({"RadiopharmaceuticalStartDateTime": "20000101090000.000000"}, FACTOR),
        ({"RadiopharmaceuticalStartDateTime": "19991231210000"}, WEIGHT * 1000 / (DOSE * 2 ** (-46800 / HALF_LIFE))),
        ({"Units": "GML"}, 1.0),
    ],
)
def test_factor(tmp_path: Path, values: dict[str, Any], expected: float) -> None:
    _, factor, _ = dicom_to_suv(pet_series(tmp_path, setter(**values)))
    assert factor == pytest.approx(expected, rel=1e-9)


def test_counts_of_philips(tmp_path: Path) -> None:
    def direct(number: int, header: Any) -> None:
        header.Units = "CNTS"
        block = header.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "DS", "0.0005")

    assert dicom_to_suv(pet_series(tmp_path / "a", direct))[1] == 0.0005

    def activity(number: int, header: Any) -> None:
        header.Units = "CNTS"
        block = header.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x09, "DS", "2.5")

    assert dicom_to_suv(pet_series(tmp_path / "b", activity))[1] == pytest.approx(2.5 * FACTOR)


LIES: list[tuple[dict[str, Any], str]] = [
    ({"Units": "CNTS"}, "Units: found CNTS without private factors"),
    ({"Units": "PROPCNTS"}, "Units: found PROPCNTS"),
    ({"Units": None}, r"Units.*\(0054,1001\)"),
    ({"DecayCorrection": "NONE"}, "DecayCorrection: found NONE"),
    ({"DecayCorrection": None}, "DecayCorrection"),
    ({"PatientWeight": None}, r"PatientWeight \(0010,1030\)"),
    ({"PatientWeight": "0"}, "PatientWeight: found 0 kg"),
    ({"PatientWeight": "72500"}, "PatientWeight"),
    ({"RadionuclideTotalDose": None}, r"RadionuclideTotalDose \(0018,1074\)"),
    ({"RadionuclideTotalDose": "320"}, "in MBq it seems"),
    ({"RadionuclideTotalDose": "0"}, "RadionuclideTotalDose"),
    ({"RadiopharmaceuticalInformationSequence": None}, r"\(0054,0016\)"),
    ({"RadiopharmaceuticalStartTime": None}, r"RadiopharmaceuticalStartTime \(0018,1072\)"),
    ({"RadiopharmaceuticalStartTime": "101500"}, "15 min after the scan began"),
    ({"RadiopharmaceuticalStartTime": "030000"}, "7.0 h before the scan"),
    ({"RadiopharmaceuticalStartDateTime": "20000101103000"}, "30 min after the scan began"),
    ({"RadiopharmaceuticalStartDateTime": "19990101090000"}, "ten half-lives"),
    ({"RadiopharmaceuticalStartTime": "9 o'clock"}, "a time that is none"),
    ({"RadionuclideHalfLife": "109.77"}, "in minutes it seems"),
    ({"RadionuclideHalfLife": "4062"}, "about 6586.2 s, as F18 has"),
    ({"CorrectedImage": ["DECY"]}, "attenuation"),
    ({"SeriesTime": None, "AcquisitionTime": None}, "SeriesTime"),
    ({"Units": "GML", "SUVType": "LBM"}, "SUVType"),
]


@pytest.mark.parametrize(("values", "words"), LIES, ids=[w for _, w in LIES])
def test_headers_that_lie_have_an_error_each(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    series = read_series(pet_series(tmp_path), "PT")
    for number, header in enumerate(series.slices):
        setter(**values)(number, header)
    with pytest.raises(InputError, match=words) as caught:
        dicom_to_suv(series)
    assert "Phantom" not in str(caught.value)


def missing(number: int, header: Any) -> None:
    if number == 2:
        header.SeriesInstanceUID = "1.2.3"  # away, into a series of its own
        header.Modality = "OT"


def tilted(number: int, header: Any) -> None:
    moved(number, (0.0, 0.8 * number, 0.0))(number, header)


def dynamic(number: int, header: Any) -> None:
    moved(number, (0.0, 0.0, -3.3 * (number - number // 2 if number < 4 else 0)))(number, header)


SPOILT: list[tuple[str, Callable[[int, Any], None], str]] = [
    ("gap", missing, "a gap: 6.6 mm between slices 2 and 3, elsewhere 3.3 mm"),
    ("end", lambda n, h: setattr(h, "NumberOfSlices", 7), "a gap: 5 of 7 slices"),
    ("twice", moved(1, (0, 0, 3.3)), "1 slice\\(s\\) twice"),
    ("tilt", tilted, "a tilted gantry: slices are shifted"),
    ("tilt tag", lambda n, h: setattr(h, "GantryDetectorTilt", "12"), "GantryDetectorTilt 12 degrees"),
    ("size", lambda n, h: n == 1 and setattr(h, "PixelSpacing", ["3", "3"]), "several values of PixelSpacing"),
    ("patients", lambda n, h: n == 1 and setattr(h, "PatientID", "other"), "several patients"),
    ("position", lambda n, h: delattr(h, "ImagePositionPatient"), r"ImagePositionPatient \(0020,0032\)"),
    ("direction", lambda n, h: setattr(h, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "no pair of directions"),
    ("frames", lambda n, h: setattr(h, "NumberOfFrames", 5), "multi-frame"),
    ("modality", lambda n, h: setattr(h, "Modality", "MR"), "no series of modality CT"),
    ("series", lambda n, h: n > 2 and setattr(h, "SeriesInstanceUID", "1.2.9"), "2 CT series, of"),
]


@pytest.mark.parametrize(("name", "change", "words"), SPOILT, ids=[name for name, _, _ in SPOILT])
def test_series_that_are_no_volume(tmp_path: Path, name: str, change: Callable[[int, Any], None], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_series(ct_series(tmp_path, change), "CT").volume()


def test_a_dynamic_series_is_named_so(tmp_path: Path) -> None:
    ct_series(tmp_path)
    for file in sorted(tmp_path.glob("*.dcm")):
        again = pydicom.dcmread(file)
        again.FrameReferenceTime = "0"
        again.save_as(file)
        again.FrameReferenceTime = "60000"
        again.save_as(tmp_path / f"later-{file.name}")
    with pytest.raises(InputError, match="a dynamic series: 2 images at every position"):
        read_series(tmp_path, "CT")


def test_localisers_and_screenshots_are_no_slices(tmp_path: Path) -> None:
    ct_series(tmp_path / "a")
    for number, values in enumerate(({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, {"Modality": "CT"})):
        other = pydicom.dcmread(tmp_path / "a/IM0001.dcm")
        other.SeriesInstanceUID = f"1.2.{number + 1}"
        if "ImageType" not in values:
            other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        setter(**values)(0, other)
        other.save_as(tmp_path / f"a/other{number}.dcm")
    assert len(read_series(tmp_path, "CT").slices) == 5


def test_slices_without_slope_and_cut_pixels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"RescaleSlope \(0028,1053\)"):
        read_series(ct_series(tmp_path / "a", lambda n, h: delattr(h, "RescaleSlope")), "CT").volume()

    def cut(number: int, header: Any) -> None:
        header.PixelData = header.PixelData[:20]

    with pytest.raises(InputError, match="PixelData"):
        read_series(ct_series(tmp_path / "b", cut), "CT").volume()


def test_no_dicom(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("nothing")
    with pytest.raises(InputError, match="without a DICOM file"):
        read_series(tmp_path, "CT")
    with pytest.raises(InputError, match="no such folder"):
        read_series(tmp_path / "absent", "CT")


def test_files_that_are_nearly_dicom_are_named(tmp_path: Path) -> None:
    ct_series(tmp_path / "bare")
    for file in (tmp_path / "bare").iterdir():
        file.write_bytes(file.read_bytes()[132:])
    with pytest.raises(InputError, match=r"with 5 bare DICOM data set\(s\).*; expected files of DICOM's part 10"):
        read_series(tmp_path / "bare", "CT")
    (tmp_path / "scan.nrrd").write_bytes(b"NRRD0004\n")
    with pytest.raises(InputError, match=r"scan.nrrd, which is no DICOM file; expected NIfTI"):
        read_series(tmp_path / "scan.nrrd", "CT")


def test_packed_and_big_endian_pixels(tmp_path: Path) -> None:
    plain = read_series(ct_series(tmp_path / "plain"), "CT").volume().array

    def packed(number: int, header: Any) -> None:
        header.compress(pydicom.uid.RLELossless)

    assert np.array_equal(read_series(ct_series(tmp_path / "rle", packed), "CT").volume().array, plain)
    for file in ct_series(tmp_path / "big").iterdir():
        header = pydicom.dcmread(file)
        header.PixelData = header.pixel_array.astype(header.pixel_array.dtype.newbyteorder(">")).tobytes()
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        header.set_original_encoding(False, False)
        header.save_as(file, implicit_vr=False, little_endian=False, enforce_file_format=False)
    assert np.array_equal(read_series(tmp_path / "big", "CT").volume().array, plain)
