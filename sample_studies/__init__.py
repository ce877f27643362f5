"""Phantoms and a few real-licence films as DICOM of invented patients, truth beside them."""

from sample_studies.catalog import SampleImage, SamplePatient, SampleStudy, catalog

__all__ = ["SampleImage", "SamplePatient", "SampleStudy", "catalog"]
