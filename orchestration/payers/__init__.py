"""Payers: X12 in and out, rule packs, evidence, narratives, a clearinghouse and its sandbox."""
