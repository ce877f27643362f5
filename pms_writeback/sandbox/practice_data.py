"""What the invented practice consists of, as tables: a long flat page, no code.

Procedure descriptions are this practice's own words; an office keeps its own texts.
"""

from __future__ import annotations

from dataclasses import dataclass

from pms_writeback.sandbox.store import Row

DEFINITIONS: tuple[tuple[int, int, str, str], ...] = (
    (19, 2, "Not Called", ""),
    (20, 2, "Unconfirmed", ""),
    (21, 2, "Appointment Confirmed", ""),
    (22, 2, "eConfirm Sent", ""),
    (23, 2, "Not Accepted", ""),
    (24, 2, "eConfirm Failed", ""),
    (25, 2, "Arrived", ""),
    (26, 2, "In Operatory", ""),
    (71, 11, "Exams & X-rays", ""),
    (72, 11, "Cleanings", ""),
    (73, 11, "Fillings", ""),
    (74, 11, "Crowns", ""),
    (75, 11, "Endo", ""),
    (76, 11, "Perio", ""),
    (77, 11, "Oral Surgery", ""),
    (131, 18, "BWs", "XT"),
    (132, 18, "FMXs", "XT"),
    (133, 18, "Panos", "XT"),
    (134, 18, "Patient Pictures", "P"),
    (135, 18, "Miscellaneous", ""),
    (138, 18, "AI Imaging", "XT"),
    (161, 20, "Urgent", ""),
    (163, 20, "1", ""),
    (164, 20, "2", ""),
    (236, 27, "ApptRelated", "APPT"),
    (237, 27, "Insurance", ""),
    (238, 27, "Misc", "MISC"),
    (321, 33, "Normal", "D"),
    (322, 33, "Red", "R"),
)
"""DefNum, category, name, value."""

PROVIDERS: tuple[Row, ...] = (
    {
        "ProvNum": 1,
        "Abbr": "DRA",
        "LName": "Amari",
        "FName": "Noor",
        "Suffix": "DDS",
        "ProvStatus": "Active",
        "NationalProvID": "1234567893",
    },
    {
        "ProvNum": 2,
        "Abbr": "DRB",
        "LName": "Bergmann",
        "FName": "Iris",
        "Suffix": "DMD",
        "ProvStatus": "Active",
        "NationalProvID": "1245319599",
    },
    {
        "ProvNum": 3,
        "Abbr": "HYG",
        "LName": "Castell",
        "FName": "Jonas",
        "Suffix": "RDH",
        "ProvStatus": "Active",
        "IsSecondary": "true",
    },
)

OPERATORIES: tuple[Row, ...] = (
    {"OperatoryNum": 1, "OpName": "Operatory 1", "Abbrev": "OP1", "ItemOrder": 0, "ProvDentist": 1},
    {"OperatoryNum": 2, "OpName": "Operatory 2", "Abbrev": "OP2", "ItemOrder": 1, "ProvDentist": 2},
    {
        "OperatoryNum": 3,
        "OpName": "Hygiene",
        "Abbrev": "HYG",
        "ItemOrder": 2,
        "ProvDentist": 1,
        "ProvHygienist": 3,
        "IsHygiene": "true",
    },
)

USERS: tuple[Row, ...] = (
    {"UserNum": 1, "UserName": "Admin"},
    {"UserNum": 2, "UserName": "bitewing"},
    {"UserNum": 3, "UserName": "DrAmari", "ProviderNum": 1},
    {"UserNum": 4, "UserName": "DrBergmann", "ProviderNum": 2},
    {"UserNum": 5, "UserName": "JonasHyg", "ProviderNum": 3},
)

TASK_LISTS = ("Front Desk", "AI Imaging Review")


@dataclass(frozen=True, slots=True)
class ProcedureCode:
    """One line of the office's procedure code list."""

    code: str
    abbreviation: str
    description: str
    area: str = "Mouth"
    category: int = 71
    is_radiology: bool = False
    is_hygiene: bool = False


PROCEDURE_CODES = (
    ProcedureCode("D0120", "PerEx", "Check-up exam"),
    ProcedureCode("D0140", "LimEx", "Problem-focused exam"),
    ProcedureCode("D0150", "CompEx", "First full exam"),
    ProcedureCode("D0210", "FMX", "Full mouth X-rays", is_radiology=True),
    ProcedureCode("D0220", "PA", "Periapical X-ray, first", is_radiology=True),
    ProcedureCode("D0230", "PAeach", "Periapical X-ray, each further", is_radiology=True),
    ProcedureCode("D0240", "Occl", "Occlusal X-ray", is_radiology=True),
    ProcedureCode("D0270", "1BW", "Bitewing, one", is_radiology=True),
    ProcedureCode("D0272", "2BW", "Bitewings, two", is_radiology=True),
    ProcedureCode("D0273", "3BW", "Bitewings, three", is_radiology=True),
    ProcedureCode("D0274", "4BW", "Bitewings, four", is_radiology=True),
    ProcedureCode("D0277", "VertBW", "Vertical bitewings, 7 to 8", is_radiology=True),
    ProcedureCode("D0330", "Pano", "Panoramic X-ray", is_radiology=True),
    ProcedureCode("D0340", "Ceph", "Cephalometric X-ray", is_radiology=True),
    ProcedureCode("D1110", "Pro", "Cleaning, adult", category=72, is_hygiene=True),
    ProcedureCode("D1120", "ChPro", "Cleaning, child", category=72, is_hygiene=True),
    ProcedureCode("D2140", "A1", "Amalgam, one surface", "Surf", 73),
    ProcedureCode("D2330", "C1A", "Composite, one surface, front", "Surf", 73),
    ProcedureCode("D2391", "C1", "Composite, one surface, back", "Surf", 73),
    ProcedureCode("D2392", "C2", "Composite, two surfaces, back", "Surf", 73),
    ProcedureCode("D2740", "Crn", "Ceramic crown", "Tooth", 74),
    ProcedureCode("D2950", "BU", "Core buildup", "Tooth", 74),
    ProcedureCode("D3330", "RCT", "Root canal, molar", "Tooth", 75),
    ProcedureCode("D4341", "SRP", "Deep cleaning, quadrant", "Quad", 76, is_hygiene=True),
    ProcedureCode("D4910", "PerMt", "Periodontal maintenance", category=76, is_hygiene=True),
    ProcedureCode("D7140", "Ext", "Extraction", "Tooth", 77),
    ProcedureCode("D9986", "Missed", "Missed appointment"),
    ProcedureCode("D9987", "Canc", "Cancelled appointment"),
)

VISITS: tuple[tuple[str, ...], ...] = (
    ("D0120", "D0274", "D1110"),
    ("D0120", "D0272", "D1110"),
    ("D0150", "D0210"),
    ("D0150", "D0330", "D0274"),
    ("D0140", "D0220"),
    ("D0140", "D0220", "D0230"),
    ("D2392",),
    ("D2740", "D0220"),
    ("D4910", "D0274"),
)
"""What people outside the cast come for."""

GIVEN_NAMES = {
    "Female": ("Ines", "Maja", "Ruth", "Sofia", "Thea", "Uma", "Vera", "Wanda", "Yara", "Zoe"),
    "Male": ("Adam", "Bruno", "Cyril", "Emil", "Hugo", "Ivan", "Karl", "Leo", "Milan", "Otto"),
}
FAMILY_NAMES = (
    "Example",
    "Invented",
    "Mockford",
    "Placeholder",
    "Sample",
    "Specimen",
    "Testerly",
    "Trial",
    "Nobody",
    "Fiction",
)
