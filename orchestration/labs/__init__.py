"""Dental laboratories: prescriptions, their rules, packages, dispatch, states, invoices, figures.

Everything but the adapters is pure: values in, values out. The workflow that joins them is
`orchestration.workflows.lab_case`.
"""
