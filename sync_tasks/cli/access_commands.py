"""`keyferry account|role|policy|token`: who may use whose instances, and as whom programs come in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sync_tasks.cli.task_options import State, connected, put

ACCOUNTS = """
Accounts: their instances, tasks, roles and tokens are kept apart.

An installation that one team uses needs none. With KEYFERRY_ACCOUNT=NAME, or a token in KEYFERRY_TOKEN, every verb sees
what is that account's and nothing else.

\b
Examples:
  keyferry account add alpha
  KEYFERRY_ACCOUNT=alpha keyferry instance add orders redis://keyferry:PASSWORD@old:6379
  keyferry account audit --account alpha
"""
ROLES = """
Roles: by them another account may use instances of this one.

\b
Examples:
  keyferry role set for-beta --account alpha --trust beta --policy KeyferryReadSource
  keyferry role set for-beta --account alpha --trust trust.json --policy KeyferryReadSource
  keyferry role remove for-beta --account alpha
"""
POLICIES = """
Policies: what a role may do. KeyferryReadSource and KeyferryWriteTarget are there; more are made of JSON.

\b
Examples:
  keyferry policy set orders-alone policy.json --account alpha
  keyferry policy list --account alpha
"""
TOKENS = """
Tokens: they let programs in as an account.

\b
Examples:
  keyferry token make ci --account alpha --scope operate --days 30
  KEYFERRY_TOKEN=kf_... keyferry task list
