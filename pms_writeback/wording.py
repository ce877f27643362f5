"""What a practice system says when it refuses, without what could name somebody.

Its refusals are sentences for people and may quote a name, a date or a number of the chart. They
are shown in receipts and kept, so only words of a fixed list pass: plain words of the vendors' own
refusals and the names of their fields. Everything else becomes an ellipsis.
"""

from __future__ import annotations

import re

_PLAIN_TEXT = """
    a able again all allowed already an and any api appointment appointments are array as at
    attached authorization available back bad base64 be because been before belong belongs body
    boolean broken but by bytes call called cannot category change changed character characters
    claim claims clinic closed code codes column combination commlog completed condition connected
    connection connectivity contact content-type correct could created credentials database date
    datetime dates deadlock definition deleted denied developer directory disabled disk do document
    documents does down duplicate econnector edit either empty enabled enough error errors exactly
    exceed exceeded exceeds exist existing exists expected expired extension fail failed field
    fields file files following for form format found frozen from full future gateway given greater
    handshake has have header headers hidden host hour id ignored implemented in inactive incorrect
    input insert inspectors insurance integer internal invalid is it its json key keys lab
    laboratory lacks large later least length less limit line list local locked lock login longer
    lookup many match maximum may method minimum minutes missing more most mount must name need
    needed network new no none not note notes null number numeric object of office old on one only
    open operation operatory or other out over overlap parameter parameters parse password past
    patient patients pattern permission permissions permitted plan plans please practice preference
    procedure procedurecode procedures procnote property provider providers query range reached read
    readonly received recall recently record records referral refused remote request requested
    require required requires resource responding response restart restarting retired retry row rows
    same schedule scheduled second seconds secondary security see send sent server service set sftp
    should signed size some specified start state status stop string subscriber subscription such
    supplied support supported surface syntax table task tasklist tasks than that the their then
    there these this time timed timeout title to too tooth toothinitial transaction treatment try
    type unable unavailable unexpected unique unknown update updated upgrade upload use used user
    userod using valid value values version visit wait was when while window with without write
    wrong yyyy-mm-dd
"""
_FIELDS_TEXT = """
    AptDateTime AptNum AptStatus ClaimNote ClaimNum ClaimStatus ClaimType ClinicNum CodeNum
    CommDateTime CommType DateCreated DateDue DateTimeChecked DateTimeDue DateTimeRecd DateTimeSent
    DateTStamp Descript Description DocCategory DocNum FieldName FieldValue ImgType InitialType
    InsSubNum Instructions KeyNum LabCaseNum LaboratoryNum Limit Mode_ Note ObjectType Offset Op
    PatNum PatRelat Pattern PatternSecondary ProcDate ProcNum ProcNums ProcStatus ProvNum rawBase64
    RecallInterval RecallNum RecallTypeNum RefDate ReferralNum ReferralType SentOrReceived
    SftpAddress SftpPassword SftpUsername Surf TaskListNum TaskNum TaskStatus ToothNum ToothNumbers
    ToothRange TrackingDefNum UserNum defNum confirmVal doAppendNote isSigned procCode procNums
    sendToUnscheduledList eConnector ODFHIR HTTP SQL TP TPi Cn EC EO
    POST GET PUT DELETE API Open Dental
    ReadAll AllOthers Comm Documents Setup Appointments Patients ProcedureLogs Insurance
    InsuranceSimple Queries
"""
_VERSION = re.compile(r"\d{2}\.\d\.\d{1,3}(\.\d{1,3})?")


#: Records that vendors write with a capital in the middle of a sentence.
_NOUNS_TEXT = """
    Allowed Appointment Claim Commlog Definition Document Documents Key Patient Procedure
    ProcedureCode Provider Recall Referral Required Status Task ToothInitial Userod
"""
_PLAIN = frozenset(_PLAIN_TEXT.split())
_EXACT = frozenset(f"{_FIELDS_TEXT} {_NOUNS_TEXT}".split())


def without_names(said: str) -> str:
    """Keep the words that a vendor uses at every office; an ellipsis stands for the rest."""
    kept: list[str] = []
    begins = True
    for word in said.split():
        bare = word.strip("'\"()[]{}.,:;!?")
        if _is_known(bare, begins):
            kept.append(word)
        elif not kept or kept[-1] != "…":
            kept.append("…")
        begins = word.endswith((".", "!", "?"))
    return " ".join(kept)


def _is_known(word: str, begins: bool) -> bool:
    if not word or word in _EXACT or _VERSION.fullmatch(word):
        return True
    # A capital elsewhere may be a name, even when the word is a common one.
    return (word[:1].lower() + word[1:] if begins else word) in _PLAIN
