"""FILE.toml: every wrong line is answered with setting, value, range and the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_tasks.changes import changed
from sync_tasks.errors import UsageError
from sync_tasks.keyfilter import KeyFilter, prefix
from sync_tasks.spec import MEANING, RANGES, TABLES, UNBUILT, TaskSpec, load_toml, mapping
from sync_tasks.throttle import Limits, load_limits, stream_limits


def load(tmp_path: Path, text: str) -> TaskSpec:
    path = tmp_path / "task.toml"
    path.write_text(text)
    return load_toml(path)


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    spec = load(tmp_path, "")
    assert spec == TaskSpec()
    assert (spec.conflict_mode, spec.extend_expiry_s) == ("precheck-and-report", 600)
    assert (spec.retry.connection_min, spec.retry.other_min) == (720, 10)


def test_all_settings(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        """
        name = "orders-move"
        conflict_mode = "ignore-and-proceed"
        extend_expiry_s = 0
        databases = { "0" = 0, "1" = 5 }
        retry = { connection_min = 30, other_min = 5 }
        instance_class = "small"
        [throttle.full]
        target_rps = 1000
        mb_per_s = 2.5
        [throttle.incremental]
        rps = 3000
        """,
    )
    assert (spec.throttle.full.target_rps, spec.throttle.full.mb_per_s) == (1000, 2.5)
    assert stream_limits(spec.throttle, spec.instance_class, 1) == Limits(2000.0, None), "the smaller one counts"
    assert stream_limits(spec.throttle, "large", 2) == Limits(1500.0, None)
    assert load_limits(spec.throttle, 4) == Limits(250.0, 625_000.0)
    assert stream_limits(TaskSpec().throttle, "unlimited", 1) == load_limits(TaskSpec().throttle, 3) == Limits()
    assert spec.name == "orders-move"
    assert spec.conflict_mode == "ignore-and-proceed"
    assert spec.extend_expiry_s == 0
    assert spec.databases == {0: 0, 1: 5}
    assert (spec.retry.connection_min, spec.retry.other_min) == (30, 5)
    assert TaskSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_a_filter(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        """
        [filter]
        allow_prefixes = ["a", "hex:00ff"]
        block_commands = ["flushall", "Module.Cmd"]
        [filter.db.3]
        block_prefixes = ["hex:6865783a"]
        """,
    )
    assert [prefix(text) for text in spec.filter.allow_prefixes] == [b"a", b"\x00\xff"]
    assert spec.filter.block_commands == ["FLUSHALL", "MODULE.CMD"]
    assert (spec.filter.of(0), spec.filter.of(3).block_prefixes) == (spec.filter, ["hex:6865783a"])
    assert spec.filter.keys_filtered
    assert not TaskSpec().filter.keys_filtered
    assert TaskSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_rules_of_single_databases_are_laid_beside_each_other() -> None:
    spec = changed(TaskSpec(), None, {"filter": {"db": {3: {"allow_prefixes": ["a"]}}}}, "test")
    table = {"4": {"allow_prefixes": ["b"]}, 3: {"block_prefixes": ["c"]}}
    spec = changed(spec, None, {"filter": {"db": table}}, "test")
    assert spec.filter.of(3) == KeyFilter(allow_prefixes=["a"], block_prefixes=["c"])
    assert spec.filter.of(4) == KeyFilter(allow_prefixes=["b"])


def test_the_example_of_the_contract_passes_where_it_asks_for_nothing_unbuilt(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        """
        sync_types = ["full", "incremental"]
        reader = "psync"
        prefer_replica = false
        [filter]
        allow_prefixes = []
        block_prefixes = []
        block_commands = []
        [throttle.full]
        source_qps = -1
        target_rps = -1
        mb_per_s = -1
        [throttle.incremental]
        rps = -1
        mb_per_s = -1
        [verify]
        mode = "off"
        """,
    )
    assert spec == TaskSpec()


WRONG = [
    ("extend_expiry_s = -1", "extend_expiry_s = -1", "0..315360000 seconds"),
    ("extend_expiry_s = 315360001", "extend_expiry_s = 315360001", "0..315360000"),
    ('extend_expiry_s = "600"', 'extend_expiry_s = "600"', "0..315360000"),
    ("extend_expiry_s = true", "extend_expiry_s = true", "0..315360000"),
    ('conflict_mode = "merge"', 'conflict_mode = "merge"', '"ignore-and-proceed"'),
    ("[retry]\nconnection_min = 9", "retry.connection_min = 9", "10..1440 minutes"),
    ("[retry]\nconnection_min = 1441", "retry.connection_min = 1441", "10..1440 minutes"),
    ("[retry]\nother_min = 0", "retry.other_min = 0", "1..1440 minutes"),
    ("[retry]\nconnection_min = 10", "retry.other_min = 10", "less than retry.connection_min"),
    ("retry = 5", "retry = 5", "a table"),
    ('databases = { "0" = 256 }', "databases = ", "0..255"),
    ('databases = { "x" = 1 }', "databases = ", "0..255"),
    ('databases = { "0" = true }', "databases = ", "0..255"),
    ("databases = {}", "databases = ", "0..255"),
    ("databases = [0]", "databases = ", "0..255"),
    ('name = ""', "name = ", "1 to 200"),
    ('name = "a\\nb"', "name = ", "printable"),
    ("extend_expire_s = 1", "unknown setting extend_expire_s", "extend_expiry_s?"),
    ("[retry]\nconection_min = 20", "unknown setting retry.conection_min", "retry.connection_min?"),
    ("[filtr]\na = 1", "unknown setting filtr", "filter?"),
    ("[filter]\nalow_prefixes = []", "unknown setting filter.alow_prefixes", "filter.allow_prefixes?"),
    ("xyzzy = 1", "unknown setting xyzzy", "known are"),
    ('reader = "aof"', 'reader = "aof" is not allowed', 'reader takes "psync", "scan" or "rdb"'),
    ('sync_types = ["full", "full"]', "sync_types", '"full" and "incremental", or of one'),
    ("sync_types = []", "sync_types", '"full" and "incremental", or of one'),
    ('sync_types = ["some"]', "sync_types", '"full" and "incremental", or of one'),
    ('prefer_replica = "yes"', 'prefer_replica = "yes"', "true or false"),
    ("prefer_replica = 1", "prefer_replica = 1", "true or false"),
    ('[filter]\nallow_prefixes = "a"', 'filter.allow_prefixes = "a"', "a list of beginnings"),
    ('[filter]\nallow_prefixes = [""]', "filter.allow_prefixes", "a list of beginnings"),
    ('[filter]\nblock_prefixes = ["hex:0"]', "filter.block_prefixes", "hex:00ff"),
    ('[filter]\nblock_prefixes = ["hex:"]', "filter.block_prefixes", "hex:00ff"),
    ('[filter]\nblock_commands = ["select"]', "filter.block_commands", "none of DEL"),
    ('[filter]\nblock_commands = ["a b"]', "filter.block_commands", "names of commands"),
    ('[filter.db.256]\nallow_prefixes = ["a"]', "filter.db", "0..255"),
    ('[filter.db.x]\nallow_prefixes = ["a"]', "filter.db", "0..255"),
    ("[filter.db.3]\nallow_prefixes = [1]", "filter.db.3.allow_prefixes = 1", "a list of beginnings"),
    ('[filter.db.3]\nalow_prefixes = ["a"]', "unknown setting filter.db.3.alow_prefixes", "3.allow_prefixes?"),
    ("[filter.db.3]\nblock_commands = []", "unknown setting filter.db.3.block_commands", "3.block_prefixes?"),
    ("[throttle.full]\nsource_qps = 0", "throttle.full.source_qps = 0", "1 and more commands a second"),
    ("[throttle.full]\ntarget_rps = 0", "throttle.full.target_rps = 0", "1 and more commands a second"),
    ("[throttle.full]\ntarget_rps = 1.5", "throttle.full.target_rps = 1.5", "1 and more commands a second"),
    ("[throttle.full]\nmb_per_s = 0.0", "throttle.full.mb_per_s = 0.0", "more than 0 MB"),
    ("[throttle.incremental]\nrps = -2", "throttle.incremental.rps = -2", "-1: no limit"),
    ("[throttle.incremental]\nrps = true", "throttle.incremental.rps = true", "-1: no limit"),
    ('[throttle.incremental]\nmb_per_s = "5"', 'throttle.incremental.mb_per_s = "5"', "more than 0 MB"),
    ("[throttle.full]\nmb_pers = 5", "unknown setting throttle.full.mb_pers", "throttle.full.mb_per_s?"),
    ("[throttle]\nfull = 5", "throttle.full = 5", "a table"),
    ("[throttle.ful]\nrps = 5", "unknown setting throttle.ful", "throttle.full?"),
    ('instance_class = "tiny"', 'instance_class = "tiny"', "micro"),
    ('[transform]\nlua = "x"', "line 1 of the transform", "keyferry transform check"),
    ('[transform]\nlua = "x = 1"', "it defines no function", "keyferry transform check"),
    ('[transform]\nfile = "none.lua"', "none.lua: No such file", "Lua"),
    ("[transform]\nfile = 5", "transform.file = 5 is not allowed", "path of a file"),
    ("[transform]\nlau = 5", "unknown setting transform.lau", "transform.lua?"),
    ('[verify]\nmode = "incremental"', 'verify.mode = "incremental" is not allowed', '"full" or "full+incremental"'),
    ("[verify]\nkeys_per_s = 0", "verify.keys_per_s = 0 is not allowed", "1..1000 keys a second"),
    ('sync_types = ["full"]\n[verify]\nmode = "full+incremental"', "verify.mode must be off", ""),
    ('sync_types = ["full"]\n[verify]\nmode = "full"', "verify.mode must be off", ""),
    ("name = ", "is not TOML", "docs"),
]


@pytest.mark.parametrize(("text", "says", "advises"), WRONG, ids=[row[0].replace("\n", " ") for row in WRONG])
def test_wrong_settings(tmp_path: Path, text: str, says: str, advises: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    assert says in caught.value.message
    assert advises in f"{caught.value.message} {caught.value.hint}"
    assert "\n" not in caught.value.line()


def test_a_script_in_a_file_lies_beside_the_settings(tmp_path: Path) -> None:
    lua = "function transform(db, argv) end"
    (tmp_path / "x.lua").write_text(lua)
    spec = load(tmp_path, '[transform]\nfile = "x.lua"')
    assert (spec.transform.lua, spec.transform.file, spec.transform.active) == (lua, None, True)
    (tmp_path / "y.lua").write_text(lua + "-- other")
    other = changed(spec, None, {"transform": {"file": str(tmp_path / "y.lua")}}, "test")
    assert other.transform.lua == lua + "-- other"
    assert not changed(spec, None, {"transform": {"lua": ""}}, "test").transform.active
    (tmp_path / "z.lua").write_text("-" * 70_000)
    with pytest.raises(UsageError, match="over 64 KB"):
        load(tmp_path, '[transform]\nfile = "z.lua"')


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*No such file"):
        load_toml(tmp_path / "none.toml")


def test_every_setting_has_its_range_in_words() -> None:
    names = {f"{table}.{name}".lstrip(".") for table, model in TABLES.items() for name in model.model_fields}
    assert set(RANGES) == names
    assert set(MEANING) == names - set(TABLES)
    assert not set(UNBUILT) & set(TaskSpec.model_fields)


@pytest.mark.parametrize(
    ("databases", "source", "target", "result"),
    [
        (None, None, None, None),
        ({0: 1}, None, None, {0: 1}),
        (None, 3, None, {3: 3}),
        (None, 3, 5, {3: 5}),
        (None, 0, None, {0: 0}),
        ({3: 5}, 3, 5, {3: 5}),
        ({3: 5}, None, 5, {3: 5}),
        ({3: 5, 4: 6}, 3, None, {3: 5}),
    ],
)
def test_the_urls_databases_are_part_of_the_mapping(
    databases: dict[int, int] | None, source: int | None, target: int | None, result: dict[int, int] | None
) -> None:
    assert mapping(databases, source, target) == result


@pytest.mark.parametrize(
    ("databases", "source", "target"),
    [(None, None, 5), ({0: 1}, 2, None), ({0: 1}, 0, 2), ({0: 1, 1: 2}, None, 1)],
)
def test_contradicting_databases_are_refused(
    databases: dict[int, int] | None, source: int | None, target: int | None
) -> None:
    with pytest.raises(UsageError):
        mapping(databases, source, target)
