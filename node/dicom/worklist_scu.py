"""Asking a Modality Worklist SCP, as an imaging program does (PS3.4 K)."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.sop_class import ModalityWorklistInformationFind

from node.dicom.peers import Peer, associate
from node.errors import Rejected


@dataclass(frozen=True, slots=True)
class ScheduledStep:
    """What an imaging program takes from a worklist item."""

    accession_number: str
    study_instance_uid: str
    modality: str
    scheduled_procedure_step_start_date: str
    description: str


def query_worklist(
    peer: Peer, *, patient_id: str = "", date: str = "", calling_ae: str = "BITEWING-SCU"
) -> list[ScheduledStep]:
    """Ask `peer` for the steps of one patient (all when empty) on `date` (YYYYMMDD or a range).

    Raises Retryable when the peer is away, Rejected when it refuses the query.
    """
    assoc = associate(peer, calling_ae, [build_context(ModalityWorklistInformationFind)])
    if not assoc.is_established:
        raise Rejected(f"{peer.ae_title} at {peer.host}:{peer.port} offers no worklist")
    try:
        steps = []
        for status, item in assoc.send_c_find(
            _query(patient_id, date), ModalityWorklistInformationFind
        ):
            code = status.Status if "Status" in status else 0xC000
            if code in (0xFF00, 0xFF01) and item is not None:
                steps.append(_read(item))
            elif code != 0x0000:
                raise Rejected(f"the worklist query ended with status {code:04X}")
        return steps
    finally:
        assoc.release()


def _query(patient_id: str, date: str) -> Dataset:
    step = Dataset()
    step.Modality = ""
    step.ScheduledProcedureStepStartDate = date
    step.ScheduledProcedureStepStartTime = ""
    step.ScheduledProcedureStepDescription = ""
    step.ScheduledStationAETitle = ""
    query = Dataset()
    query.SpecificCharacterSet = "ISO_IR 192"
    query.PatientID = patient_id
    query.PatientName = ""
    query.AccessionNumber = ""
    query.StudyInstanceUID = ""
    query.ScheduledProcedureStepSequence = [step]
    return query


def _read(item: Dataset) -> ScheduledStep:
    step = item.ScheduledProcedureStepSequence[0]
    return ScheduledStep(
        accession_number=str(item.get("AccessionNumber", "")),
        study_instance_uid=str(item.get("StudyInstanceUID", "")),
        modality=str(step.get("Modality", "")),
        scheduled_procedure_step_start_date=str(step.get("ScheduledProcedureStepStartDate", "")),
        description=str(step.get("ScheduledProcedureStepDescription", "")),
    )
