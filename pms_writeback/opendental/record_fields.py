"""Which Open Dental resource each kind of record comes from, and its fields under neutral names.

A long flat page. Paths, keys, delta parameters and first versions are those of the API manual
(up to 25.3); `Source.delta` is the filter for changes and ``stamp`` the row's own change stamp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pms_writeback.opendental.versions import Version
from pms_writeback.records import RecordKind


@dataclass(frozen=True, slots=True)
class Source:
    """One resource: where its rows are, what identifies them, and their fields.

    ``fields`` maps a neutral name to ``type:Field``, the type one of text, key, number, money,
    flag, day, moment, time. ``owner`` is the patient's key in a row and the filter for one
    patient's rows; ``needs_patient`` says that the list cannot be read without it. ``parent`` is
    the kind whose keys filter this list where it knows no patient. ``keeps_rest`` false keeps
    nothing raw.
    """

    path: str
    key: str
    fields: Mapping[str, str]
    since: Version
    owner: str = ""
    clinic: str = ""
    stamp: str = ""
    delta: str = ""
    delta_since: Version = (0,)
    needs_patient: bool = False
    parent: tuple[RecordKind, str] | None = None
    ignored: frozenset[str] = field(default_factory=frozenset)
    keeps_rest: bool = True


_K = RecordKind

SOURCES: dict[RecordKind, Source] = {
    _K.ALLERGY: Source(
        "/allergies", "AllergyNum",
        {"name": "text:defDescription", "reaction": "text:Reaction",
         "is_active": "flag:StatusIsActive", "reaction_date": "day:DateAdverseReaction"},
        (21, 1), needs_patient=True, owner="PatNum",
    ),
    _K.PROBLEM: Source(
        "/diseases", "DiseaseNum",
        {"name": "text:diseaseDefName", "status": "text:ProbStatus", "note": "text:PatNote",
         "start": "day:DateStart", "end": "day:DateStop"},
        (21, 3), owner="PatNum",
    ),
    _K.MEDICATION: Source(
        "/medicationpats", "MedicationPatNum",
        {"name": "text:medName", "note": "text:PatNote", "start": "day:DateStart",
         "end": "day:DateStop", "provider_key": "key:ProvNum"},
        (21, 3), owner="PatNum",
    ),
    _K.PROCEDURE: Source(
        "/procedurelogs", "ProcNum",
        {"cdt_code": "text:procCode", "status": "text:ProcStatus", "tooth": "text:ToothNum",
         "surfaces": "text:Surf", "tooth_range": "text:ToothRange", "day": "day:ProcDate",
         "fee": "money:ProcFee", "provider_key": "key:ProvNum", "appointment_key": "key:AptNum",
         "planned_on": "day:DateTP", "description": "text:descript",
         "claim_note": "text:ClaimNote", "original_prosthesis_on": "day:DateOriginalProsth"},
        (21, 1), clinic="ClinicNum", stamp="DateTStamp", delta="DateTStamp", owner="PatNum",
    ),
    _K.PROCEDURE_NOTE: Source(
        "/procnotes", "ProcNoteNum",
        {"procedure_key": "key:ProcNum", "text": "text:Note", "is_signed": "flag:isSigned",
         "user_key": "key:UserNum", "written_at": "moment:EntryDateTime"},
        (24, 2, 29), owner="PatNum",
    ),
    _K.TOOTH_STATE: Source(
        "/toothinitials", "ToothInitialNum",
        {"tooth": "text:ToothNum", "state": "text:InitialType"}, (24, 2, 3), owner="PatNum",
    ),
    _K.PERIO_EXAM: Source(
        "/perioexams", "PerioExamNum",
        {"day": "day:ExamDate", "provider_key": "key:ProvNum", "note": "text:Note"},
        (22, 4, 36), stamp="DateTMeasureEdit", owner="PatNum",
    ),
    _K.PERIO_MEASURE: Source(
        "/periomeasures", "PerioMeasureNum",
        {"exam_key": "key:PerioExamNum", "sequence": "text:SequenceType",
         "tooth": "number:IntTooth", "value": "number:ToothValue",
         "mesiobuccal": "number:MBvalue", "buccal": "number:Bvalue",
         "distobuccal": "number:DBvalue", "mesiolingual": "number:MLvalue",
         "lingual": "number:Lvalue", "distolingual": "number:DLvalue"},
        (22, 4, 32), stamp="SecDateTEdit", parent=(_K.PERIO_EXAM, "PerioExamNum"),
    ),
    _K.COMMLOG: Source(
        "/commlogs", "CommlogNum",
        {"text": "text:Note", "mode": "text:Mode_", "direction": "text:SentOrReceived",
         "type": "text:commType", "at": "moment:CommDateTime", "user_key": "key:UserNum"},
        (21, 1), stamp="DateTStamp", delta="DateTStamp", delta_since=(25, 1, 13), owner="PatNum",
    ),
    _K.DOCUMENT: Source(
        "/documents", "DocNum",
        {"description": "text:Description", "category": "text:docCategory",
         "image_type": "text:ImgType", "file_name": "text:FileName", "teeth": "text:ToothNumbers",
         "created_at": "moment:DateCreated", "provider_key": "key:ProvNum",
         "mount_key": "key:MountNum"},
        (21, 2), stamp="DateTStamp", needs_patient=True, owner="PatNum",
    ),
    _K.TASK: Source(
        "/tasks", "TaskNum",
        {"text": "text:Descript", "status": "text:TaskStatus", "list_key": "key:TaskListNum",
         "object_type": "text:ObjectType", "object_key": "key:KeyNum", "user_key": "key:UserNum",
         "created_at": "moment:DateTimeOriginal", "finished_at": "moment:DateTimeFinished"},
        # Its only filter by time goes by creation: a task that was closed later would be missed.
        (22, 3, 16),
    ),
    _K.TREATMENT_PLAN: Source(
        "/treatplans", "TreatPlanNum",
        {"day": "day:DateTP", "heading": "text:Heading", "note": "text:Note",
         "status": "text:TPStatus", "type": "text:TPType", "is_signed": "flag:isSigned"},
        (22, 4, 16), stamp="SecDateTEdit", delta="SecDateTEdit", owner="PatNum",
        ignored=frozenset({"SignatureText", "SignaturePracticeText"}),
    ),
    _K.TREATMENT_PLAN_PROCEDURE: Source(
        "/treatplanattaches", "TreatPlanAttachNum",
        {"plan_key": "key:TreatPlanNum", "procedure_key": "key:ProcNum",
         "priority": "text:priority"},
        (22, 4, 16), parent=(_K.TREATMENT_PLAN, "TreatPlanNum"),
    ),
    _K.TREATMENT_PLAN_ITEM: Source(
        "/proctps", "ProcTPNum",
        {"plan_key": "key:TreatPlanNum", "procedure_key": "key:ProcNumOrig",
         "tooth": "text:ToothNumTP", "surfaces": "text:Surf", "cdt_code": "text:ProcCode",
         "fee": "money:FeeAmt", "primary_insurance": "money:PriInsAmt",
         "secondary_insurance": "money:SecInsAmt", "patient_part": "money:PatAmt",
         "priority": "text:priority"},
        (22, 4, 17), owner="PatNum", clinic="ClinicNum", stamp="SecDateTEdit", needs_patient=True,
        parent=(_K.TREATMENT_PLAN, "TreatPlanNum"),
    ),
    _K.RECALL: Source(
        "/recalls", "RecallNum",
        {"due": "day:DateDue", "previous": "day:DatePrevious", "scheduled": "day:DateScheduled",
         "interval": "text:RecallInterval", "status": "text:recallStatus", "note": "text:Note",
         "type_key": "key:RecallTypeNum", "is_disabled": "flag:IsDisabled",
         "disabled_until": "day:DisableUntilDate", "priority": "text:Priority"},
        (22, 4, 40), stamp="DateTStamp", owner="PatNum",
    ),
    _K.REFERRAL: Source(
        "/refattaches", "RefAttachNum",
        {"contact_key": "key:ReferralNum", "contact": "text:referralName", "day": "day:RefDate",
         "type": "text:ReferralType", "status": "text:RefToStatus", "note": "text:Note",
         "procedure_key": "key:ProcNum", "provider_key": "key:ProvNum"},
        (22, 4, 27), stamp="DateTStamp", delta="DateTStamp", delta_since=(25, 2, 10),
        owner="PatNum",
    ),
    _K.LAB_CASE: Source(
        "/labcases", "LabCaseNum",
        {"laboratory_key": "key:LaboratoryNum", "appointment_key": "key:AptNum",
         "planned_appointment_key": "key:PlannedAptNum", "provider_key": "key:ProvNum",
         "due_at": "moment:DateTimeDue", "created_at": "moment:DateTimeCreated",
         "sent_at": "moment:DateTimeSent", "received_at": "moment:DateTimeRecd",
         "checked_at": "moment:DateTimeChecked", "instructions": "text:Instructions",
         "fee": "money:LabFee", "invoice": "text:InvoiceNum"},
        (24, 2, 28), stamp="DateTStamp", owner="PatNum",
    ),
    _K.COVERAGE: Source(
        "/patplans", "PatPlanNum",
        {"subscription_key": "key:InsSubNum", "ordinal": "number:Ordinal",
         "relationship": "text:Relationship", "patient_id": "text:PatID",
         "is_pending": "flag:IsPending"},
        (22, 4, 27), stamp="SecDateTEdit", owner="PatNum",
    ),
    _K.SUBSCRIPTION: Source(
        "/inssubs", "InsSubNum",
        {"plan_key": "key:PlanNum", "subscriber_key": "key:Subscriber",
         "member_id": "text:SubscriberID", "effective": "day:DateEffective", "end": "day:DateTerm",
         "notes": "text:BenefitNotes", "assigns_benefits": "flag:AssignBen",
         "releases_information": "flag:ReleaseInfo"},
        (22, 4, 28), owner="Subscriber", stamp="SecDateTEdit", delta="SecDateTEdit",
    ),
    _K.INSURANCE_PLAN: Source(
        "/insplans", "PlanNum",
        {"carrier_key": "key:CarrierNum", "group_name": "text:GroupName",
         "group_number": "text:GroupNum", "type": "text:PlanType", "note": "text:PlanNote",
         "renewal_month": "number:MonthRenew", "is_hidden": "flag:IsHidden"},
        (22, 3, 30), stamp="SecDateTEdit",
    ),
    _K.BENEFIT: Source(
        "/benefits", "BenefitNum",
        {"plan_key": "key:PlanNum", "coverage_key": "key:PatPlanNum",
         "category_key": "key:CovCatNum", "type": "text:BenefitType", "percent": "number:Percent",
         "amount": "money:MonetaryAmt", "period": "text:TimePeriod",
         "quantity_qualifier": "text:QuantityQualifier", "quantity": "number:Quantity",
         "cdt_code": "text:procCode", "level": "text:CoverageLevel"},
        (22, 3, 27), stamp="SecDateTEdit",
    ),
    _K.VERIFICATION: Source(
        "/insverifies", "InsVerifyNum",
        {"verified_on": "day:DateLastVerified", "type": "text:VerifyType", "target_key": "key:FKey",
         "note": "text:Note"},
        (23, 2, 23), stamp="SecDateTEdit", delta="SecDateTEdit",
    ),
    _K.CLAIM: Source(
        "/claims", "ClaimNum",
        {"type": "text:ClaimType", "status": "text:ClaimStatus", "service_on": "day:DateService",
         "sent_on": "day:DateSent", "received_on": "day:DateReceived", "fee": "money:ClaimFee",
         "estimate": "money:InsPayEst", "paid": "money:InsPayAmt", "note": "text:ClaimNote",
         "subscription_key": "key:InsSubNum", "plan_key": "key:PlanNum",
         "prior_authorization": "text:PriorAuthorizationNumber",
         "treating_provider_key": "key:ProvTreat"},
        (22, 2), stamp="SecDateTEdit", delta="SecDateTEdit", delta_since=(23, 3, 11),
        owner="PatNum",
    ),
    _K.CLAIM_LINE: Source(
        "/claimprocs", "ClaimProcNum",
        {"claim_key": "key:ClaimNum", "procedure_key": "key:ProcNum", "status": "text:Status",
         "cdt_code": "text:CodeSent", "billed": "money:FeeBilled", "estimate": "money:InsPayEst",
         "total_estimate": "money:InsEstTotal", "paid": "money:InsPayAmt",
         "deductible": "money:DedApplied", "write_off": "money:WriteOff",
         "remarks": "text:Remarks", "day": "day:ProcDate"},
        (22, 2, 33), clinic="ClinicNum", stamp="SecDateTEdit", owner="PatNum",
    ),
    _K.CLAIM_TRACKING: Source(
        "/claimtrackings", "ClaimTrackingNum",
        {"claim_key": "key:ClaimNum", "type": "text:TrackingType", "note": "text:Note",
         "at": "moment:DateTimeEntry", "definition_key": "key:TrackingDefNum"},
        (23, 2, 5), parent=(_K.CLAIM, "ClaimNum"),
    ),
    _K.PATIENT_FIELD: Source(
        "/patfields", "PatFieldNum", {"name": "text:FieldName", "value": "text:FieldValue"},
        (21, 1), stamp="SecDateTEdit", delta="SecDateTEdit", delta_since=(22, 4, 5), owner="PatNum",
    ),
    _K.ADDRESS: Source(
        "/patients/Simple", "PatNum",
        {"street": "text:Address", "street_2": "text:Address2", "city": "text:City",
         "state": "text:State", "postal_code": "text:Zip"},
        (21, 2), stamp="DateTStamp", delta="DateTStamp", owner="PatNum", keeps_rest=False,
    ),
    _K.SCHEDULE: Source(
        "/schedules", "ScheduleNum",
        {"day": "day:SchedDate", "start": "time:StartTime", "stop": "time:StopTime",
         "type": "text:SchedType", "provider_key": "key:ProvNum", "note": "text:Note",
         "operatory_keys": "text:operatories", "blockout": "text:blockoutType"},
        (22, 1), stamp="DateTStamp",
    ),
    _K.APPOINTMENT_TYPE: Source(
        "/appointmenttypes", "AppointmentTypeNum",
        {"name": "text:AppointmentTypeName", "pattern": "text:Pattern", "codes": "text:CodeStr",
         "is_hidden": "flag:IsHidden"},
        (22, 4, 10),
    ),
    _K.RECALL_TYPE: Source(
        "/recalltypes", "RecallTypeNum",
        {"name": "text:Description", "interval": "text:DefaultInterval",
         "codes": "text:Procedures", "pattern": "text:TimePattern"},
        (24, 1, 44),
    ),
    _K.REFERRAL_CONTACT: Source(
        "/referrals", "ReferralNum",
        {"family_name": "text:LName", "given_name": "text:FName", "specialty": "text:specialty",
         "telephone": "text:Telephone", "email": "text:EMail", "is_doctor": "flag:IsDoctor",
         "is_preferred": "flag:IsPreferred", "is_hidden": "flag:IsHidden",
         "business": "text:BusinessName"},
        (21, 4), stamp="DateTStamp", ignored=frozenset({"SSN"}),
    ),
    _K.LABORATORY: Source(
        "/laboratories", "LaboratoryNum",
        {"name": "text:Description", "phone": "text:Phone", "email": "text:Email",
         "is_hidden": "flag:IsHidden"},
        (24, 2, 33),
    ),
    _K.LAB_TURNAROUND: Source(
        "/labturnarounds", "LabTurnaroundNum",
        {"laboratory_key": "key:LaboratoryNum", "name": "text:Description",
         "days_published": "number:DaysPublished", "days_actual": "number:DaysActual"},
        (24, 2, 29),
    ),
    _K.CARRIER: Source(
        "/carriers", "CarrierNum",
        {"name": "text:CarrierName", "payer_id": "text:ElectID", "phone": "text:Phone",
         "is_hidden": "flag:IsHidden"},
        (22, 4, 16),
    ),
    _K.COVERAGE_CATEGORY: Source(
        "/covcats", "CovCatNum",
        {"name": "text:Description", "percent": "number:DefaultPercent",
         "category": "text:EbenefitCat", "is_hidden": "flag:IsHidden"},
        (23, 3, 8),
    ),
    _K.PROCEDURE_CODE: Source(
        "/procedurecodes", "CodeNum",
        {"cdt_code": "text:ProcCode", "description": "text:Descript",
         "abbreviation": "text:AbbrDesc", "area": "text:TreatArea",
         "is_radiology": "flag:IsRadiology", "is_hygiene": "flag:IsHygiene"},
        (22, 3, 22), stamp="DateTStamp", delta="DateTStamp", delta_since=(22, 4, 28),
    ),
    _K.DEFINITION: Source(
        "/definitions", "DefNum",
        {"category": "number:Category", "category_name": "text:category", "name": "text:ItemName",
         "value": "text:ItemValue", "is_hidden": "flag:isHidden"},
        (21, 1),
    ),
    _K.CLINIC: Source(
        "/clinics", "ClinicNum",
        {"name": "text:Description", "abbreviation": "text:Abbr", "is_hidden": "flag:IsHidden"},
        (21, 1),
    ),
    _K.USER: Source(
        "/userods", "UserNum",
        {"name": "text:UserName", "provider_key": "key:ProviderNum", "is_hidden": "flag:IsHidden"},
        (21, 3), ignored=frozenset({"Password"}),
    ),
}  # fmt: skip
