"""The DICOM edge: listener, store, worklist, identity, pixels, results."""
