"""``bitewing rollout …`` and ``bitewing pilot``: what is let in, why, and on what ground."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.command_options import ConfigFile, DataDir, open_db, read_settings
from node.errors import Forbidden, InvalidInput, NotFound

if TYPE_CHECKING:
    import sqlalchemy as sa

    from node.config import Config
    from node.db.session import Actor
    from node.domain.rights import Right
    from node.domain.rollout import Place, RollMode, Subject
    from node.rollout.reports import Report

rollout_cli = typer.Typer(
    no_args_is_help=True,
    help="What is silent, suggested or automatic here: see it, explain it, change it.",
)

_User = Annotated[str, typer.Option("--user", help="The account that decides this.")]
_Password = Annotated[
    str, typer.Option("--password", prompt=True, hide_input=True, help="Its password.")
]
_Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
_Subject = Annotated[str, typer.Argument(help="finding:KIND, tag:TAG, workflow:NAME; * for all.")]


@rollout_cli.command("status")
def status(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """List the standing rules and who acknowledged which models."""
    from node.db.session import read
    from node.rollout import acknowledgements, reports, rules

    settings = read_settings(config, data_dir)
    location_id = settings.node.location_id
    with read(open_db(settings)) as conn:
        standing = rules.read_rules(conn, location_id)
        given = acknowledgements.standing(conn, location_id)
        kept = reports.read_reports(conn, location_id, 3)
    typer.echo(f"limit of the configuration: {settings.node.mode.value}")
    for rule in standing:
        typer.echo(f"{rule.id[:8]}  {rule.words}" + (f"  – {rule.reason}" if rule.reason else ""))
    if not standing:
        typer.echo("no rule: everything is silent")
    if given is None:
        typer.echo("nobody has acknowledged the models that are installed: no finding is shown")
    else:
        day = given.given_at.date().isoformat()
        typer.echo(f"acknowledged by {given.name} on {day}: {', '.join(sorted(given.models))}")
    for each in kept:
        typer.echo(
            f"report {each.id}: {each.report.source}, {each.report.studies} studies, "
            f"{each.made_at.date().isoformat()}"
        )


@rollout_cli.command("explain")
def explain(
    study: Annotated[str, typer.Argument(help="Study Instance UID, accession number or id.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Say for each kind of finding and view of a study why it is shown or hidden."""
    from node.db.session import read
    from node.rollout.explaining import explain_study

    settings = read_settings(config, data_dir)
    with read(open_db(settings)) as conn:
        for line in explain_study(conn, settings, study):
            where = f" on {line.view}" if line.view else ""
            typer.echo(f"{line.subject}{where}: {line.words}")


