"""The running program of Bitewing: DICOM edge, analysis, review page, and their composition."""

__version__ = "0.2.0"
