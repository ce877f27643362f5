"""Backups: one look at the database and every file beside it, checked, and brought back.

A backup folder holds many runs. Each is a folder named by its moment with the database as it was
(``database.sqlite`` or ``database.pgdump``) and ``manifest.json``, which is written last; the files
of all runs share ``pool/``, where each lies under the SHA-256 of its bytes, once. What the node
sealed stays sealed, and the master key is in no backup.
"""
