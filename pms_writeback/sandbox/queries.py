"""ShortQuery: one reading SQL statement over the practice, at most 100 rows a page."""

from __future__ import annotations

from pms_writeback.sandbox.store import Chart
from pms_writeback.sandbox.wire import Answer, Call, Refusal

_MOST_ROWS = 100


def short_query(chart: Chart, call: Call) -> Answer:
    """Answer a query's rows; moments come in ISO form.

    Only ``patientlink`` bears the vendor's table name here: the other tables are named as the
    resources are.
    """
    sql = call.text("SqlCommand").strip()
    if not sql.lower().startswith("select"):  # "Read-only is enforced (401 otherwise)"
        raise Refusal(401, "Only SELECT queries are allowed.")
    try:
        rows = chart.query(sql, _MOST_ROWS, call.offset)
    except ValueError as error:
        raise Refusal(400, f"Query failed: {error}") from None
    return Answer(200, [{name: _shown(name, value) for name, value in row.items()} for row in rows])


def _shown(name: str, value: object) -> str | int | float:
    if not isinstance(value, str | int | float):
        return ""  # bytes of a file, or nothing
    return str(value).replace(" ", "T", 1) if name.startswith("DateT") else value
