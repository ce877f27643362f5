"""Stored objects in a bucket (S3): every one is on a disk first, then also there.

What is received lies on this node's disk before its sender is told so, with a bucket or without.
The :mod:`mover <node.objects.mover>` then puts the sealed file into the bucket and writes down that
it is there; from then on the local file is a cache, which may go. Any node of the location finds
the object by its row and fetches it. ``docs/decisions/0030-objects-in-a-bucket.md`` says why.
"""
