"""The conformance statement says what is really negotiated."""

from pathlib import Path

import pytest
from pynetdicom import AE

from node.config import read_config
from node.dicom.access import Service
from node.dicom.implementation import IMPLEMENTATION_CLASS_UID
from node.dicom.instances import FolderStore
from node.dicom.scp import DicomListener, contexts_of, storage_classes, transfer_syntaxes
from node.dicom.statement import filled, tables

DOCUMENT = Path(__file__).parents[3] / "docs" / "conformance.md"


def test_the_document_holds_the_generated_tables():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert filled(text) == text, "run: python -m node.dicom.statement docs/conformance.md"


@pytest.mark.parametrize("name", list(tables()))
def test_no_table_is_empty(name):
    text = DOCUMENT.read_text(encoding="utf-8")
    assert len(tables()[name].splitlines()) > 2
    assert tables()[name] in text


def test_it_names_our_implementation():
    assert f"`{IMPLEMENTATION_CLASS_UID}`" in DOCUMENT.read_text(encoding="utf-8")


def test_every_class_and_syntax_of_the_listener_is_in_it():
    text = DOCUMENT.read_text(encoding="utf-8")
    for uid in (*storage_classes(), *transfer_syntaxes()):
        assert f"`{uid}`" in text


def test_a_peer_negotiates_exactly_the_services_of_the_table(tmp_path, sqlite_database, enqueuer):
    everything = {"ae_title": "*", "services": [service.value for service in Service]}
    config = read_config(
        None, {}, {"dicom": {"host": "127.0.0.1", "port": 0, "clients": [everything]}}
    )
    listener = DicomListener(config, sqlite_database, FolderStore(tmp_path), enqueuer)
    listener.start()
    try:
        listed = {line.split("`")[1] for line in tables()["services"].splitlines() if "`" in line}
        others = {
            "1.2.840.10008.5.1.4.1.2.1.1",
            "1.2.840.10008.5.1.4.33",
            "1.2.840.10008.5.1.4.34.6.1",
        }
        entity = AE("PEER")
        for uid in listed | others:
            entity.add_requested_context(uid)
        assoc = entity.associate("127.0.0.1", listener.port)
        assert {context.abstract_syntax for context in assoc.accepted_contexts} == listed
        assoc.release()
    finally:
        listener.stop()
    assert len(contexts_of(Service)) > len(listed)
