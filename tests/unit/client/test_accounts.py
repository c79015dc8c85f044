"""Accounts: what each sees, what others let them use, and what tokens allow."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_tasks import Client, ControlError, KeyferryError, Side, UsageError
from sync_tasks import TaskState as S
from sync_tasks.access.documents import allows, permission_policy, trust_policy, trusting
from sync_tasks.access.scopes import SCOPES
from sync_tasks.places import named
from tests.unit.client.conftest import SOURCE, TARGET

SERVER = "redis://keyferry:hush@orders.example:6379"
MINE = "instance://orders/0?account=alpha&role=for-beta"


@pytest.fixture
def alpha(client: Client, state: Path) -> Iterator[Client]:
    client.add_account("alpha", "has the source")
    with Client(state, account="alpha") as made:
        made.add_instance("orders", SERVER)
        yield made


@pytest.fixture
def beta(alpha: Client, client: Client, state: Path) -> Iterator[Client]:
    client.add_account("beta")
    with Client(state, account="beta") as made:
        yield made


def said(client: Client, after: int = 0) -> list[tuple[str, str, bool]]:
    return [(entry.actor, entry.action, entry.allowed) for entry in client.audit(after)]


# -- documents

PAGE = """{ "Statement": [ { "Action": "sts:AssumeRole", "Effect": "Allow", "Principal":
    { "RAM": [ "acs:ram::12345:root" ], "Service": [ "12345@dts.aliyuncs.com" ] } } ], "Version": "1" }"""


def test_the_document_of_the_reference_page_is_read() -> None:
    found = trust_policy(PAGE)
    assert (found.trusts("12345"), found.trusts("1234"), found.trusts("")) == (True, False, False)
    assert trust_policy(trusting("beta").model_dump_json()) == trusting("beta")


def test_a_denial_counts_more() -> None:
    document = json.loads(PAGE)
    document["Statement"].append({**document["Statement"][0], "Effect": "Deny"})
    assert not trust_policy(json.dumps(document)).trusts("12345")
    some = permission_policy(
        '''{"Version": "1", "Statement": [
            {"Effect": "Allow", "Action": "keyferry:*", "Resource": "instance/orders-*"},
            {"Effect": "Deny", "Action": ["keyferry:WriteTarget"], "Resource": ["instance/orders-live"]}]}'''
    )
    asked = [("keyferry:ReadSource", "orders-live"), ("keyferry:WriteTarget", "orders-live"),
             ("keyferry:WriteTarget", "orders-new"), ("keyferry:ReadSource", "users")]  # fmt: skip
    assert [allows([some], action, f"instance/{name}") for action, name in asked] == [True, False, True, False]
    assert not allows([], "keyferry:ReadSource", "instance/a")


WRONG = [
    ("{", "line 1, column 2"),
    ("[]", "the whole"),
    ("{}", "Version"),
    (PAGE.replace("12345:root", "12345"), "Statement[0].Principal.RAM[0]: write acs:ram::ACCOUNT:root"),
    (PAGE.replace("@dts", "@ots"), "Statement[0].Principal.Service[0]: write ACCOUNT@keyferry"),
    (PAGE.replace("Allow", "Alow"), "Statement[0].Effect: input should be"),
    (PAGE.replace("sts:AssumeRole", "sts:Assume"), "Statement[0].Action[0]: input should be"),
    (PAGE.replace("Effect", "Efect"), "Statement[0].Effect: field required"),
    (PAGE.replace("RAM", "Ram"), "Statement[0].Principal.Ram: extra"),
]


@pytest.mark.parametrize(("text", "place"), WRONG)
def test_what_is_wrong_in_a_document_is_told_with_its_place(text: str, place: str) -> None:
    with pytest.raises(UsageError) as caught:
        trust_policy(text)
    assert f"trust policy: {place}" in caught.value.message


# -- across accounts


def grant(alpha: Client) -> None:
    alpha.set_role("for-beta", trust="beta", policies=["KeyferryReadSource"], description="to move orders")


def test_a_task_of_one_account_reads_an_instance_of_another_by_its_role(alpha: Client, beta: Client) -> None:
    grant(alpha)
    task = beta.create(MINE, TARGET)
    assert beta._sealing().endpoints(task.id)[0].url() == f"{SERVER}/0"
    assert "hush" not in repr(task)
    assert said(alpha) == [("beta", "ReadSource", True)]
    assert beta._store.renew_grants(task.id) == 1
    assert [one.tasks for one in alpha.instances()] == [1]
    assert beta.instances() == []


@pytest.mark.parametrize(
    ("role", "missing"),
    [
        (None, "there is no role for-beta"),
        ({"trust": "gamma", "policies": ["KeyferryReadSource"]}, "no statement that allows sts:AssumeRole to"
         " acs:ram::beta:root"),
        ({"trust": "beta", "policies": []}, "no policy attached to role for-beta allows keyferry:ReadSource"),
        ({"trust": "beta", "policies": ["KeyferryWriteTarget"]}, "allows keyferry:ReadSource on instance/orders"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_and_recorded(alpha: Client, beta: Client, role: Any, missing: str) -> None:
    if role is not None:
        alpha.set_role("for-beta", **role)
    for ask in (lambda: beta.create(MINE, TARGET), lambda: beta.connectivity(MINE)):
        with pytest.raises(ControlError) as caught:
            ask()
        assert caught.value.code == "not-granted"
        assert missing in caught.value.message
    assert said(alpha) == [("beta", "ReadSource", False)] * 2
    assert missing in alpha.audit()[0].text
    assert beta.list() == []


POLICY = '{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "keyferry:*", "Resource": "instance/orders"}]}'


def test_a_policy_of_its_own(alpha: Client, beta: Client) -> None:
    alpha.set_policy("orders-alone", POLICY)
    alpha.set_role("for-beta", trust="beta", policies=["orders-alone"])
    beta.create(MINE, TARGET)
    alpha.add_instance("users", SERVER)
    with pytest.raises(ControlError, match="instance/users"):
        beta.create(MINE.replace("orders", "users"), TARGET)
    assert list(alpha.policies()) == ["KeyferryReadSource", "KeyferryWriteTarget", "orders-alone"]
    with pytest.raises(UsageError, match="no policy orders-alon"):
        alpha.set_role("x", trust="beta", policies=["orders-alon"])


def test_a_revoked_role_keeps_a_task_from_going_on(alpha: Client, beta: Client) -> None:
    grant(alpha)
    task = beta.create(MINE, TARGET)
    alpha.remove_role("for-beta")
    with pytest.raises(ControlError, match="there is no role for-beta"):
        beta._store.renew_grants(task.id)
    with pytest.raises(ControlError, match="there is no role for-beta"):
        beta.resume(task, wait_s=0)
    assert said(alpha)[-1] == ("beta", "ReadSource", False)


def test_a_cut_over_gives_back_what_roles_allowed(alpha: Client, beta: Client) -> None:
    grant(alpha)
    task, store = beta.create(MINE, TARGET), beta._store
    for state in (S.PRECHECKING, S.PRECHECK_PASSED, S.INITIALIZING, S.SYNCHRONIZING):
        store.transition(task.id, state, "test")
    store.start(task.id)
    stream = store.claim_node(store.nodes(task.id)[0].id, "h:1:2:x")
    assert stream is not None
    assert [one.tasks for one in alpha.instances()] == [1]
    stream.finished()
    assert beta.get(task).state is S.FINISHED
    assert store.renew_grants(task.id) == 0, "nothing is asked about any more: it has no access"
    with pytest.raises(UsageError, match="is used by a role"):
        beta.reverse(task)


# -- confinement

ASKS: dict[str, tuple[Any, ...]] = {
    "get": (), "events": (), "progress": (), "watch": (), "reading": (), "preview": (), "modify": (), "precheck": (),
    "precheck_items": (), "ignore": (["eviction"],), "start": (), "resume": (), "suspend": (), "restart": (),
    "finish": (), "release": (), "try_finish": (), "cut_over": (), "reverse": (), "verify": (),
    "verification": (), "touched": (),
}  # fmt: skip
"""Verbs that name a task, with what else they take."""
OTHERS = {"list", "readings", "close", "create", "connectivity"}


def reach(client: Client, verb: str, *arguments: Any) -> None:
    found = getattr(client, verb)(*arguments)
    if verb == "watch":
        list(found)


def verbs() -> dict[str, Any]:
    found = inspect.getmembers(Client, inspect.isfunction)
    return {name: value for name, value in found if name[0] != "_"}


def test_no_verb_reaches_what_is_another_accounts(client: Client, alpha: Client, beta: Client) -> None:
    task = alpha.create(SOURCE, TARGET, name="secret-move")
    of_accounts = {name for name, verb in verbs().items() if "account" in inspect.signature(verb).parameters}
    of_instances = {"add_instance", "instances", "remove_instance"}
    of_all = {"add_account", "accounts", "remove_account", "reseal"}
    assert verbs().keys() == ASKS.keys() | OTHERS | of_accounts | of_instances | of_all, "a verb that is not looked at"

    for name, more in ASKS.items():
        for one in (task, task.id, task.uid, "secret-move"):
            with pytest.raises(ControlError) as caught:
                reach(beta, name, one, *more)
            assert caught.value.code == "no-task", name
    assert beta.list() == beta.readings(released=True) == beta.instances() == []
    for name in of_accounts:
        arguments = {
            "set_role": {"name": "x", "trust": "beta", "policies": []}, "remove_role": {"name": "x"},
            "set_policy": {"name": "x", "document": POLICY}, "make_token": {"name": "x"},
            "revoke_token": {"token_id": 1},
        }.get(name, {})  # fmt: skip
        with pytest.raises(KeyferryError, match="no account alpha"):
            getattr(beta, name)(**arguments, account="alpha")
    for call in (lambda: beta.add_account("x"), beta.accounts, lambda: beta.remove_account("alpha"), beta.reseal):
        with pytest.raises(ControlError) as caught:
            call()
        assert caught.value.code == "scope"
    for ask in (lambda: beta.remove_instance("orders"), lambda: beta.create("instance://orders", TARGET)):
        with pytest.raises(ControlError, match="has no instance orders"):
            ask()
    beta.add_instance("orders", "redis://other.example")
    assert alpha.instances()[0].url == "redis://keyferry:***@orders.example:6379", "of one name, and another's"
    assert [task.name for task in client.list()] == ["secret-move"], "the installation sees all"


# -- tokens

NEEDED = {
    "read": lambda c: c.list(),
    "operate": lambda c: c.start("nothing", wait_s=0),
    "admin": lambda c: c.add_instance("b", SERVER),
}


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_allows_what_its_scope_says(client: Client, alpha: Client, state: Path, scope: str) -> None:
    text, made = alpha.make_token("ci", scope)
    assert (made.account, made.scope, text[:3]) == ("alpha", scope, "kf_")
    assert text not in repr(alpha.tokens())
    with Client(state, token=text) as program:
        for needed, call in NEEDED.items():
            try:
                call(program)
                allowed = True
            except ControlError as error:
                allowed = error.code != "scope"
            assert allowed == (SCOPES.index(scope) >= SCOPES.index(needed)), needed
    alpha.revoke_token(made.id)
    with pytest.raises(ControlError, match="not known"):
        Client(state, token=text)


def test_tokens_end_and_are_of_one_account(
    alpha: Client, beta: Client, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, made = alpha.make_token("short", days=1e-9)
    with pytest.raises(ControlError, match="has expired"):
        Client(state, token=text)
    with pytest.raises(ControlError, match="beta has no token"):
        beta.revoke_token(made.id)
    text, _ = alpha.make_token("long", "admin", None)
    with pytest.raises(ControlError, match="not of account beta"):
        Client(state, token=text, account="beta")
    monkeypatch.setenv("KEYFERRY_TOKEN", text)
    with Client(state) as program:
        assert [one.name for one in program.instances()] == ["orders"]
    raw = (state / "keyferry.db").read_bytes()
    assert text.encode() not in raw


def test_every_verb_says_what_it_needs() -> None:
    unmarked = {name for name, verb in verbs().items() if not hasattr(verb, "scope")}
    assert unmarked == {"close"}


def test_accounts_are_made_once_and_removed_when_empty(client: Client, alpha: Client) -> None:
    for name in ("-a", "a b", "", "x" * 65):
        with pytest.raises(UsageError):
            client.add_account(name)
    with pytest.raises(ControlError, match="there is an account alpha"):
        client.add_account("alpha")
    with pytest.raises(ControlError, match="alpha has orders"):
        client.remove_account("alpha")
    grant(alpha)
    alpha.remove_instance("orders")
    client.remove_account("alpha")
    assert client.accounts() == []
    with pytest.raises(ControlError, match="no account alpha"):
        Client(client._settings, account="alpha")


def test_the_command_line(
    client: Client, alpha: Client, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from sync_tasks.cli.main import dispatch

    def run(*words: str) -> str:
        assert dispatch([*words, "--state", str(state)]) == 0
        return capsys.readouterr().out

    (tmp_path / "policy.json").write_text(POLICY)
    (tmp_path / "trust.json").write_text(PAGE)
    mine = ("--account", "alpha")
    assert run("account", "list") == "alpha  has the source\n"
    assert run("policy", "set", "orders-alone", str(tmp_path / "policy.json"), *mine) == "orders-alone: set\n"
    assert "orders-alone" in run("policy", "list", *mine)
    run("role", "set", "for-12345", "--trust", str(tmp_path / "trust.json"), "--policy", "orders-alone", *mine)
    (found,) = json.loads(run("role", "list", "--json", *mine))
    assert (found["policies"], found["trust"]["Statement"][0]["Principal"]["RAM"]) == (
        ["orders-alone"], ["acs:ram::12345:root"],
    )  # fmt: skip
    text = run("token", "make", "ci", "--scope", "read", "--days", "0", *mine).strip()
    assert run("token", "list", *mine).split() == ["1", "ci", "read", "-"]
    monkeypatch.setenv("KEYFERRY_TOKEN", text)
    assert run("instance", "list").startswith("orders ")
    with pytest.raises(ControlError, match="to read alone"):
        dispatch(["instance", "remove", "orders", "--state", str(state)])
    monkeypatch.delenv("KEYFERRY_TOKEN")
    run("token", "revoke", "1", *mine)
    assert run("token", "list", *mine) == run("account", "audit", *mine) == ""
    run("role", "remove", "for-12345", *mine)
    monkeypatch.setenv("KEYFERRY_ACCOUNT", "alpha")
    assert run("role", "list") == ""
    monkeypatch.delenv("KEYFERRY_ACCOUNT")
    with pytest.raises(UsageError, match="which account"):
        dispatch(["role", "list", "--state", str(state)])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    | st.sampled_from(["Allow", "Deny", "sts:AssumeRole", "acs:ram::a:root", "1", "keyferry:*", "*"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["Version", "Statement", "Effect", "Action", "Principal", "RAM", "Service", "Resource", "x"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON.map(json.dumps) | st.text(max_size=60))
def test_whatever_is_given_as_a_document_is_read_or_refused(text: str) -> None:
    for read in (trust_policy, permission_policy):
        refused: UsageError | None = None
        try:
            read(text)
        except UsageError as error:
            refused = error
        assert refused is None or (refused.code, "\n" in refused.line()) == ("document", False)


@given(st.text(max_size=40))
def test_whatever_is_given_as_a_place_is_an_instance_or_refused(text: str) -> None:
    found = None
    with contextlib.suppress(UsageError):
        found = named(f"instance://{text}", Side.SOURCE)
    assert found is None or (found.name and (found.account is None) == (found.role is None))
