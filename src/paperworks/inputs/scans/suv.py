"""PET series in standardised uptake values by body weight (SUVbw, g/ml).

SUV = Bq/ml * weight in g / dose in Bq at the time to which the counts are corrected for decay. What the headers leave
out is never assumed: an error names the attribute. Only the half-life of F-18 is known where the header has none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.scans.series import DicomSeries, numbers, read_series, require

F18_HALF_LIFE = 6586.2
"""Seconds (109.77 min)."""
_NO_DATE, _NO_YEAR = "19000101", 1900
"""The day of headers whose dates were taken out; then times of day alone count."""
LONGEST_WITHOUT_DATE = 6 * 3600.0
"""A delay across midnight is believed up to here, seconds."""
_HALF_LIVES = {"F18": 6586.2, "GA68": 4062.6, "C11": 1221.8, "N13": 597.9, "ZR89": 282240.0, "CU64": 45720.0}
_CODES = {"C-111A1": "F18", "77004003": "F18", "C-131A3": "GA68", "C-105A1": "C11", "C-107A1": "N13"}
_PHILIPS_SUV, _PHILIPS_ACTIVITY = (0x7053, 0x1000), (0x7053, 0x1009)


@dataclass(frozen=True)
class SuvFactor:
    """What rescaled values are multiplied by, and how it was found.

    ``provenance`` holds no name, number or date: units, weight, dose, half-life and delay only.
    """

    factor: float
    provenance: dict[str, Any] = field(default_factory=dict)


def dicom_to_suv(
    series: DicomSeries | str | Path | Sequence[Any],
) -> tuple[np.ndarray, float, dict[str, Any]]:
    """A PET series in SUV.

    Parameters
    ----------
    series : a series that was read, a folder with one PET series, or pydicom data sets of one.

    Returns
    -------
    array : float32 ``[columns, rows, slices]`` in the order and orientation of the series.
    factor : by which the rescaled values were multiplied.
    provenance : how the factor was found; no identifiers, no dates.

    Raises
    ------
    InputError : see ``suv_factor`` and ``read_series``.
    """
    read = series if isinstance(series, DicomSeries) else read_series(series, "PT")
    found = suv_factor(read)
    return (read.volume().array * np.float32(found.factor)).astype(np.float32), found.factor, found.provenance


def suv_factor(series: DicomSeries) -> SuvFactor:
    """The factor from rescaled values to SUV by body weight.

    Units BQML need weight, dose, times and half-life. GML is SUV already. CNTS (Philips) has private factors. Decay
    correction START: to the earliest time of the series and its frames; ADMIN: to the injection, without a delay.

    Raises
    ------
    InputError : another modality, units or decay correction; a weight, dose or time that is missing or cannot be right;
        an injection after the scan, or too long before it; counts that were not corrected for attenuation.
    """
    first = series.slices[0]
    if series.modality != "PT":
        raise InputError("Modality", series.modality or "none", "PT, a PET series")
    units = str(require(first, "Units")).upper()
    if any(str(one.get("Units", "")).upper() != units for one in series.slices):
        raise InputError("Units", "several in one series", "one unit")
    if units == "GML":
        kind = str(first.get("SUVType", "BW") or "BW").upper()
        if kind != "BW":
            raise InputError("SUVType", kind, "BW: SUV by body weight")
        return SuvFactor(1.0, {"units": units})
    if units == "CNTS":
        return _philips(series)
    if units != "BQML":
        raise InputError("Units", units, "BQML, GML (SUV already), or CNTS with Philips' private factors")
    return _from_activity(series, 1.0, {"units": units})


def _philips(series: DicomSeries) -> SuvFactor:
    first = series.slices[0]
    direct = _private(first, _PHILIPS_SUV)
    if direct:
        return SuvFactor(direct, {"units": "CNTS", "source": "private SUV factor (7053,1000)"})
    activity = _private(first, _PHILIPS_ACTIVITY)
    if activity:
        seen = {"units": "CNTS", "source": "private activity factor (7053,1009)"}
        return _from_activity(series, activity, seen)
    found = "CNTS without private factors (7053,1000) and (7053,1009)"
    raise InputError("Units", found, "counts that can be converted: BQML, GML, or Philips' private SUV factor")


def _private(header: Any, tag: tuple[int, int]) -> float:
    element = header.get(tag)
    if element is None:
        return 0.0
    try:
        value = element.value
        found = float(value.decode().strip("\0 ") if isinstance(value, bytes) else value)
    except (TypeError, ValueError):
        return 0.0
    return found if math.isfinite(found) and found > 0 else 0.0


def _from_activity(series: DicomSeries, scale: float, seen: dict[str, Any]) -> SuvFactor:
    first = series.slices[0]
    _check_corrections(first)
    weight = float(numbers(first, "PatientWeight", 1)[0])
    if not 0.3 <= weight <= 500:
        raise InputError("PatientWeight", f"{weight:g} kg", "the patient's weight in kg, 0.3 to 500")
    dose_item = _injection(first)
    dose = float(numbers(dose_item, "RadionuclideTotalDose", 1)[0])
    if not 1e6 <= dose <= 1e11:
        unit = ", in MBq it seems" if 1 <= dose <= 1e4 else ""
        raise InputError("RadionuclideTotalDose", f"{dose:g}{unit}", "the injected dose in Bq, such as 3.5e8")
    half_life = _half_life(dose_item)
    correction = str(require(first, "DecayCorrection")).upper()
    notes: list[str] = []
    if correction == "ADMIN":
        delay = 0.0
    elif correction == "START":
        delay, notes = _delay(series, dose_item, half_life)
    else:
        raise InputError("DecayCorrection", correction, "START or ADMIN (images that were corrected for decay)")
    left = dose * 2 ** (-delay / half_life)
    seen |= {
        "weight_kg": weight,
        "dose_Bq": dose,
        "half_life_s": half_life,
        "decay_correction": correction,
        "delay_s": delay,
    }
    if notes:
        seen["notes"] = notes
    return SuvFactor(scale * weight * 1000 / left, seen)


def _check_corrections(header: Any) -> None:
    done = header.get("CorrectedImage")
    if not done:
        return
    names = {str(name).upper() for name in ([done] if isinstance(done, str) else done)}
    for name, words in (("ATTN", "attenuation"), ("DECY", "decay")):
        if name not in names:
            found = f"{', '.join(sorted(names))}: no correction for {words}"
            raise InputError("CorrectedImage", found, f"a series with {name}")


def _injection(header: Any) -> Any:
    items = require(header, "RadiopharmaceuticalInformationSequence")
    if len(items) != 1:
        name = "RadiopharmaceuticalInformationSequence"
        raise InputError(name, f"{len(items)} injections", "one injection")
    return items[0]


def _half_life(item: Any) -> float:
    known = _HALF_LIVES.get(_nuclide(item))
    value = item.get("RadionuclideHalfLife")
    if value is None or value == "":
        if known is None and _nuclide(item):
            raise InputError("RadionuclideHalfLife", f"none, for {_nuclide(item)}", "the half-life in seconds")
        return known or F18_HALF_LIFE
    found = float(numbers(item, "RadionuclideHalfLife", 1)[0])
    if abs(found - F18_HALF_LIFE / 60) < 1:
        raise InputError("RadionuclideHalfLife", f"{found:g}, in minutes it seems", "seconds, such as 6586.2")
    if found <= 0 or (known is not None and abs(found / known - 1) > 0.05):
        expected = "seconds above 0" if known is None else f"about {known:g} s, as {_nuclide(item)} has"
        raise InputError("RadionuclideHalfLife", f"{found:g} s", expected)
    return found


def _nuclide(item: Any) -> str:
    """F18, GA68, ... by code; else by the name of the tracer; empty where nothing says."""
    for code in item.get("RadionuclideCodeSequence") or ():
        known = _CODES.get(str(code.get("CodeValue", "")))
        if known:
            return known
        meaning = re.sub(r"[^A-Z0-9]", "", str(code.get("CodeMeaning", "")).upper())
        found = re.search(r"(18F|F18|FLUORINE18|68GA|GA68|89ZR|ZR89|64CU|CU64|11C|C11|13N|N13)", meaning)
        if found:
            letters = re.sub(r"\d", "", found[1]).replace("FLUORINE", "F")
            return letters + re.sub(r"\D", "", found[1])
    tracer = str(item.get("Radiopharmaceutical", "")).upper()
    return "F18" if re.search(r"FDG|FLUDEOXYGLUCOSE|FLUORODEOXYGLUCOSE|F-?18|18-?F", tracer) else ""


def _delay(series: DicomSeries, item: Any, half_life: float) -> tuple[float, list[str]]:
    """Seconds from injection to the time of decay correction."""
    reference, notes = _reference_time(series)
    zone = str(series.slices[0].get("TimezoneOffsetFromUTC", "") or "")
    stamp = item.get("RadiopharmaceuticalStartDateTime")
    clock = "" if reference.year > _NO_YEAR or not stamp else str(stamp).strip()[8:]
    if stamp and not clock:
        name = "RadiopharmaceuticalStartDateTime"
        injected = _moment(str(stamp), name, zone)
        delay = (reference - injected).total_seconds()
        limit, dated = 10 * half_life, True
    else:
        name = "RadiopharmaceuticalStartTime"
        time = clock or require(item, name)
        injected = _moment(f"{reference:%Y%m%d}{_time_text(time)}", name, "")
        delay = (reference - injected).total_seconds()
        limit, dated = LONGEST_WITHOUT_DATE, False
        if delay < 0:
            across = delay + 86400
            if not 0 < across < LONGEST_WITHOUT_DATE:
                found = (
                    f"{-delay / 60:.0f} min after the scan began (or {across / 3600:.1f} h before it, across midnight)"
                )
                raise InputError(name, found, "an injection less than 6 h before the scan")
            delay = across
            notes.append("injection and scan on two sides of midnight: 24 h added")
    if delay < 0:
        raise InputError(name, f"{-delay / 60:.0f} min after the scan began", "an injection before the scan")
    if delay > limit:
        expected = "at most ten half-lives before the scan" if dated else "an injection less than 6 h before the scan"
        raise InputError(name, f"{delay / 3600:.1f} h before the scan", expected)
    return delay, notes


def _reference_time(series: DicomSeries) -> tuple[datetime, list[str]]:
    """The earliest of the series' time and the times of its frames: reprocessing can put the series' time later."""
    first = series.slices[0]
    frames = []
    for one in series.slices:
        time = one.get("AcquisitionTime")
        if time:
            date = one.get("AcquisitionDate") or one.get("SeriesDate") or one.get("StudyDate") or _NO_DATE
            frames.append(_moment(f"{date}{_time_text(time)}", "AcquisitionTime", ""))
    time = first.get("SeriesTime")
    date = first.get("SeriesDate") or first.get("StudyDate") or first.get("AcquisitionDate") or _NO_DATE
    whole = [_moment(f"{date}{_time_text(time)}", "SeriesTime", "")] if time else []
    if not frames and not whole:
        require(first, "SeriesTime")
    notes = []
    if frames and whole and whole[0] > min(frames):
        late = (whole[0] - min(frames)).total_seconds()
        notes.append(f"SeriesTime is {late:.0f} s after the earliest AcquisitionTime, which was used")
    return min(frames + whole), notes


def _time_text(value: Any) -> str:
    return re.sub(r"[:\s]", "", str(value))


def _moment(text: str, name: str, zone: str) -> datetime:
    """A DICOM date and time, YYYYMMDDHHMMSS.FFFFFF&ZZXX, in the local time of the scan."""
    found = re.fullmatch(
        r"(\d{8})(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6}))?([+-]\d{4})?", re.sub(r"[:\s]", "", text.strip())
    )
    try:
        if found is None:
            raise ValueError
        day = datetime.strptime(found[1], "%Y%m%d")
        hour, minute, second = (int(part or 0) for part in found.group(2, 3, 4))
        if hour > 23 or minute > 59 or second > 60:
            raise ValueError
    except ValueError:
        raise InputError(name, "a time that is none", "HHMMSS, or YYYYMMDDHHMMSS with a date") from None
    fraction = int((found[5] or "0").ljust(6, "0"))
    moment = day + timedelta(hours=hour, minutes=minute, seconds=second, microseconds=fraction)
    if found[6] and zone and re.fullmatch(r"[+-]\d{4}", zone):
        moment += _offset(zone) - _offset(found[6])
    return moment


def _offset(text: str) -> timedelta:
    minutes = int(text[1:3]) * 60 + int(text[3:])
    return timedelta(minutes=-minutes if text[0] == "-" else minutes)
