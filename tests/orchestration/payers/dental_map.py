"""A structural map of 005010X224A2 (837 dental) for pyx12, which ships none.

Provenance: derived at test time from the maps that pyx12 itself ships (BSD licence): its
005010X222A1 (837 professional) and its 004010X097A1 (837 dental). It is a reconstruction for
structural tests, not the copyrighted implementation guide, and no certificate of conformance.
"""

import copy
import re
import shutil
import xml.etree.ElementTree as ET
from io import StringIO
from pathlib import Path

import pyx12
import pyx12.params
import pyx12.x12n_document

SHIPPED = Path(pyx12.__file__).parent / "map"
PROFESSIONAL = "837.5010.X222.A1.xml"
DENTAL_4010 = "837.4010.X097.A1.xml"
DENTAL = "837.5010.X224.A2.xml"

_KEPT_DATES = {"Date - Accident", "Date - Repricer Received Date"}
_DROPPED_CLAIM = {"CR1", "CR2", "CRC"}
_KEPT_CLAIM_REFS = {
    "Service Authorization Exception Code",
    "Referral Number",
    "Prior Authorization",
    "Payer Claim Control Number",
    "Repriced Claim Number",
    "Adjusted Repriced Claim Number",
    "Claim Identifier For Transmission Intermediaries",
}
_DROPPED_LOOPS = {"2310E", "2310F", "2410", "2420B", "2420E", "2420F", "2420G", "2420H", "2440"}
_KEPT_LINE_REFS = {
    "Repriced Line Item Reference Number",
    "Adjusted Repriced Line Item Reference Number",
    "Prior Authorization",
    "Line Item Control Number",
}
_DROPPED_LINE = {"SV1", "SV5", "PWK", "CR1", "CR3", "CRC", "QTY", "MEA", "CN1", "NTE", "PS1"}
_AREAS = ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "20", "30", "40"]
_REPORTS = ["B4", "DA", "DG", "EB", "OZ", "P6", "RB", "RR", "XP", "03"]


def validate(text: str, folder: Path) -> tuple[bool, str]:
    """Let pyx12 judge an X12 file with the maps in `folder`; gives its verdict and its 999."""
    answer = StringIO()
    params = pyx12.params.params()
    verdict = pyx12.x12n_document.x12n_document(
        params, StringIO(text), answer, None, None, map_path=str(folder)
    )
    return bool(verdict), answer.getvalue()


def build(folder: Path) -> Path:
    """Copy the shipped maps to `folder`, add the dental one and register it."""
    shutil.copytree(SHIPPED, folder)
    tree = ET.parse(SHIPPED / PROFESSIONAL)
    root = tree.getroot()
    dental = ET.parse(SHIPPED / DENTAL_4010).getroot()
    parts = _dental_segments(dental)
    date = next(
        s
        for s in root.iter("segment")
        if s.get("xid") == "DTP" and _text(s, "name") == "Date - Service Date"
    )
    line_ref = next(
        s
        for s in root.iter("segment")
        if s.get("xid") == "REF" and _text(s, "name") == "Line Item Control Number"
    )
    for loop in list(root.iter("loop")):
        for sub in list(loop.findall("loop")):
            if sub.get("xid") in _DROPPED_LOOPS:
                loop.remove(sub)
        if loop.get("xid") == "2300":
            _claim(loop, date, parts)
        if loop.get("xid") == "2400":
            _line(loop, date, line_ref, parts)
    for each in root.iter("element"):
        if each.get("xid") in ("ST03", "GS08"):
            _codes(each, ["005010X224A2"])
    tree.write(folder / DENTAL, encoding="utf-8", xml_declaration=True)
    _register(folder / "maps.xml")
    return folder


def _register(index: Path) -> None:
    text = index.read_text(encoding="utf-8")
    found = re.search(r'.*vriic="005010X222A1" fic="HC".*\n', text)
    assert found is not None
    line = found.group(0).replace("005010X222A1", "005010X224A2").replace("837P", "837D")
    line = line.replace(PROFESSIONAL, DENTAL)
    index.write_text(text.replace(found.group(0), found.group(0) + line), encoding="utf-8")


def _dental_segments(dental: ET.Element) -> dict[str, ET.Element]:
    parts = {name: copy.deepcopy(_first(dental, name)) for name in ("DN1", "DN2", "SV3", "TOO")}
    for name, place in (("DN1", "1450"), ("DN2", "1500"), ("SV3", "3800"), ("TOO", "3820")):
        _set(parts[name], "pos", place)
    _codes(_element(parts["DN2"], "DN202"), ["E", "M"])
    qualifier = ET.SubElement(parts["DN2"], "element", {"xid": "DN206"})
    for tag, value in (
        ("data_ele", "1270"),
        ("name", "Code List Qualifier Code"),
        ("usage", "R"),
        ("seq", "06"),
    ):
        ET.SubElement(qualifier, tag).text = value
    _codes(qualifier, ["JP"])
    for name in ("SV3", "TOO"):
        for composite in parts[name].findall("composite"):
            composite.set("xid", name + str(_text(composite, "seq")))
    for each in parts["SV3"].iter("element"):
        if each.get("xid", "").startswith("SV304-"):
            _codes(each, _AREAS)
        if each.get("xid") == "SV301-07":
            _set(each, "usage", "S")
    return parts


