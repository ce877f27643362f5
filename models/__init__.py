"""Arrays in, findings out: view triage, teeth and findings on dental radiographs.

Nothing here knows DICOM, SQL or HTTP. ``torch`` is imported only when weights are loaded.
"""
