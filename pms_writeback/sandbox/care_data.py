"""What the invented practice's care consists of besides its schedule: a flat page of tables."""

from __future__ import annotations

from pms_writeback.sandbox.store import Row

#: Further definitions: DefNum, category, name, value.
CARE_DEFINITIONS: tuple[tuple[int, int, str, str], ...] = (
    (261, 13, "Texted", ""),
    (262, 13, "E-mailed", ""),
    (263, 13, "Will call back", ""),
    (281, 31, "Pre-authorisation sent", ""),
    (282, 31, "More information asked", ""),
    (283, 31, "Answer received", ""),
    (341, 35, "Endodontist", ""),
    (342, 35, "Periodontist", ""),
    (343, 35, "Oral Surgeon", ""),
    (361, 38, "Verified", ""),
    (362, 38, "Not active", ""),
    (371, 25, "Lunch", ""),
)

REFERENCE: dict[str, tuple[Row, ...]] = {
    "recalltypes": (
        {"RecallTypeNum": 1, "Description": "Prophy", "DefaultInterval": "6m1d",
         "TimePattern": "XXXXXXXXXX", "Procedures": "D1110,D0120,D0274"},
        {"RecallTypeNum": 2, "Description": "Perio", "DefaultInterval": "3m1d",
         "TimePattern": "XXXXXXXXXXXX", "Procedures": "D4910,D0120"},
        {"RecallTypeNum": 3, "Description": "Pano", "DefaultInterval": "5y",
         "TimePattern": "XX", "Procedures": "D0330"},
    ),
    "appointmenttypes": (
        {"AppointmentTypeNum": 1, "AppointmentTypeName": "Hygiene", "Pattern": "XXXXXXXXXXXX",
         "CodeStr": "D1110,D0120"},
        {"AppointmentTypeNum": 2, "AppointmentTypeName": "Filling", "Pattern": "/XXXXXXXX/",
         "CodeStr": "D2392"},
        {"AppointmentTypeNum": 3, "AppointmentTypeName": "Crown prep",
         "Pattern": "/XXXXXXXXXXXXXXXX/", "CodeStr": "D2740"},
    ),
    "carriers": (
        {"CarrierNum": 1, "CarrierName": "Example Dental Plan", "ElectID": "EX001"},
        {"CarrierNum": 2, "CarrierName": "Invented Mutual", "ElectID": "EX002"},
    ),
    "insplans": (
        {"PlanNum": 1, "CarrierNum": 1, "GroupName": "Example Works", "GroupNum": "G100",
         "PlanType": "p", "MonthRenew": 0},
        {"PlanNum": 2, "CarrierNum": 2, "GroupName": "Invented Mills", "GroupNum": "G200",
         "PlanType": "", "MonthRenew": 0},
    ),
    "covcats": (
        {"CovCatNum": 1, "Description": "Diagnostic", "DefaultPercent": 100, "CovOrder": 0,
         "EbenefitCat": "Diagnostic"},
        {"CovCatNum": 2, "Description": "Restorative", "DefaultPercent": 80, "CovOrder": 1,
         "EbenefitCat": "Restorative"},
        {"CovCatNum": 3, "Description": "Crowns", "DefaultPercent": 50, "CovOrder": 2,
         "EbenefitCat": "Crowns"},
        {"CovCatNum": 4, "Description": "Periodontics", "DefaultPercent": 80, "CovOrder": 3,
         "EbenefitCat": "Periodontics"},
    ),
    "laboratories": (
        {"LaboratoryNum": 1, "Description": "Sandbox Ceramics", "Phone": "(555)010-0001",
         "Email": "cases@lab.example"},
        {"LaboratoryNum": 2, "Description": "Specimen Milling", "Phone": "(555)010-0002",
         "Email": "cases@mill.example"},
    ),
    "labturnarounds": (
        {"LabTurnaroundNum": 1, "LaboratoryNum": 1, "Description": "Crown", "DaysPublished": 10,
         "DaysActual": 14},
        {"LabTurnaroundNum": 2, "LaboratoryNum": 2, "Description": "Crown", "DaysPublished": 5,
         "DaysActual": 8},
    ),
    "referrals": (
        {"ReferralNum": 1, "LName": "Rootwell", "FName": "Ada", "Title": "DMD", "Specialty": 341,
         "IsDoctor": "true", "IsPreferred": "true"},
        {"ReferralNum": 2, "LName": "Gumble", "FName": "Piet", "Title": "DDS", "Specialty": 342,
         "IsDoctor": "true"},
    ),
    "allergydefs": (
        {"AllergyDefNum": 1, "SnomedType": "AllergyToSubstance"},
        {"AllergyDefNum": 2, "SnomedType": "DrugAllergy"},
    ),
    "diseasedefs": (
        {"DiseaseDefNum": 1, "DiseaseName": "Diabetes type 2", "ICD10Code": "E11"},
        {"DiseaseDefNum": 2, "DiseaseName": "Hypertension", "ICD10Code": "I10"},
        {"DiseaseDefNum": 3, "DiseaseName": "Osteoporosis", "ICD10Code": "M81"},
    ),
    "medications": (
        {"MedicationNum": 1, "MedName": "Metformin", "GenericNum": 1, "genericName": "Metformin"},
        {"MedicationNum": 2, "MedName": "Lisinopril", "GenericNum": 2,
         "genericName": "Lisinopril"},
        {"MedicationNum": 3, "MedName": "Alendronate", "GenericNum": 3,
         "genericName": "Alendronate"},
    ),
    "patfielddefs": (
        {"PatFieldDefNum": 1, "FieldName": "AI imaging status", "FieldType": "Text"},
    ),
}  # fmt: skip
"""Rows by resource that every office has before its first patient."""

ALLERGIES = ((1, "Latex"), (2, "Penicillin"))
"""Allergy definition and the text that the API shows for it."""

BENEFITS: tuple[Row, ...] = (
    {"CovCatNum": 1, "BenefitType": "CoInsurance", "Percent": 100, "MonetaryAmt": -1},
    {"CovCatNum": 2, "BenefitType": "CoInsurance", "Percent": 80, "MonetaryAmt": -1},
    {"CovCatNum": 3, "BenefitType": "CoInsurance", "Percent": 50, "MonetaryAmt": -1},
    {"CovCatNum": 4, "BenefitType": "CoInsurance", "Percent": 80, "MonetaryAmt": -1},
    {"BenefitType": "Limitations", "Percent": -1, "MonetaryAmt": 1500},
    {"BenefitType": "Deductible", "Percent": -1, "MonetaryAmt": 50},
)
"""What each plan pays: coinsurance by category, the yearly maximum and the deductible."""
