"""What to do about a payer's answer: from its reason and remark codes to suggested actions.

The table is ``denials.toml`` beside this file, or the office's own (``[payers] denials``). A code
that it does not know goes to a person; nothing is appealed, resent or written off by itself.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import cast

from node.domain.rights import Role
from node.errors import ConfigError
from orchestration.payers.remittance import DENIED, ClaimResult

SHIPPED = Path(__file__).with_name("denials.toml")


class Action(StrEnum):
    """What a person may do next."""

    PATIENT_SHARE = "patient_share"
    CONTRACT = "contract"
    ESTIMATE = "estimate"
    FIX = "fix"
    ATTACH = "attach"
    APPEAL = "appeal"
    ELIGIBILITY = "eligibility"
    COORDINATE = "coordinate"
    BENEFIT = "benefit"
    DOWNGRADE = "downgrade"
    BUNDLED = "bundled"
    AUTHORIZE = "authorize"
    LATE = "late"
    DUPLICATE = "duplicate"
    PERSON = "person"


_WORDS: dict[Action, str] = {
    Action.PATIENT_SHARE: "part of the patient's share; nothing to do",
    Action.CONTRACT: "fee schedule or contract; check the estimate",
    Action.ESTIMATE: "the payer's estimate; nothing to do",
    Action.FIX: "correct what is named and send again",
    Action.ATTACH: "attach what is named and send again",
    Action.APPEAL: "consider an appeal with narrative and images",
    Action.ELIGIBILITY: "check the patient's coverage",
    Action.COORDINATE: "send to the other payer first",
    Action.BENEFIT: "a limit of the plan; tell the patient their share",
    Action.DOWNGRADE: "a cheaper treatment was answered for; discuss with the patient or appeal",
    Action.BUNDLED: "counted as part of another service; check the codes",
    Action.AUTHORIZE: "obtain the authorisation first",
    Action.LATE: "filed too late; check the proof of first filing",
    Action.DUPLICATE: "the payer has it already; find the first answer",
    Action.PERSON: "read the payer's answer",
}
#: Actions that need nobody when the line is approved.
_QUIET = frozenset({Action.PATIENT_SHARE, Action.CONTRACT, Action.ESTIMATE})


@dataclass(frozen=True, slots=True)
class Route:
    """What one code means to the office; ``evidence`` names what the payer misses."""

    label: str
    action: Action
    who: Role
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Routes of reason and remark codes, and the day they were last edited."""

    updated: date
    reasons: Mapping[str, Route]
    remarks: Mapping[str, Route]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One thing to do, with the codes it rests on."""

    action: Action
    who: Role
    codes: tuple[str, ...]
    labels: tuple[str, ...]
    evidence: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Say it in one sentence for a task."""
        return f"{', '.join(self.labels)} ({', '.join(self.codes)}): {_WORDS[self.action]}"


class Result(StrEnum):
    """What an answer amounts to for the office."""

    APPROVED = "approved"
    PARTLY = "partly"
    DOWNGRADED = "downgraded"
    DENIED = "denied"
    MORE_INFORMATION = "more_information"


def load_routes(path: Path | None = None) -> RouteTable:
    """Read a table, the shipped one without `path`; raises ConfigError naming what is wrong."""
    file = path or SHIPPED
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the denial routes {file} ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    if raw.get("version") != 1 or not isinstance(raw.get("updated"), date):
        raise ConfigError(f"{file}: denial routes have version = 1 and the day they were updated")
    return RouteTable(raw["updated"], _routes(file, raw, "carc"), _routes(file, raw, "rarc"))


def result_of(claim: ClaimResult, table: RouteTable) -> Result:
    """Judge an answer as a whole; a claim that asks for documents is neither paid nor denied."""
    routes = [table.reasons.get(code) for code in claim.reasons]
    routes += [table.remarks.get(code) for code in claim.all_remarks]
    actions = {route.action for route in routes if route}
    if claim.expected <= 0:
        wants_more = bool(actions & {Action.ATTACH, Action.FIX})
        return Result.MORE_INFORMATION if wants_more else Result.DENIED
    if any(line.is_downgraded for line in claim.lines):
        return Result.DOWNGRADED
    is_partial = claim.status == DENIED or any(line.expected <= 0 for line in claim.lines)
    return Result.PARTLY if is_partial else Result.APPROVED


def suggest(claim: ClaimResult, table: RouteTable) -> tuple[Suggestion, ...]:
    """Say what may be done about an answer; the quiet parts of an approval are left out."""
    is_approved = result_of(claim, table) is Result.APPROVED
    found: dict[tuple[Action, Role], list[tuple[str, Route]]] = {}
    unknown = Route("a code that our table does not know", Action.PERSON, Role.OFFICE_MANAGER)
    downgraded = Route("answered for another procedure", Action.DOWNGRADE, Role.DENTIST)
    codes = [(code, table.reasons.get(code, unknown)) for code in claim.reasons]
    codes += [(code, table.remarks.get(code, unknown)) for code in claim.all_remarks]
    codes += [
        (f"{line.submitted_code} -> {line.cdt_code}", downgraded)
        for line in claim.lines
        if line.submitted_code not in ("", line.cdt_code)
    ]
    for code, route in codes:
        is_note = is_approved and route.action is Action.PERSON and route is not unknown
        if route.action in _QUIET or is_note:
            continue
        found.setdefault((route.action, route.who), []).append((code, route))
    return tuple(
        Suggestion(
            action,
            who,
            tuple(code for code, _ in each),
            tuple(dict.fromkeys(route.label for _, route in each)),
            tuple(dict.fromkeys(name for _, route in each for name in route.evidence)),
        )
        for (action, who), each in found.items()
    )


def _routes(file: Path, raw: Mapping[str, object], name: str) -> dict[str, Route]:
    rows = raw.get(name, {})
    if not isinstance(rows, Mapping):
        raise ConfigError(f"{file}: [{name}] is a table of codes")
    found = {}
    for code, row in rows.items():
        try:
            values = cast("Mapping[str, object]", row)
            evidence = tuple(str(each) for each in cast("list[str]", values.get("evidence", [])))
            found[str(code)] = Route(
                str(values["label"]),
                Action(str(values["action"])),
                Role(str(values["who"])),
                evidence,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{file}, [{name}] {code}: {error}") from None
    return found
