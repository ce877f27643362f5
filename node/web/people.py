"""Accounts of the people and programs of one location, for administrators.

What is changed here counts from the next request on: rights are read with every one of them, and
the sessions of whoever is disabled or gets a new password end.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends

from node.db.session import Actor, Tx, begin, insert_once, read
from node.db.tables import external_login, provider, user_account, web_session
from node.domain.rights import RIGHTS, Right, Role
from node.errors import Conflict, InvalidInput, NotFound
from node.web.accounts import Session, create_user, end_sessions
from node.web.auth import Web, WebDep, opaque_id, require
from node.web.hashing import hashed
from node.web.own_account import sessions_of
from node.web.people_shapes import (
    NewPerson,
    NewToken,
    OpenSessions,
    People,
    Person,
    PersonChange,
    PersonMade,
    Provider,
    Token,
    TokenMade,
    TokensShown,
)
from node.web.tokens import PERSONAL

Admin = Annotated[Session, Depends(require(Right.USERS_CHANGE))]
#: Letters that nobody confuses when a password is read out.
_PLAIN = "abcdefghjkmnpqrstuvwxyz23456789"

router = APIRouter(prefix="/api")


@router.get("/people")
def get_people(web: WebDep, session: Admin) -> People:
    """Show every account of this location."""
    return People(
        people=_people(web),
        roles=tuple(Role),
        strict_roles=web.config.web.second_factor_roles,
        issuer=web.config.oidc.issuer,
        providers=_providers(web),
    )


@router.post("/people", status_code=201)
def post_person(body: NewPerson, web: WebDep, session: Admin) -> PersonMade:
    """Make an account; its first password must be changed by its owner."""
    is_program = body.role is Role.SERVICE
    known = {each.key for each in _providers(web)}
    if body.provider_key and known and body.provider_key not in known:
        raise InvalidInput("The practice system knows no such provider.")
    password = "" if is_program else body.password.get_secret_value() or _made_up()
    user_id = create_user(
        web.db,
        session.actor,
        username=body.username,
        display_name=body.display_name,
        role=body.role.value,
        password=password,
        must_change=not is_program,
    )
    if body.pms_user_key or body.provider_key:
        keys = {"pms_user_key": body.pms_user_key, "provider_key": body.provider_key}
        change_person(web.db, session.actor, user_id, PersonChange(**keys))
    return PersonMade(person=_person(web, user_id), password=password)


@router.post("/people/{user_id}")
def post_change(user_id: str, body: PersonChange, web: WebDep, session: Admin) -> Person:
    """Change an account."""
    issuer = web.config.oidc.issuer
    change_person(web.db, session.actor, opaque_id(user_id), body, issuer)
    return _person(web, user_id)


@router.post("/people/{user_id}/reset")
def post_reset(user_id: str, web: WebDep, session: Admin) -> PersonMade:
    """Give a person a new first password; PIN and sessions end, a rest after wrong tries too."""
    password = reset_password(web.db, session.actor, opaque_id(user_id))
    return PersonMade(person=_person(web, user_id), password=password)


@router.post("/people/{user_id}/second-factor/remove")
def post_remove_second_factor(user_id: str, web: WebDep, session: Admin) -> Person:
    """Take a person's second factor away, when the phone and the codes are lost."""
    _person(web, opaque_id(user_id))
    web.codes.remove(session.actor, user_id)
    return _person(web, user_id)


@router.get("/people/{user_id}/sessions")
def get_sessions(user_id: str, web: WebDep, session: Admin) -> OpenSessions:
    """Show where a person is signed in."""
    _person(web, opaque_id(user_id))
    return sessions_of(web, user_id, session)


@router.post("/people/{user_id}/sessions/end")
def post_end_sessions(user_id: str, web: WebDep, session: Admin) -> Person:
    """End every session of a person."""
    _person(web, opaque_id(user_id))
    with begin(web.db, session.actor, "session.all_ended") as tx:
        ended = end_sessions(tx, user_id)
        tx.record(f"user:{user_id}", ended=ended)
    return _person(web, user_id)


