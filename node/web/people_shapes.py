"""What the pages of accounts say and ask: people, sessions, second factors, tokens, emergencies."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from node.domain.rights import Right, Role


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_NAME = Field(min_length=1, max_length=128)
_USERNAME = Field(min_length=1, max_length=64, pattern=r"^[^\s:/\\]+$")
_KEY = Field("", max_length=64)


class Person(_Shape):
    """One account, as an administrator sees it; no secret of it is ever given."""

    id: str
    username: str
    display_name: str
    role: Role
    is_active: bool
    has_password: bool
    has_pin: bool
    has_second_factor: bool
    must_change_password: bool
    rests_until: datetime | None  # after wrong passwords
    pms_user_key: str
    provider_key: str
    sign_in_subject: str  # at the practice's sign-in service
    sessions: int
    last_seen_at: datetime | None


class Provider(_Shape):
    """Somebody who treats, as the practice system knows them."""

    key: str
    name: str


class People(_Shape):
    """Every account of the location, which roles need a second factor, whom the PMS knows."""

    people: tuple[Person, ...]
    roles: tuple[Role, ...]
    strict_roles: tuple[Role, ...]
    issuer: str
    providers: tuple[Provider, ...]


class NewPerson(_Shape):
    """An account to be made; without a password the node makes one for the first sign-in."""

    username: str = _USERNAME
    display_name: str = _NAME
    role: Role
    password: SecretStr = Field(SecretStr(""), max_length=256)
    pms_user_key: str = _KEY
    provider_key: str = _KEY


class PersonChange(_Shape):
    """What is to be different; what is left out stays."""

    display_name: str | None = Field(None, min_length=1, max_length=128)
    role: Role | None = None
    is_active: bool | None = None
    pms_user_key: str | None = Field(None, max_length=64)
    provider_key: str | None = Field(None, max_length=64)
    sign_in_subject: str | None = Field(None, max_length=255)


class PersonMade(_Shape):
    """The account, and the password for its first sign-in, shown only now."""

    person: Person
    password: str


class OwnPassword(_Shape):
    """The person's own password, for what must be theirs to do; empty where they have none."""

    password: SecretStr = Field(SecretStr(""), max_length=256)


class PasswordChange(_Shape):
    """A new password, with the one before."""

    password: SecretStr = Field(min_length=1, max_length=256)
    new_password: SecretStr = Field(min_length=1, max_length=256)


class OpenSession(_Shape):
    """One open session of a person."""

    id: str
    is_this: bool
    method: str
    address: str
    agent: str
    created_at: datetime
    last_seen_at: datetime


class OpenSessions(_Shape):
    """Where a person is signed in."""

    sessions: tuple[OpenSession, ...]


class SecondFactorBegun(_Shape):
    """What the authenticator app reads: a picture (dark runs of a square, as an SVG path)."""

    address: str
    secret: str
    picture: str
    side: int


class Code(_Shape):
    """A code of the authenticator app."""

    code: str = Field(min_length=6, max_length=8)


class RecoveryCodes(_Shape):
    """Codes for a lost phone, once each; shown only now."""

    codes: tuple[str, ...]


class SecondFactorState(_Shape):
    """Whether the person has a second factor, and how many recovery codes are left."""

    is_on: bool
    codes_left: int


class Token(_Shape):
    """One token of a program, without its secret."""

    id: str
    name: str
    username: str
    rights: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    is_active: bool


class TokensShown(_Shape):
    """The tokens of the location, and what each account's could have."""

    tokens: tuple[Token, ...]
    possible: dict[str, tuple[str, ...]]  # account id -> rights


class NewToken(_Shape):
    """A token to be made."""

    user_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    name: str = Field(min_length=1, max_length=64)
    rights: tuple[Right, ...] = Field(min_length=1)
    days: int = Field(90, ge=1, le=366)


class TokenMade(_Shape):
    """A new token; its secret is shown only now."""

    id: str
    token: str


class EmergencyRequest(_Shape):
    """Which study must be opened in an emergency, or whose, and why."""

    study_id: str = Field("", pattern=r"^([0-9a-f]{32})?$")
    patient_number: str = Field("", max_length=64)
    reason: str = Field(min_length=1, max_length=500)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.study_id) == bool(self.patient_number.strip()):
            raise ValueError("give either the study or the patient's number")
        return self


class EmergencyOpened(_Shape):
    """The studies that are open now, and until when."""

    studies: tuple[str, ...]
    expires_at: datetime


class EmergencyAccess(_Shape):
    """One emergency access, for whoever looks after them."""

    id: str
    study_id: str
    display_name: str
    role: str
    reason: str
    at: datetime
    expires_at: datetime
    reviewed_by: str
    reviewed_at: datetime | None
    is_own: bool


class EmergencyAccesses(_Shape):
    """What was opened in emergencies, the latest first."""

    accesses: tuple[EmergencyAccess, ...]
    not_reviewed: int
