"""An invented office, patient and plan, from which the tests of the payers make claims."""

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from node.domain.teeth import Surface, Tooth
from orchestration.payers.claim import (
    Address,
    Attachment,
    Claim,
    Dentist,
    Insurance,
    Line,
    Person,
    Practice,
    Report,
    ToothAt,
)
from orchestration.payers.segments import Envelope

NPI = "1234567893"
AT = datetime(2026, 3, 2, 9, 30)  # noqa: DTZ001 - X12 carries the sender's local time
ENVELOPE = Envelope("BITEWING", "SANDBOXCH", 7, AT, is_test=True)
HOME = Address("2 Oak St", "Salem", "OR", "973010000")
PATIENT = Person("Doe", "Jané", date(1980, 1, 2), "F", HOME)
PRACTICE = Practice("Any Dental PC", NPI, "123456789", "1223G0001X", HOME, "5035550100")
INSURANCE = Insurance("Example Dental Plan", "EX001", "W1234", "G100", PATIENT)
SECOND = Insurance("Other Dental", "OT002", "S777", "G7", PATIENT, sequence="S")
CROWN = Line("4711", "D2740", Decimal("1450"), (ToothAt(Tooth("46")),), placement="I")
FILLING = Line(
    "4712", "D2392", Decimal("250.50"), (ToothAt(Tooth("36"), (Surface.MESIAL, Surface.OCCLUSAL)),)
)


def predetermination(*lines: Line, **values: object) -> Claim:
    claim = Claim(
        id="BW1",
        kind="predetermination",
        practice=PRACTICE,
        treating=Dentist("Smith", "Ann", NPI, "1223G0001X"),
        insurance=INSURANCE,
        patient=PATIENT,
        lines=lines or (CROWN,),
        narrative="#30: caries reaching the inner third of dentin; cusp fracture 2.5 mm.",
        attachments=(Attachment(Report.FILMS, "EL", "SBX000001"),),
        missing_teeth=(Tooth("18"),),
    )
    return replace(claim, **values)  # type: ignore[arg-type]  # names of its fields