def _claim(loop: ET.Element, date: ET.Element, parts: dict[str, ET.Element]) -> None:
    for each in list(loop.findall("segment")):
        name, xid = _text(each, "name"), each.get("xid")
        if (
            (xid == "DTP" and name not in _KEPT_DATES)
            or xid in _DROPPED_CLAIM
            or (xid == "REF" and name not in _KEPT_CLAIM_REFS)
            or (xid == "HI" and name != "Health Care Diagnosis Code")
        ):
            loop.remove(each)
        elif xid == "HI":
            _set(each, "usage", "S")
        elif xid == "NTE":
            _set(each, "max_use", "5")
            _codes(_element(each, "NTE01"), ["ADD"])
        elif xid == "CLM":
            _set(_element(each, "CLM19"), "usage", "S")
            _codes(_element(each, "CLM19"), ["PB"])
        elif xid == "PWK":
            _codes(_element(each, "PWK01"), _REPORTS)
            _codes(_element(each, "PWK02"), ["AA", "BM", "EL", "EM", "FT", "FX"])
    prior = next(
        s
        for s in loop.findall("segment")
        if s.get("xid") == "REF" and _text(s, "name") == "Prior Authorization"
    )
    _reorder(
        loop,
        [
            _date(date, "Date - Appliance Placement", "1350", "452"),
            _date(date, "Date - Service Date", "1350", "472", ["D8", "RD8"]),
            parts["DN1"],
            parts["DN2"],
            _ref(prior, "Predetermination Identification", "1800", "G3"),
        ],
    )


def _line(
    loop: ET.Element, date: ET.Element, line_ref: ET.Element, parts: dict[str, ET.Element]
) -> None:
    for each in list(loop.findall("segment")):
        name, xid = _text(each, "name"), each.get("xid")
        if (
            xid in _DROPPED_LINE
            or xid == "DTP"
            or (xid == "REF" and name not in _KEPT_LINE_REFS)
            or (xid == "AMT" and name != "Sales Tax Amount")
        ):
            loop.remove(each)
    dates = (
        ("Date - Service Date", "472"),
        ("Date - Prior Placement", "441"),
        ("Date - Appliance Placement", "452"),
        ("Date - Replacement", "446"),
        ("Date - Treatment Start", "196"),
        ("Date - Treatment Completion", "198"),
    )
    _reorder(
        loop,
        [
            parts["SV3"],
            parts["TOO"],
            *(_date(date, name, "4550", code) for name, code in dates),
            _ref(line_ref, "Service Predetermination Identification", "4700", "G3", "5"),
        ],
    )


def _text(node: ET.Element, tag: str) -> str | None:
    found = node.find(tag)
    return found.text if found is not None else None


def _set(node: ET.Element, tag: str, value: str) -> None:
    found = node.find(tag)
    assert found is not None
    found.text = value


def _codes(element: ET.Element, values: list[str]) -> None:
    valid = element.find("valid_codes")
    if valid is None:
        valid = ET.SubElement(element, "valid_codes")
    valid.attrib.clear()
    for code in list(valid):
        valid.remove(code)
    for value in values:
        ET.SubElement(valid, "code").text = value


def _first(root: ET.Element, xid: str) -> ET.Element:
    return next(s for s in root.iter("segment") if s.get("xid") == xid)


def _element(segment: ET.Element, xid: str) -> ET.Element:
    return next(e for e in segment.iter("element") if e.get("xid") == xid)


def _date(
    template: ET.Element, name: str, place: str, code: str, formats: list[str] | None = None
) -> ET.Element:
    made = copy.deepcopy(template)
    _set(made, "name", name)
    _set(made, "pos", place)
    _set(made, "usage", "S")
    _codes(_element(made, "DTP01"), [code])
    _codes(_element(made, "DTP02"), formats or ["D8"])
    return made


def _ref(template: ET.Element, name: str, place: str, code: str, most: str = "1") -> ET.Element:
    made = copy.deepcopy(template)
    _set(made, "name", name)
    _set(made, "pos", place)
    _set(made, "usage", "S")
    _set(made, "max_use", most)
    _codes(_element(made, "REF01"), [code])
    return made


def _reorder(loop: ET.Element, additions: list[ET.Element]) -> None:
    head = [c for c in loop if c.tag not in ("segment", "loop")]
    body = [c for c in loop if c.tag in ("segment", "loop")] + additions
    body.sort(key=lambda node: int(_text(node, "pos") or 0))  # stable within one position
    for child in list(loop):
        loop.remove(child)
    loop.extend(head + body)