@router.get("/tokens")
def get_tokens(web: WebDep, session: Admin) -> TokensShown:
    """Show the tokens of programs."""
    now = datetime.now(UTC)
    with read(web.db) as conn:
        accounts = conn.execute(
            sa.select(user_account.c.id, user_account.c.role).where(
                user_account.c.location_id == web.location_id, user_account.c.is_active
            )
        ).all()
    return TokensShown(
        tokens=tuple(
            Token(
                id=row.id,
                name=row.name,
                username=row.username,
                rights=tuple(row.rights),
                created_at=row.created_at,
                expires_at=row.expires_at,
                last_used_at=row.last_used_at,
                is_active=row.revoked_at is None and row.expires_at > now,
            )
            for row in web.tokens.listed()
        ),
        possible={row.id: tuple(sorted(RIGHTS[Role(row.role)] - PERSONAL)) for row in accounts},
    )


@router.post("/tokens", status_code=201)
def post_token(body: NewToken, web: WebDep, session: Admin) -> TokenMade:
    """Make a token of an account; it is shown only in this answer."""
    token_id, token = web.tokens.issue(
        session.actor, body.user_id, body.name, body.rights, body.days
    )
    return TokenMade(id=token_id, token=token)


@router.post("/tokens/{token_id}/revoke", status_code=204)
def post_revoke(token_id: str, web: WebDep, session: Admin) -> None:
    """End a token at once."""
    web.tokens.revoke(session.actor, opaque_id(token_id))


def change_person(
    db: sa.Engine, actor: Actor, user_id: str, change: PersonChange, issuer: str = ""
) -> None:
    """Change an account of the actor's location; whoever is disabled is out at once.

    Raises
    ------
    NotFound
        There is no such account here.
    Conflict
        Nobody could administer the location any more, or it is the actor's own role.
    """
    with begin(db, actor, "user.changed") as tx:
        row = _find(tx, user_id)
        values = change.model_dump(exclude_none=True, exclude={"sign_in_subject"})
        if "role" in values:
            values["role"] = Role(values["role"]).value
            _demand_fitting(row, values["role"])
        loses = values.get("is_active") is False or values.get("role", row.role) != row.role
        if loses and user_id == actor.name:
            raise Conflict("Another administrator must change your own role or disable you.")
        if loses and row.role == Role.ADMIN.value and row.is_active:
            _demand_another_admin(tx, user_id)
        if values:
            tx.conn.execute(
                user_account.update().where(user_account.c.id == user_id).values(**values)
            )
        if change.provider_key:
            _demand_provider(tx, change.provider_key)
        if change.sign_in_subject is not None:
            _link(tx, user_id, issuer, change.sign_in_subject.strip())
        if values.get("is_active") is False:
            end_sessions(tx, user_id)
        said = {name: values[name] for name in ("role", "is_active") if name in values}
        tx.record(f"user:{user_id}", changed=sorted(change.model_fields_set), **said)


def reset_password(db: sa.Engine, actor: Actor, user_id: str) -> str:
    """Give a person a password for one sign-in, and return it. Raises NotFound, InvalidInput."""
    password = _made_up()
    with begin(db, actor, "user.password_reset") as tx:
        if _find(tx, user_id).role == Role.SERVICE.value:
            raise InvalidInput("A service account has tokens and no password.")
        tx.conn.execute(
            user_account.update()
            .where(user_account.c.id == user_id)
            .values(
                password_hash=hashed(password),
                must_change_password=True,
                pin_hash="",
                pin_failures=0,
                failed_attempts=0,
                lockouts=0,
                locked_until=None,
            )
        )
        ended = end_sessions(tx, user_id)
        tx.record(f"user:{user_id}", ended=ended)
    return password


def _made_up() -> str:
    """Make a first password: four groups of four letters, 79 bits, easy to read out."""
    groups = ("".join(secrets.choice(_PLAIN) for _ in range(4)) for _ in range(4))
    return "-".join(groups)


def _find(tx: Tx, user_id: str) -> sa.Row[tuple[object, ...]]:
    row = tx.conn.execute(
        sa.select(user_account)
        .where(user_account.c.id == user_id, user_account.c.location_id == tx.location_id)
        .with_for_update()
    ).first()
    if row is None:
        raise NotFound("There is no such account.")
    return row