@rollout_cli.command("report")
def report(
    out: Annotated[Path | None, typer.Option("--out", help="Folder for HTML, PDF, JSON.")] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Compare what was silent at each signature with what the dentist marked, and keep it."""
    from node.analysis.silent_agreement import silent_report

    settings = read_settings(config, data_dir)
    db = open_db(settings)
    _keep(db, settings, silent_report(db, settings.node.location_id), out)


@rollout_cli.command("acknowledge")
def acknowledge(
    user: _User,
    password: _Password,
    report_id: Annotated[str, typer.Option("--report", help="Id of the report; the last.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="The text was read; do not ask.")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Show what the models are, and record that the clinical lead acknowledged it."""
    from node.analysis import installed
    from node.db.session import Actor, begin, read
    from node.domain.rights import Right
    from node.rollout import acknowledgements, reports

    settings = read_settings(config, data_dir)
    db, location_id = open_db(settings), settings.node.location_id
    person = account_with(db, settings, user, password, Right.ROLLOUT_LEAD)
    installed.record(db, Actor("cli", location_id), settings.analysis)
    with read(db) as conn:
        cards = acknowledgements.installed(conn, location_id)
        kept = [
            each
            for each in reports.read_reports(conn, location_id, 100)
            if not report_id or each.id == report_id
        ]
    if not kept:
        raise NotFound("there is no such report; make one with: bitewing rollout report")
    text = acknowledgements.compose_text(cards, kept[0].report)
    typer.echo(text)
    if not yes:
        typer.confirm("\nDo you acknowledge this as the clinical lead?", abort=True)
    with begin(db, person, "rollout.acknowledged") as tx:
        acknowledgements.give(tx, person.name, kept[0].id, cards, text)
    typer.echo(f"acknowledged: {', '.join(map(str, cards))}")


@rollout_cli.command("withdraw")
def withdraw(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Take every acknowledgement back: from now on no finding is shown."""
    from node.db.session import Actor, begin
    from node.rollout import acknowledgements

    settings = read_settings(config, data_dir)
    actor = Actor("cli", settings.node.location_id)
    with begin(open_db(settings), actor, "rollout.withdrawn") as tx:
        done = acknowledgements.withdraw(tx)
    typer.echo("withdrawn: no finding is shown now" if done else "nothing was acknowledged")


@rollout_cli.command("set")
def set_mode(
    subject: _Subject,
    mode: Annotated[str, typer.Argument(help="silent, assist or auto.")],
    user: _User,
    password: _Password,
    operatory: Annotated[str, typer.Option(help="Only in this operatory (PMS key).")] = "",
    provider: Annotated[str, typer.Option(help="Only for this provider (PMS key).")] = "",
    view: Annotated[str, typer.Option(help="Only on bitewing, periapical, panoramic …")] = "",
    lab: Annotated[str, typer.Option(help="Only for this laboratory (workflows).")] = "",
    reason: _Reason = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Give a kind of finding, a tag or a workflow a mode, everywhere or at one place."""
    from node.db.session import begin
    from node.domain.rollout import Place
    from node.rollout import rules
    from node.rollout.authority import right_for

    settings = read_settings(config, data_dir)
    db, what, wanted = open_db(settings), _subject(subject), _mode(mode)
    person = account_with(db, settings, user, password, right_for(what, wanted))
    place: Place = Place(operatory, provider, view, lab)
    with begin(db, person, "rollout.set") as tx:
        rule = rules.set_mode(
            tx, what, wanted, place=place, reason=reason, min_studies=settings.rollout.min_studies
        )
    typer.echo(rule.words)


@rollout_cli.command("back")
def back(
    subject: _Subject = "*",
    to: Annotated[str, typer.Option("--to", help="silent or assist.")] = "silent",
    reason: _Reason = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """The one switch back: hold a kind, a workflow or everything at silent or assist, at once."""
    from node.db.session import Actor, begin
    from node.rollout import rules

    settings = read_settings(config, data_dir)
    actor = Actor("cli", settings.node.location_id)
    with begin(open_db(settings), actor, "rollout.back") as tx:
        rule = rules.switch_back(tx, _subject(subject), _mode(to), reason)
    typer.echo(rule.words)


@rollout_cli.command("lift")
def lift(
    subject: _Subject,
    user: _User,
    password: _Password,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Take a switch back away, so that the rules hold again."""
    from node.db.session import begin
    from node.domain.rollout import RollMode
    from node.rollout import rules
    from node.rollout.authority import right_for

    settings = read_settings(config, data_dir)
    db, what = open_db(settings), _subject(subject)
    person = account_with(db, settings, user, password, right_for(what, RollMode.ASSIST))
    with begin(db, person, "rollout.lifted") as tx:
        done = rules.lift(tx, what)
    typer.echo(f"{subject}: the rules hold again" if done else f"{subject} was not held back")


@rollout_cli.command("calibration")
def calibration(
    action: Annotated[str, typer.Argument(help="list, propose, approve, refuse or end.")] = "list",
    version: Annotated[int, typer.Argument(help="Which, to approve or refuse.")] = 0,
    user: Annotated[str, typer.Option("--user", help="The account that decides.")] = "",
    password: Annotated[str, typer.Option("--password", help="Asked for if left out.")] = "",
    reason: _Reason = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """List calibrations made of signed decisions, propose one, decide it, or roll back."""
    from node.db.session import Actor, begin, read
    from node.domain.rights import Right
    from node.rollout import calibrations

    settings = read_settings(config, data_dir)
    db, location_id = open_db(settings), settings.node.location_id
    if action == "propose":
        from node.analysis.recalibrating import propose_content

        content = propose_content(db, location_id)
        with begin(db, Actor("cli", location_id), "calibration.proposed") as tx:
            calibrations.propose(tx, content)
    elif action in ("approve", "refuse", "end"):
        if not user or len(reason) < 3:
            raise InvalidInput(f"to {action} a calibration give --user and --reason")
        secret = password or typer.prompt("Password", hide_input=True)
        person = account_with(db, settings, user, secret, Right.ROLLOUT_LEAD)
        with begin(db, person, f"calibration.{action}") as tx:
            if action == "end":
                calibrations.end(tx, reason)
            else:
                decide = calibrations.approve if action == "approve" else calibrations.refuse
                decide(tx, version, reason)
    elif action != "list":
        raise InvalidInput("calibration takes list, propose, approve, refuse or end")
    with read(db) as conn:
        for each in calibrations.versions(conn, location_id):
            why = f" – {each.reason}" if each.reason else ""
            typer.echo(f"{each.version}: {each.state.value}{why}")
            for one in each.content.kinds:
                typer.echo(
                    f"  {one.model}, {one.kind.value}: {one.kept} of {one.count} kept, of "
                    f"{one.patients} patients; error {one.before.error:.3f} → {one.after.error:.3f}"
                    f" ({one.after.error_low:.3f}–{one.after.error_high:.3f}); suggested from "
                    f"{one.review:.2f}, strong from {one.high_specificity:.2f}"
                )
            for words in each.content.left:
                typer.echo(f"  left as it is: {words}")


def pilot(
    folder: Annotated[
        Path | None, typer.Argument(help="DICOM files; left out: what the node holds.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for HTML, PDF, JSON.")] = Path("pilot"),
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Read historical studies in silence and compare with what the practice charted."""
    from collections import Counter

    from rich.progress import Progress

    from node.analysis.inference import InferenceProcess
    from node.analysis.pilot import Skipped, folder_studies, held_studies, pilot_report

    settings = read_settings(config, data_dir)
    db, location_id = open_db(settings), settings.node.location_id
    skipped = Skipped(Counter())
    if folder is None:
        found = pilot_report(db, location_id, held_studies(db, location_id, skipped), skipped)
    else:
        if not folder.is_dir():
            raise InvalidInput(f"there is no folder {folder}")
        inference = InferenceProcess(settings.analysis, settings.node.data_dir / "runtime")
        try:
            with Progress() as bar:
                line = bar.add_task("reading", total=None)
                studies = folder_studies(
                    folder, db, settings, inference, skipped,
                    lambda done, total: bar.update(line, completed=done, total=total),
                )  # fmt: skip
                found = pilot_report(db, location_id, studies, skipped)
        finally:
            inference.close()
    _keep(db, settings, found, out)


def _keep(db: sa.Engine, settings: Config, found: Report, out: Path | None) -> None:
    from node.analysis.agreement_paper import write_report
    from node.db.session import Actor, begin
    from node.rollout import reports

    with begin(db, Actor("cli", settings.node.location_id), "rollout.reported") as tx:
        report_id = reports.keep(tx, found)
    typer.echo(
        f"report {report_id}: {found.studies} studies, {found.images} images, "
        f"{found.patients} patients"
    )
    for row in found.rows:
        few = "  too few to say" if row.is_few else ""
        typer.echo(
            f"  {row.view or 'all':<11} {row.kind:<24} {row.level:<8} sensitivity "
            f"{row.sensitivity.words}, precision {row.precision.words}{few}"
        )
    for note in found.notes:
        typer.echo(f"  {note}")
    if out is not None:
        at = datetime.now(settings.zone)
        for path in write_report(found, out, settings.node.practice_name, at):
            typer.echo(str(path))


def account_with(
    db: sa.Engine, settings: Config, username: str, password: str, right: Right
) -> Actor:
    """Check who decides; raises WrongCredentials or Forbidden."""
    from node.domain.rights import WORDS
    from node.web.accounts import Accounts

    minute = timedelta(minutes=1)
    accounts = Accounts(db, settings.node.location_id, minute, minute)
    _, session = accounts.sign_in(username, password)
    try:
        if not session.may(right):
            raise Forbidden(f"{username} needs the right: {WORDS[right]}")
        return session.actor
    finally:
        accounts.sign_out(session)


def _subject(text: str) -> Subject:
    from node.domain.rollout import Subject

    return Subject.parse(text)


def _mode(text: str) -> RollMode:
    from node.domain.rollout import RollMode

    try:
        return RollMode(text)
    except ValueError:
        raise InvalidInput("a mode is silent, assist or auto") from None
