"""Teeth, surfaces and findings as DICOM codes; teeth also back.

The tables are in ``dental_codes.json`` beside this file, each with how well it is verified. We
write the current code of a tooth and read also the ones it replaced, the "Entire ... tooth" codes
and the SNOMED-RT identifiers that older devices send. What has no verified public code is in our
private scheme :data:`LOCAL_SCHEME`, which every object that uses it declares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import cast

from pydicom.sr.coding import Code

from node.domain.findings import CariesDepth, FindingKind
from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput

#: Private coding scheme designator; begins with 99 (PS3.16 8.2) and has at most 16 characters.
LOCAL_SCHEME = "99DENTAI"
LOCAL_SCHEME_NAME = "Bitewing local codes for dental radiography"
LOCAL_SCHEME_VERSION = "1"

CARIES_DEPTH = Code("CAR-DEPTH", LOCAL_SCHEME, "Radiographic caries depth")
BONE_LEVEL_MM = Code("RBL-MM", LOCAL_SCHEME, "CEJ to alveolar crest distance")
BONE_LOSS_PERCENT = Code("RBL-PCT", LOCAL_SCHEME, "Radiographic bone loss percent of root length")
DECISION = Code("DECISION", LOCAL_SCHEME, "Decision of the signing clinician")
DECISIONS = {
    "accepted": Code("ACCEPTED", LOCAL_SCHEME, "AI suggestion accepted"),
    "edited": Code("EDITED", LOCAL_SCHEME, "AI suggestion edited"),
    "added": Code("ADDED", LOCAL_SCHEME, "Added by the clinician"),
}

_Row = Mapping[str, object]
_SNOMED_RT = ("SRT", "SNM3", "99SDM")  # PS3.16 8.2: synonyms seen in old objects


def tooth_code(tooth: Tooth) -> Code:
    """Return the code of a tooth: CID 4018 permanent, 4019 deciduous, 4025 supernumerary."""
    return _tooth_codes()[tooth]


def read_tooth(code: Code) -> Tooth:
    """Return the tooth a current, replaced, "Entire" or SNOMED-RT code names.

    Raises InvalidInput for any other code. The meaning is ignored: it is display text only.
    """
    scheme = "SRT" if code.scheme_designator in _SNOMED_RT else code.scheme_designator
    try:
        return _teeth_by_code()[scheme, code.value]
    except KeyError:
        raise InvalidInput(f"not a tooth code: ({code.value}, {code.scheme_designator})") from None


def surface_code(surface: Surface) -> Code:
    """Return the code of a tooth surface; buccal is written as vestibular."""
    return _keyed("surfaces", "surface")[surface.value]


def finding_code(kind: FindingKind) -> Code:
    """Return the code of a kind of finding: an observation, never a diagnosis."""
    return _keyed("findings", "kind")[kind.value]


def depth_code(depth: CariesDepth) -> Code:
    """Return the local code of a radiographic caries depth.

    The public depth codes also say "active" and "primary", which one radiograph cannot show.
    """
    return _keyed("depths", "depth")[depth.value]


@cache
def _table() -> Mapping[str, list[_Row]]:
    text = files("node.dicom").joinpath("dental_codes.json").read_text(encoding="utf-8")
    return cast("Mapping[str, list[_Row]]", json.loads(text))


def _code(row: _Row) -> Code:
    return Code(str(row["value"]), str(row["scheme"]), str(row["meaning"]))


@cache
def _keyed(table: str, key: str) -> dict[str, Code]:
    return {str(row[key]): _code(row) for row in _table()[table]}


@cache
def _tooth_codes() -> dict[Tooth, Code]:
    regular = {Tooth(str(row["tooth"])): _code(row) for row in _table()["teeth"]}
    extra = {
        Tooth(str(row["tooth"]), supernumerary=True): _code(row)
        for row in _table()["supernumerary"]
    }
    return regular | extra


@cache
def _teeth_by_code() -> dict[tuple[str, str], Tooth]:
    current = {
        (code.scheme_designator, code.value): tooth for tooth, code in _tooth_codes().items()
    }
    return dict(_replaced()) | current


def _replaced() -> Iterator[tuple[tuple[str, str], Tooth]]:
    for row in _table()["teeth"]:
        tooth = Tooth(str(row["tooth"]))
        for scheme, key in (("SCT", "also_sct"), ("SRT", "also_srt")):
            for value in cast("list[str]", row[key]):
                yield (scheme, value), tooth
