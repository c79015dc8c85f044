"""Policy documents in the JSON shape that cloud users know: read, and refused with the place of what is wrong.

    {"Version": "1", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"RAM": ["acs:ram::ACCOUNT:root"], "Service": ["ACCOUNT@keyferry"]}}]}
    {"Version": "1", "Statement": [{"Effect": "Allow", "Action": ["keyferry:ReadSource"],
        "Resource": ["instance/orders-*"]}]}

Source of the shape: the trust policy of a RAM role, https://www.alibabacloud.com/help/en/ram
"""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BeforeValidator, Field, StrictStr, ValidationError

from sync_tasks.errors import UsageError
from sync_tasks.strict import Strict

ACCOUNT = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?"
"""An account's id: letters, digits, and hyphens between them."""
ROLE = r"[A-Za-z0-9-]{1,64}"
ASSUME: Final = "sts:AssumeRole"
READ: Final = "keyferry:ReadSource"
WRITE: Final = "keyferry:WriteTarget"
ROOT = re.compile(rf"acs:ram::({ACCOUNT}):root")
SERVICE = re.compile(rf"({ACCOUNT})@(?:keyferry|dts\.aliyuncs\.com)")


def _listed(given: Any) -> Any:
    """One is written without brackets."""
    return [given] if isinstance(given, str) else given


def _principal(form: re.Pattern[str], example: str) -> BeforeValidator:
    def check(given: Any) -> Any:
        if not isinstance(given, str) or not form.fullmatch(given):
            raise ValueError(f"write {example}")
        return given

    return BeforeValidator(check)


P = TypeVar("P", bound=Strict)
Texts = Annotated[list[StrictStr], BeforeValidator(_listed), Field(min_length=1)]
RootName = Annotated[str, _principal(ROOT, "acs:ram::ACCOUNT:root")]
ServiceName = Annotated[str, _principal(SERVICE, "ACCOUNT@keyferry")]


class Principals(Strict):
    """Who is meant: accounts, or the service at work for them."""

    RAM: Annotated[list[RootName], BeforeValidator(_listed)] = Field(default=[])
    Service: Annotated[list[ServiceName], BeforeValidator(_listed)] = Field(default=[])

    def names(self, account: str) -> bool:
        """Whether an account is meant."""
        found = [match[1] for match in map(ROOT.fullmatch, self.RAM) if match]
        return account in found + [match[1] for match in map(SERVICE.fullmatch, self.Service) if match]


class TrustStatement(Strict):
    """One rule of a trust policy."""

    Effect: Literal["Allow", "Deny"]
    Action: Annotated[list[Literal["sts:AssumeRole"]], BeforeValidator(_listed), Field(min_length=1)]
    Principal: Principals


class TrustPolicy(Strict):
    """Who may assume a role."""

    Version: Literal["1"]
    Statement: Annotated[list[TrustStatement], Field(min_length=1)]

    def trusts(self, account: str) -> bool:
        """Whether an account may assume the role; a denial counts more."""
        effects = {one.Effect for one in self.Statement if one.Principal.names(account)}
        return effects == {"Allow"}


class Permission(Strict):
    """One rule of a permission policy."""

    Effect: Literal["Allow", "Deny"]
    Action: Annotated[
        list[Literal["keyferry:ReadSource", "keyferry:WriteTarget", "keyferry:*"]],
        BeforeValidator(_listed),
        Field(min_length=1),
    ]
    Resource: Texts

    def meets(self, action: str, resource: str) -> bool:
        """Whether it says anything of this."""
        return any(fnmatchcase(action, one) for one in self.Action) and any(
            fnmatchcase(resource, one) for one in self.Resource
        )


class PermissionPolicy(Strict):
    """What a role may do."""

    Version: Literal["1"]
    Statement: Annotated[list[Permission], Field(min_length=1)]


SYSTEM = {
    "KeyferryReadSource": PermissionPolicy(
        Version="1", Statement=[Permission(Effect="Allow", Action=[READ], Resource=["*"])]
    ),
    "KeyferryWriteTarget": PermissionPolicy(
        Version="1", Statement=[Permission(Effect="Allow", Action=[WRITE], Resource=["*"])]
    ),
}
"""Policies that every account has."""


def allows(policies: list[PermissionPolicy], action: str, resource: str) -> bool:
    """Whether policies together allow an action on `instance/NAME`; a denial counts more."""
    effects = {one.Effect for policy in policies for one in policy.Statement if one.meets(action, resource)}
    return effects == {"Allow"}


def trust_policy(text: str) -> TrustPolicy:
    """Of its JSON. Raises UsageError that names the place of what is wrong."""
    return _read(text, TrustPolicy, "trust policy")


def permission_policy(text: str) -> PermissionPolicy:
    """Of its JSON. Raises UsageError that names the place of what is wrong."""
    return _read(text, PermissionPolicy, "policy")


def trusting(account: str) -> TrustPolicy:
    """The trust policy of a role that one account may assume."""
    who = Principals(RAM=[f"acs:ram::{account}:root"], Service=[f"{account}@keyferry"])
    return TrustPolicy(Version="1", Statement=[TrustStatement(Effect="Allow", Action=[ASSUME], Principal=who)])


def _read(text: str, model: type[P], what: str) -> P:
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{what}: line {error.lineno}, column {error.colno}: {error.msg.lower()}",
            hint="write JSON: see docs/accounts.md", code="document",
        ) from None  # fmt: skip
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"{what}: {place or 'the whole'}: {said[:1].lower()}{said[1:]}",
            hint="see docs/accounts.md for its shape", code="document",
        ) from None  # fmt: skip
