"""A practice-management system to develop against: the Open Dental API's wire format over SQLite.

It speaks the vendor's documented conventions (paths, string booleans, sentinel dates, page caps,
status codes, versions) with an invented practice, and breaks on command. It is not Open Dental.
"""
