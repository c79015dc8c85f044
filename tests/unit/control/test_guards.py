"""Every setting has a test that fails where the program reads its default instead of it: these were seen to fail so.

Whoever adds a setting names one here, and sees it fail once.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sync_tasks.settings import PREFIX, Settings
from sync_tasks.spec import MEANING

ROOT = Path(__file__).parents[3]

CHUNK = "unit/control/test_chunk.py::test_loaders_have_equal_parts_of_what_their_task_may"
EXTENT = "integration/verify/test_extent.py"
FILTER = "unit/protocol/test_filter.py::test_a_scope_has_rules_for_every_database_or_for_one"
HEARD = "unit/control/test_stream.py::test_what_is_heard_at_once_is_the_jobs_from_its_next_beat_on"
LENGTHS = "unit/control/test_sharing.py::test_an_open_window_follows_at_once"
TAGS = "unit/client/test_create.py::test_tasks_are_listed_by_their_tags"
TRANSFORMED = "scenarios/transformed/test_transformed.py"
OF_TASKS = {
    "name": "unit/client/test_create.py::test_a_new_task",
    "environment": TAGS,
    "resource_group": TAGS,
    "conflict_mode": "integration/precheck/test_items.py::test_target_empty",
    "sync_types": "scenarios/sync_types/test_sync_types.py::test_incremental_alone",
    "reader": "scenarios/scan_reader/test_scan_reader.py::test_what_is_not_granted_is_named",
    "scan_changes": "scenarios/scan_streamed/test_scan_streamed.py::test_every_write_takes_effect_once",
    "reconcile_min": "unit/protocol/test_notified.py::test_all_keys_are_compared_again_and_again",
    "databases": "scenarios/full/test_databases.py::test_each_database_arrives_where_it_is_sent",
    "prefer_replica": "scenarios/replica_source/test_prefer_replica.py"
    "::test_the_cut_over_waits_for_what_the_master_has_written",
    "extend_expiry_s": "scenarios/life/test_life.py::test_from_create_to_release",
    "filter.allow_prefixes": FILTER,
    "filter.block_prefixes": "scenarios/filtered/test_filtered.py::test_a_flush_takes_what_is_in_scope_alone",
    "filter.block_commands": "scenarios/filtered/test_filtered.py"
    "::test_blocked_commands_change_nothing_on_the_target",
    "filter.db": FILTER,
    "retry.connection_min": LENGTHS,
    "retry.other_min": LENGTHS,
    "throttle.full.source_qps": CHUNK,
    "throttle.full.target_rps": CHUNK,
    "throttle.full.mb_per_s": CHUNK,
    "throttle.incremental.rps": "scenarios/throttled/test_throttled.py::test_load_and_stream",
    "throttle.incremental.mb_per_s": HEARD,
    "verify.mode": "unit/client/test_verify.py::test_a_setting_has_it_done_once_in_a_run",
    "verify.depth": f"{EXTENT}::test_depth",
    "verify.depth_above_bytes": f"{EXTENT}::test_depth",
    "verify.sample": f"{EXTENT}::test_a_sample_is_the_same_in_each_run",
    "verify.keys_per_s": "integration/verify/test_touched.py::test_no_more_keys_a_second_are_compared_than_may_be",
    "verify.limits.rps": f"{EXTENT}::test_limits_hold_for_each_side",
    "verify.limits.mb_per_s": f"{EXTENT}::test_limits_hold_for_each_side",
    "transform.lua": f"{TRANSFORMED}::test_a_key_that_refuses_a_command_is_copied_anew_through_the_script",
    "transform.file": "unit/control/test_spec.py::test_a_script_in_a_file_lies_beside_the_settings",
    "instance_class": HEARD,
}
"""Settings of a task."""

NOTIFIED = "unit/protocol/test_notified.py"
STEPS = "scenarios/cutover/test_steps.py"
TOUCHED = "integration/verify/test_touched.py"
VERIFIED = "scenarios/verified/test_verified.py::test_by_itself_when_asked_and_after_a_death"
OF_REPLICAS = "scenarios/cluster_source/test_cluster_source.py::test_replicas_are_read_and_what_is_in_scope_alone"
IN_OTHER_PLACES = {
    "conflict_mode of an addition": "integration/precheck/test_added.py::test_keys_of_others_stand_against_it",
    "conflict_mode of a verification": VERIFIED,
    "conflict_mode of a cut-over": f"{STEPS}::test_it_is_compared_as_deeply_as_was_asked",
    "databases of a file": "scenarios/rdb_file/test_rdb_file.py::test_keys_whose_time_is_over_are_not_brought",
    "databases of keyferry verify": "integration/verify/test_command.py::test_settings_and_databases",
    "databases of keyferry transform": "unit/cli/test_transform.py::test_what_becomes_of_real_keys",
    "databases of a way back": f"{STEPS}::test_it_is_taken_back",
    "prefer_replica of a cluster": OF_REPLICAS,
    "extend_expiry_s of keyferry verify": "integration/verify/test_command.py::test_settings_and_databases",
    "extend_expiry_s of a verification": VERIFIED,
    "extend_expiry_s of a pass over all keys": f"{NOTIFIED}::test_all_keys_are_compared_again_and_again",
    "extend_expiry_s of what a stream has written": f"{TOUCHED}::test_what_lasts_is_named_until_it_is_equal",
    "filter of a file": "scenarios/rdb_file/test_rdb_file.py::test_keys_whose_time_is_over_are_not_brought",
    "filter of the reader scan": "unit/protocol/test_read_range.py::test_to_the_end_of_the_range_and_no_further",
    "filter of what is told": f"{NOTIFIED}::test_what_is_told_is_written_behind_it",
    "filter of a source cluster": OF_REPLICAS,
    "filter of a target cluster": "unit/protocol/test_lanes.py::test_each_takes_what_is_in_scope",
    "filter of a verification": VERIFIED,
    "filter of a cut-over": f"{STEPS}::test_it_is_compared_as_deeply_as_was_asked",
    "filter of keyferry transform": "unit/cli/test_transform.py::test_what_becomes_of_real_keys",
    "retry.other_min of a full disk": "unit/cli/test_watch.py"
    "::test_a_disk_that_stays_full_ends_it_when_the_time_for_it_is_over",
    "throttle.full.source_qps of a pass over all keys": f"{NOTIFIED}"
    "::test_a_pass_asks_no_faster_than_the_task_may_by_now",
    "throttle.incremental of a target cluster": "unit/protocol/test_lanes.py"
    "::test_they_share_what_the_task_may_write",
    "transform of the reader scan": "scenarios/transformed/test_to_a_cluster.py"
    "::test_what_other_readers_bring_is_transformed_once",
    "verify.mode of a stream": f"{TOUCHED}::test_a_stream_is_looked_at_if_the_settings_say_so",
    "verify.limits of what a stream has written": f"{TOUCHED}"
    "::test_the_streams_of_a_task_share_what_each_side_may_be_asked",
    "verify of a verification": VERIFIED,
    "verify of a cut-over": f"{STEPS}::test_it_is_compared_as_deeply_as_was_asked",
}
"""A setting may be read in more places than one: these were seen one by one."""

SETTINGS = "unit/control/test_settings.py"
OBSERVED = "scenarios/service_observed"
OF_INSTALLATIONS = {
    "state_dir": f"{SETTINGS}::test_everything_is_in_the_state_directory_by_default",
    "database_url": f"{SETTINGS}::test_the_environment_is_read_and_passwords_stay_hidden",
    "broker_url": "unit/control/test_app.py::test_the_transport",
    "secret_key": f"{SETTINGS}::test_the_key_is_the_one_given_or_that_of_its_file",
    "secret_key_file": f"{SETTINGS}::test_the_key_is_the_one_given_or_that_of_its_file",
    "account": "unit/client/test_accounts.py::test_the_command_line",
    "token": "unit/client/test_accounts.py::test_tokens_end_and_are_of_one_account",
    "spool_dir": f"{SETTINGS}::test_the_spool_and_the_host_have_places_of_their_own",
    "spool_shared": "unit/cli/test_service.py::test_a_worker_reads_the_common_queues_and_those_of_its_spool",
    "spool_encrypt": "scenarios/sealed_spool/test_sealed_spool.py::test_nothing_is_read_on_disk",
    "spool_url": "scenarios/object_store/test_object_store.py::test_the_store_goes_away_and_an_object_decays",
    "host": f"{SETTINGS}::test_the_spool_and_the_host_have_places_of_their_own",
    "stream_shift_s": "scenarios/shifts/test_shifts.py::test_every_write_takes_effect_once",
    "suspend_bytes": f"{SETTINGS}::test_a_suspended_stream_may_take_so_much_unless_more_or_less_is_asked_for",
    "flower_address": "unit/cli/test_up.py::test_flower_where_something_else_listens",
    "flower_port": "unit/cli/test_up.py::test_flower_where_something_else_listens",
    "flower_user": "unit/cli/test_up.py::test_no_secret_is_readable_anywhere",
    "flower_password": "unit/control/test_keyfile.py::test_flowers_password_is_long_and_kept",
    "log_format": f"{OBSERVED}/test_logs_and_traces.py"
    "::test_each_line_says_what_it_is_about_and_a_trace_goes_from_who_asks_to_who_does",
    "metrics_port": f"{OBSERVED}/test_metrics.py::test_one_of_its_own_says_the_same_and_nothing_else_is_served",
    "metrics_address": "unit/cli/test_service.py::test_metrics_are_served_where_it_is_told",
    "traces_endpoint": f"{OBSERVED}/test_logs_and_traces.py"
    "::test_each_line_says_what_it_is_about_and_a_trace_goes_from_who_asks_to_who_does",
    "source_password": f"{SETTINGS}::test_the_environment_is_read_and_passwords_stay_hidden",
    "target_password": "integration/verify/test_command.py::test_passwords_by_environment",
    "require_core": "scenarios/plain_core/test_plain_core.py::test_load_and_stream_without_a_compiled_core",
}
"""Settings of an installation."""


def test_no_setting_is_left_out() -> None:
    assert set(OF_TASKS) == set(MEANING)
    assert set(OF_INSTALLATIONS) == set(Settings.model_fields)


OF_VARIABLES = {f"{PREFIX}{name.upper()}": test for name, test in OF_INSTALLATIONS.items()}
ALL = {**OF_TASKS, **IN_OTHER_PLACES, **OF_VARIABLES}


@pytest.mark.parametrize("setting", ALL)
def test_what_guards_it_is_there(setting: str) -> None:
    path, _, name = ALL[setting].partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