"""

account = typer.Typer(help=ACCOUNTS)
role = typer.Typer(help=ROLES)
policy = typer.Typer(help=POLICIES)
token = typer.Typer(help=TOKENS)
Whose = Annotated[str | None, typer.Option("--account", metavar="NAME", help="whose [default: KEYFERRY_ACCOUNT]")]
Json = Annotated[bool, typer.Option("--json", help="objects on stdout")]


@account.command("add")
def add_account(
    name: Annotated[str, typer.Argument(metavar="NAME", help="letters, digits, and hyphens between them")],
    description: Annotated[str, typer.Option("--description", help="for people")] = "",
    state: State = None,
) -> int:
    """Make an account.

    \b
    Examples:
      keyferry account add alpha --description "has the old servers"
    """
    with connected(state, fresh=True) as client:
        client.add_account(name, description)
    typer.echo(f"{name}: made")
    return 0


@account.command("list")
def list_accounts(json: Json = False, state: State = None) -> int:
    """Show all of them.

    \b
    Examples:
      keyferry account list
    """
    with connected(state) as client:
        found = client.accounts()
    rows = [
        {"name": one.name, "description": one.description, "created_at": one.created_at.isoformat()} for one in found
    ]
    return _show(rows, ("name", "description"), json)


@account.command("remove")
def remove_account(name: str, state: State = None) -> int:
    """Forget an account that has no instances, and no tasks that go on; its roles and tokens go with it.

    \b
    Examples:
      keyferry account remove alpha
    """
    with connected(state) as client:
        client.remove_account(name)
    typer.echo(f"{name}: removed")
    return 0


@account.command("audit")
def audit(account: Whose = None, after: int = 0, json: Json = False, state: State = None) -> int:
    """Show what others have asked of an account's instances, and what they were answered.

    \b
    Examples:
      keyferry account audit --account alpha
    """
    with connected(state, account=account) as client:
        found = client.audit(after)
    rows = [
        {
            "id": one.id, "at": one.at.isoformat(timespec="seconds"), "actor": one.actor, "action": one.action,
            "subject": one.subject, "allowed": one.allowed, "text": one.text,
        }
        for one in found
    ]  # fmt: skip
    return _show(rows, ("at", "actor", "action", "subject", "allowed", "text"), json)


@role.command("set")
def set_role(
    name: Annotated[str, typer.Argument(metavar="NAME", help="letters, digits and hyphens, 1 to 64")],
    trust: Annotated[
        str, typer.Option("--trust", metavar="ACCOUNT|FILE", help="who may assume it: an account, or a trust policy")
    ],
    policies: Annotated[
        list[str], typer.Option("--policy", metavar="NAME", help="what it may do; may be given several times")
    ],
    description: Annotated[str, typer.Option("--description", help="for people")] = "",
    account: Whose = None,
    state: State = None,
) -> int:
    """Make a role, or change the one of that name.

    What a change takes away ends the tasks that need it within 15 minutes.

    \b
    Examples:
      keyferry role set for-beta --account alpha --trust beta --policy KeyferryReadSource
    """
    document = Path(trust).read_text(encoding="utf-8") if Path(trust).is_file() else trust
    with connected(state, account=account) as client:
        made = client.set_role(name, trust=document, policies=policies, description=description)
    typer.echo(f"{made.account}/{made.name}: {', '.join(made.policies)}")
    return 0


@role.command("list")
def list_roles(account: Whose = None, json: Json = False, state: State = None) -> int:
    """Show all roles of an account, with --json their trust policies too.

    \b
    Examples:
      keyferry role list --account alpha --json
    """
    with connected(state, account=account) as client:
        found = client.roles()
    rows = [
        {
            "name": one.name, "policies": [*one.policies], "description": one.description,
            "trust": one.trust.model_dump(mode="json"),
        }
        for one in found
    ]  # fmt: skip
    return _show(rows, ("name", "policies", "description"), json)


@role.command("remove")
def remove_role(name: str, account: Whose = None, state: State = None) -> int:
    """Forget a role: the tasks that have assumed it end within 15 minutes.

    \b
    Examples:
      keyferry role remove for-beta --account alpha
    """
    with connected(state, account=account) as client:
        client.remove_role(name)
    typer.echo(f"{name}: removed")
    return 0


@policy.command("set")
def set_policy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="letters, digits and hyphens, 1 to 64")],
    document: Annotated[Path, typer.Argument(metavar="FILE", help="JSON; -: stdin")],
    account: Whose = None,
    state: State = None,
) -> int:
    """Make a policy of JSON, or change the one of that name.

    \b
    Examples:
      keyferry policy set orders-alone policy.json --account alpha
    """
    text = sys.stdin.read() if str(document) == "-" else document.read_text(encoding="utf-8")
    with connected(state, account=account) as client:
        client.set_policy(name, text)
    typer.echo(f"{name}: set")
    return 0


@policy.command("list")
def list_policies(account: Whose = None, json: Json = False, state: State = None) -> int:
    """Show the policies that roles of an account may have.

    \b
    Examples:
      keyferry policy list --account alpha
    """
    with connected(state, account=account) as client:
        rows = [{"name": name, "document": text} for name, text in client.policies().items()]
    return _show(rows, ("name", "document"), json)


@token.command("make")
def make_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="for people: who uses it")],
    scope: Annotated[str, typer.Option("--scope", help="read, operate (run tasks, too) or admin")] = "read",
    days: Annotated[float, typer.Option("--days", min=0, help="until it ends; 0: never")] = 90.0,
    account: Whose = None,
    state: State = None,
) -> int:
    """Make a token, and print it: it is not shown again.

    \b
    Examples:
      keyferry token make ci --account alpha --scope operate
    """
    with connected(state, account=account) as client:
        text, _ = client.make_token(name, scope, days or None)
    typer.echo(text)
    return 0


@token.command("list")
def list_tokens(account: Whose = None, json: Json = False, state: State = None) -> int:
    """Show the tokens of an account, without what they are.

    \b
    Examples:
      keyferry token list --account alpha
    """
    with connected(state, account=account) as client:
        found = client.tokens()
    rows = [
        {
            "id": one.id, "name": one.name, "scope": one.scope,
            "expires_at": one.expires_at.isoformat(timespec="seconds") if one.expires_at else None,
        }
        for one in found
    ]  # fmt: skip
    return _show(rows, ("id", "name", "scope", "expires_at"), json)


@token.command("revoke")
def revoke_token(
    token_id: Annotated[int, typer.Argument(metavar="ID")], account: Whose = None, state: State = None
) -> int:
    """End a token.

    \b
    Examples:
      keyferry token revoke 3 --account alpha
    """
    with connected(state, account=account) as client:
        client.revoke_token(token_id)
    typer.echo(f"{token_id}: revoked")
    return 0


def _show(rows: list[dict[str, Any]], columns: tuple[str, ...], json: bool) -> int:
    if json:
        put(rows)
        return 0
    cells = [[_text(row[column]) for column in columns] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))] if cells else []
    for row in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "allowed" if value else "denied"
    return ", ".join(value) if isinstance(value, list) else "-" if value is None else str(value)