def _demand_fitting(row: sa.Row[tuple[object, ...]], role: str) -> None:
    if (role == Role.SERVICE.value) != (row.role == Role.SERVICE.value):
        raise InvalidInput("A person does not become a program, nor a program a person.")


def _demand_another_admin(tx: Tx, user_id: str) -> None:
    query = sa.select(user_account.c.id).where(
        user_account.c.location_id == tx.location_id,
        user_account.c.role == Role.ADMIN.value,
        user_account.c.is_active,
        user_account.c.id != user_id,
    )
    if tx.conn.execute(query.limit(1)).first() is None:
        raise Conflict("This is the last administrator here.")


def _demand_provider(tx: Tx, key: str) -> None:
    """Refuse a key that the practice system does not know, once it has named its providers."""
    query = sa.select(provider.c.pms_key).where(
        provider.c.location_id == tx.location_id, sa.not_(provider.c.is_hidden)
    )
    known = set(tx.conn.execute(query).scalars())
    if known and key not in known:
        raise InvalidInput("The practice system knows no such provider.")


def _providers(web: Web) -> tuple[Provider, ...]:
    query = sa.select(provider).where(
        provider.c.location_id == web.location_id, sa.not_(provider.c.is_hidden)
    )
    with read(web.db) as conn:
        rows = conn.execute(query.order_by(provider.c.abbreviation)).all()
    return tuple(Provider(key=row.pms_key, name=row.name or row.abbreviation) for row in rows)


def _link(tx: Tx, user_id: str, issuer: str, subject: str) -> None:
    """Say who a person is at the sign-in service; an empty subject takes that away."""
    here = sa.and_(
        external_login.c.location_id == tx.location_id, external_login.c.user_id == user_id
    )
    tx.conn.execute(sa.delete(external_login).where(here))
    if not subject:
        return
    if not issuer:
        raise InvalidInput("No sign-in service is configured.")
    values = {
        "location_id": tx.location_id,
        "issuer": issuer,
        "subject": subject,
        "user_id": user_id,
        "created_at": tx.now,
    }
    if not insert_once(tx.conn, external_login, values):
        raise Conflict("Another account is that person at the sign-in service.")


def _person(web: Web, user_id: str) -> Person:
    found = next((each for each in _people(web) if each.id == user_id), None)
    if found is None:
        raise NotFound("There is no such account.")
    return found


def _people(web: Web) -> tuple[Person, ...]:
    with read(web.db) as conn:
        rows = conn.execute(
            sa.select(user_account)
            .where(user_account.c.location_id == web.location_id)
            .order_by(user_account.c.is_active.desc(), user_account.c.username)
        ).all()
        seen = conn.execute(
            sa.select(
                web_session.c.user_id,
                sa.func.max(web_session.c.last_seen_at).label("at"),
                sa.func.count().filter(web_session.c.ended_at.is_(None)).label("sessions"),
            )
            .where(web_session.c.location_id == web.location_id)
            .group_by(web_session.c.user_id)
        ).all()
        subjects = conn.execute(
            sa.select(external_login.c.user_id, external_login.c.subject).where(
                external_login.c.location_id == web.location_id
            )
        ).all()
    use = {row.user_id: row for row in seen}
    subject_of = {row.user_id: row.subject for row in subjects}
    now = datetime.now(UTC)
    return tuple(
        Person(
            id=row.id,
            username=row.username,
            display_name=row.display_name,
            role=Role(row.role),
            is_active=row.is_active,
            has_password=bool(row.password_hash),
            has_pin=bool(row.pin_hash),
            has_second_factor=row.totp_at is not None,
            must_change_password=row.must_change_password,
            rests_until=row.locked_until if row.locked_until and row.locked_until > now else None,
            pms_user_key=row.pms_user_key,
            provider_key=row.provider_key,
            sign_in_subject=subject_of.get(row.id, ""),
            sessions=use[row.id].sessions if row.id in use else 0,
            last_seen_at=use[row.id].at if row.id in use else None,
        )
        for row in rows
    )
