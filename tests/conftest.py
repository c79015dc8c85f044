"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests import postgres as postgresql
from tests.servers import Server, StartServer, start

# A busy machine is no fault of the code: what takes long is not a failure.
settings.register_profile("keyferry", deadline=None)
settings.load_profile("keyferry")

LONG = (
    "tests/scenarios/",
    "tests/deploy/",
    "tests/integration/",
    "tests/simulation/test_histories.py",
    "tests/simulation/test_server.py",
    "tests/unit/cli/test_children.py",
    "tests/unit/cli/test_command.py",
    "tests/unit/cli/test_service.py",
    "tests/unit/cli/test_task.py",
    "tests/unit/cli/test_up.py",
    "tests/unit/client/",
    "tests/unit/codec/test_hostile.py",
    "tests/unit/codec/test_newer.py::test_damage",
    "tests/unit/codec/test_newer.py::test_truncated",
    "tests/unit/codec/test_noise.py",
    "tests/unit/codec/test_pieces.py::test_memory_is_a_piece_not_the_value",
    "tests/unit/codec/test_servers.py",
    "tests/unit/control/test_claims.py",
    "tests/unit/control/test_races.py",
    "tests/unit/cutover/test_writers.py",
    "tests/unit/protocol/test_anew.py",
    "tests/unit/protocol/test_cutover.py",
    "tests/unit/protocol/test_finds.py",
    "tests/unit/protocol/test_intake.py",
    "tests/unit/protocol/test_job.py",
    "tests/unit/protocol/test_later_finds.py",
    "tests/unit/protocol/test_load_lanes.py",
    "tests/unit/protocol/test_repair.py",
    "tests/unit/protocol/test_suspects.py",
    "tests/unit/protocol/test_sweep.py",
    "tests/unit/scheduler/simulation/",
    "tests/unit/scheduler/test_tick.py",
    "tests/unit/spool/",
    "tests/unit/verify/test_large.py",
)
"""Tests that take minutes together: `make test-long`."""

BRIEF = (
    "full/test_full.py::test_everything_arrives[valkey-9.1-valkey-9.1]",
    "follow/test_follow.py::test_every_write_takes_effect_once[valkey-9.1-valkey-9.1]",
    "errors/test_settings.py",
    "codec/test_servers.py::test_what_is_loaded_is_what_was_there[valkey-9.1-compiled]",
    "codec/test_servers.py::test_values_are_what_dump_says[redis-6.2]",
    "readme/test_readme.py",
    "service_flower/test_service_flower.py::test_workers_and_jobs",
)
"""Of those, the ones that `make test` runs all the same."""

RARE = (
    "test_addresses.py::test_a_tls_address_of_a_plain_server",
    "test_backlog_gone.py::test_the_snapshot_goes_over_what_is_there",
    "test_children.py::test_a_stopped_child_is_ended_too",
    "test_children.py::test_an_impatient_user_does_not_wait",
    "test_cluster_source.py::test_a_shard_fails_over",
    "test_cluster_target.py::test_a_node_fails_over",
    "test_command.py::test_a_failed_task_ends_with_its_sides_code",
    "test_command.py::test_different_in_words",
    "test_command.py::test_once_it_has_begun_an_unreachable_source",
    "test_command.py::test_options_over_the_settings",
    "test_command.py::test_settings_of_a_later_run",
    "test_command.py::test_what_the_last_run_found_in_sync",
    "test_follow.py::test_a_command_with_more_than_a_million_arguments",
    "test_in_place.py::test_a_rest",
    "test_later_finds.py::test_the_cut_over_waits_until_the_targets_replicas",
    "test_scheduler_copies.py::test_the_leader_is_killed",
    "test_scheduler_killed.py::test_while_a_loader_is_dead",
    "test_sentinel.py::test_a_master_that_was_replaced_and_knows_nothing_of_it",
    "test_shared_spool.py::test_one_snapshot_is_loaded_by_both",
    "test_source_failover.py::test_a_failover_does_not_choose_us",
    "test_source_failover.py::test_wait_counts_what_the_target_has",
    "test_stalled.py::test_in_follow[target]",
    "test_steps.py::test_who_carries_it_out_dies",
    "test_transformed.py::test_a_copy_alone_ends_with_the_sources_times",
    "test_transformed.py::test_a_script_that_fails_stops_at_its_command_until_it_is_corrected[stream]",
    "test_transformed.py::test_what_came_late_under_a_transform",
    "test_up.py::test_a_shared_database_is_not_changed_unasked",
    "test_up.py::test_a_worker_that_is_told_twice",
    "test_up.py::test_what_the_killed_held_is_free_at_once",
    "test_another_host.py::test_what_was_deleted_goes",
    "test_broker_lost.py::test_connections_are_cut_in_follow",
    "test_cluster_target.py::test_a_task_from_its_start_to_its_release",
    "test_command.py::test_different_as_json",
    "test_in_place.py::test_the_cut_over",
    "test_live.py::test_lasting_differences_are_found_under_traffic",
    "test_many_tasks.py::test_their_memory_in_all",
    "test_memory.py::test_huge_sets_and_streams",
    "test_other_versions.py::test_a_steady_flow_of_them",
    "test_other_versions.py::test_every_write_takes_effect_once[redis-8.2-valkey-9.1",
    "test_prefer_replica.py::test_replicas_die_one_after_the_other",
    "test_rdb_file.py::test_killed_while_it_loads",
    "test_scan_reader.py::test_the_pace_of_questions",
    "test_service_flower.py::test_it_is_replaced_at_the_same_address",
    "test_service_flower.py::test_progress_is_shown_and_a_revoke",
    "test_source_restarted.py::test_without_its_stream",
    "test_suspended.py::test_it_goes_on_from_disk",
    "test_up.py::test_flower_of_its_own",
    "test_up.py::test_nodes_of_two_directories",
    "test_worker_drained.py::test_a_stream_worker_is_replaced_in_mid_load",
    "test_memory.py::test_huge_values_are_restored_in_the_stream[redis-6.2",
    "test_memory.py::test_huge_values_in_the_stream",
    "test_cutover.py::test_killed_on_the_way[valkey-9.1",
    "test_connections.py::test_sentinels_over_tls",
    "test_connections.py::test_sentinels_and_servers_with_users",
    "test_prefer_replica.py::test_a_replica_that_is_promoted",
    "test_prefer_replica.py::test_a_replica_that_stands_still",
    "test_cluster_source.py::test_slots_move_under_traffic[redis-7.0-few",
    "test_cluster_source.py::test_slots_move_under_traffic[valkey-9.1-at_once",
    "test_cluster_source.py::test_a_user_with_the_least_and_a_script_that_is_forbidden[redis-7.0",
    "test_cluster_target.py::test_slots_move_under_traffic[to a new node",
    "test_objects_changed.py::test_a_filter_is_widened_and_narrowed",
    "test_repaired.py::test_under_traffic[valkey-9.1",
    "repaired/test_cluster.py::test_a_slot_that_is_on_its_way",
    "test_parts.py::test_each_key_is_in_one_part[redis-7.0",
    "test_parts.py::test_each_key_is_in_one_part[valkey-8.1",
    "test_foreign_write.py::test_in_follow[valkey-9.1",
    "test_expiry_renewed.py::test_none_is_lost[redis-6.2",
    "test_out_of_memory.py::test_in_follow[redis-7.0",
    "test_rdb_file.py::test_standard_input",
    "test_kill_tree.py::test_while_the_source_is_idle",
    "test_full.py::test_everything_arrives[redis-6.2-redis-7.0",
    "test_kill_stream_worker.py::test_in_follow[redis-6.2-pool",
    "test_filtered.py::test_databases_that_are_merged[valkey-9.1",
    "test_transformed.py::test_a_snapshot_that_breaks_off_leaves_nothing",
    "test_copied_state.py::test_both_at_once",
    "test_clock_stepped.py::test_ours_in_follow",
    "test_database_away.py::test_in_follow[stopped-20",
    "test_scan_reader.py::test_all_that_is_there[valkey-9.1",
    "test_scan_reader.py::test_all_that_is_there[redis-8.2",
    "test_scan_reader.py::test_all_that_is_there[redis-6.2",
    "test_scan_reader.py::test_a_source_that_restarts_is_read_anew",
    "test_scan_reader.py::test_huge_values_and_hostile_names",
    "test_cluster_target.py::test_owners_and_loaders_die_under_traffic[valkey-9.1",
    "test_cluster_target.py::test_slots_move_under_traffic[some",
    "test_cluster_source.py::test_owners_and_loaders_die_under_traffic[redis-7.0",
    "test_cluster_source.py::test_owners_and_loaders_die_under_traffic[redis-6.2",
    "test_cluster_source.py::test_owners_and_loaders_die_under_traffic[valkey-8.1",
    "test_cluster_source.py::test_slots_move_under_traffic[redis-6.2",
    "test_cluster_source.py::test_a_user_with_the_least_and_a_script_that_is_forbidden[redis-6.2",
    "test_cluster_target.py::test_owners_and_loaders_die_under_traffic[redis-8.2",
    "test_cluster_target.py::test_owners_and_loaders_die_under_traffic[redis-6.2",
    "test_cluster_target.py::test_owners_and_loaders_die_under_traffic[valkey-8.1",
    "test_cluster_target.py::test_commands_on_keys_of_several_slots[redis-7.0",
    "cutover/test_clusters.py::test_under_traffic",
    "cutover/test_clusters.py::test_between_one_server_and_a_cluster[from",
    "cutover/test_clusters.py::test_slots_that_have_moved",
    "test_to_a_cluster.py::test_every_write",
    "test_to_a_cluster.py::test_sums_over_all_masters_are_right[redis-6.2",
    "test_to_a_cluster.py::test_what_cannot_be_split",
    "test_to_a_cluster.py::test_a_script_is_not_changed",
    "test_to_a_cluster.py::test_slots_that_move",
    "test_sentinel.py::test_both_sides_fail_over[redis-6.2",
    "test_sentinel.py::test_both_sides_fail_over[valkey-9.1",
    "test_transformed.py::test_every_write_is_transformed_exactly_once[redis-6.2",
    "test_transformed.py::test_every_write_is_transformed_exactly_once[valkey-9.1",
    "test_transformed.py::test_a_chunk_is_gone_on_with_where_its_loader_died[whole worker]",
    "test_is_told_and_not_skipped[load-when queued]",
    "test_is_told_and_not_skipped[stream-when queued]",
    "test_objects_changed.py::test_a_database_comes_in_and_another_goes[redis-7.0",
    "test_repaired.py::test_under_traffic[redis-6.2]",
    "test_memory.py::test_huge_values_are_restored_in_the_stream[redis-7.0]",
    "test_sync_types.py::test_full_alone_of_a_source_at_rest",
    "test_rdb_file.py::test_what_each_server_writes[redis-6.2]",
    "test_scan_reader.py::test_all_that_is_there[redis-6.2]",
    "test_scan_reader.py::test_all_that_is_there[redis-8.2]",
    "test_scan_reader.py::test_all_that_is_there[redis-7.0]",
    "test_scan_reader.py::test_a_source_that_restarts_is_read_anew",
    "test_rdb_file.py::test_what_each_server_writes[redis-7.0]",
    "test_rdb_file.py::test_what_each_server_writes[valkey-8.1]",
    "test_filtered.py::test_what_is_in_scope_is_exact[valkey-9.1",
    "test_filtered.py::test_what_is_in_scope_is_exact[redis-6.2",
    "test_filtered.py::test_databases_that_are_merged[redis-7.0",
    *(
        f"test_other_versions.py::test_every_write_takes_effect_once[{pair}"
        for pair in (
            "redis-3.2",  # it and the next must be compiled, `make old-servers`
            "redis-5.0",
            "redis-8.2-redis-8.2",
            "redis-8.2-redis-7.0",
            "redis-7.0-redis-6.2",
            "valkey-8.1-redis-7.0",
            "valkey-9.1-valkey-8.1",
            "valkey-9.1-redis-8.2",
        )
    ),
    *(f"test_commands_that_the_target_does_not_know[{kind}]" for kind in ("redis-6.2", "valkey-9.1")),
    "test_scripts.py::test_scripts_that_read_times_and_scripts_that_the_target_has_lost[redis-3.2",
    *(f"test_the_times_that_a_script_gives_are_the_sources[{pair}" for pair in ("redis-3.2", "redis-6.2-redis-6.2")),
    *(f"test_permissions.py::test_they_are_enough[{pair}" for pair in ("redis-6.2", "valkey-9.1")),
    "test_command.py::test_two_at_once_on_one_directory",
    "test_follow.py::test_every_write_takes_effect_once[redis-6.2-redis-6.2]",
    "test_judge.py::test_memory_does_not_depend_on_the_number_of_keys",
    "test_late_bytes.py::test_of_a_load_worker",
    "test_target_restarted.py::test_without_what_was_loaded_last",
    "test_up.py::test_a_state_directory_with_a_long_path",
    "test_up.py::test_two_at_once_on_one_directory",
    "test_backlog_gone.py::test_in_mid_run",
    "test_command.py::test_a_signal_stops_it_and_it_goes_on_later[15",
    "test_cutover.py::test_an_older_copy_of_the_state_directory_writes_nothing",
    "test_database_locked.py::test_in_follow",
    "test_database_rolled_back.py::test_the_stream_goes_on[chunks are open]",
    "test_failures.py::test_memory_does_not_depend_on_the_size_of_values",
    *(
        f"test_histories.py::test_the_model_notices_what_is_left_out[{name}"
        for name in ("batches have no chain", "windows do not watch the token")
    ),
    "test_kill_load_worker.py::test_the_chunk_is_loaded_again[whole worker]",
    "test_live.py::test_keys_that_never_rest_raise_no_alarm[valkey-8.1",
    "test_outlived.py::test_a_hash_whose_last_field_expired_is_no_difference[redis-8.2-large",
    "test_power_cut.py::test_chunk_files_are_torn[zeros]",
    "test_among_commands_that_carry_the_foreign_value_on[killed-valkey-9.1",
    "test_sql.py::test_a_clock_that_jumps_all_day_fails_nobody",
    "test_sql.py::test_a_task_fails_when_both_clocks_have_seen_its_window_and_never_else",
    "test_target_failover.py::test_by_failover_and_back",
    "test_target_restarted.py::test_with_its_data",
    "test_database_away.py::test_in_full_sync[silent-20]",
    "test_fuzz.py::test_damage_ends_in_typed_errors[60",
    "test_among_commands_that_carry_the_foreign_value_on[alive",
    "test_kill_stream_worker.py::test_in_follow[valkey-9.1-whole worker]",
    "test_clock_stepped.py::test_the_sources",
    "test_target_emptied.py::test_it_restarts_without_its_data",
    "test_histories.py::test_the_model_notices_what_is_left_out[batches do not look",
    "test_stalled.py::test_in_follow[source]",
    "test_suspended.py::test_at_the_limit_the_link_is_closed",
    "test_database_rolled_back.py::test_back_to_an_earlier_snapshot",
    "test_broker_lost.py::test_connections_are_cut_in_mid_load",
    "test_clock_stepped.py::test_ours_in_full_sync",
    "test_clock_stepped.py::test_ours_while_the_target_is_away",
    "test_copied_state.py::test_in_turn",
    "test_copied_state.py::test_the_fenced_one_stays_so",
    "test_copied_state.py::test_the_log_ends_long_before_the_backlog",
    "test_copied_state.py::test_the_later_fences_the_earlier[copy-original]",
    "test_cut_connection.py::test_at_a_random_byte[source-valkey-9.1]",
    "test_cut_connection.py::test_in_follow[cut_source]",
    "test_cut_connection.py::test_in_follow[cut_target]",
    "test_cutover.py::test_another_extension[valkey-9.1]",
    "test_steps.py::test_writes_are_paused_for_a_moment_and_late_ones_are_told[redis-6.2",
    "test_cutover.py::test_every_expiry_is_the_sources[redis-6.2",
    "test_database_rolled_back.py::test_the_stream_goes_on[no snapshot]",
    "test_database_rolled_back.py::test_until_full",
    "test_expiry_renewed.py::test_none_is_lost[valkey-9.1]",
    "test_follow.py::test_every_write_takes_effect_once[redis-7.0-valkey-9.1]",
    "test_full.py::test_a_snapshot_comes_with_an_end_mark_or_a_size[yes]",
    "test_full.py::test_everything_arrives[redis-7.0-valkey-8.1]",
    "test_kill_tree.py::test_in_follow[redis-6.2]",
    "test_link_down.py::test_for_longer_than_the_extension[redis-7.0-link",
    "test_live.py::test_keys_that_never_rest_raise_no_alarm[redis-6.2",
    "test_live.py::test_traffic_of_all_kinds_raises_no_alarm[redis-6.2",
    "test_state.py::test_ctrl_c_at_any_time_leaves_nothing_behind[0.2",
    "test_state.py::test_ctrl_c_at_any_time_leaves_nothing_behind[0.7",
    "test_state.py::test_ctrl_c_at_any_time_leaves_nothing_behind[2.0",
    *(f"test_planted.py::test_small_values[{kind}" for kind in ("redis-6.2", "redis-7.0")),
    *(f"test_planted.py::test_large_values[{kind}" for kind in ("redis-6.2", "redis-7.0")),
    *(f"test_judge.py::test_each_planted_difference_is_found[{kind}" for kind in ("redis-6.2", "redis-7.0")),
    *(f"test_copies.py::test_a_replica_is_equal[{kind}" for kind in ("redis-7.0-to-redis", "valkey-8.1")),
    *(f"with_later_expiries_is_equal_only_to_what_was_asked[{kind}" for kind in ("redis-7.0-to-redis", "valkey-8.1")),
    "test_copies.py::test_speed",
    "raises_no_alarm[redis-7.0",
    "raise_no_alarm[redis-7.0",
    "test_outlived.py::test_keys_that_expired_on_the_source_are_no_difference_and_cost_no_time[redis-7.0",
    "test_clock_stepped.py::test_the_sources[valkey-8.1]",
    "test_clock_stepped.py::test_the_targets",
    "test_copied_state.py::test_the_later_fences_the_earlier[original-copy]",
    "test_database_away.py::test_in_follow[silent-20]",
    "test_database_away.py::test_in_full_sync[stopped-20]",
    "test_evicted.py::test_in_follow[redis-6.2-allkeys-random]",
    "test_evicted.py::test_in_full_sync",
    "test_link_down.py::test_for_longer_than_the_extension[redis-6.2",
    "test_link_down.py::test_for_longer_than_the_extension[redis-7.0-mended",
    "test_link_down.py::test_for_longer_than_the_extension[redis-7.0-standing",
    "test_link_down.py::test_for_longer_than_the_extension[valkey-9.1",
    "test_suspended.py::test_a_stream_that_stops_closes_its_link",
    "test_database_away.py::test_in_follow[silent-60]",
    "test_database_away.py::test_in_follow[stopped-60]",
    "test_database_away.py::test_in_full_sync[silent-60]",
    "test_database_away.py::test_in_full_sync[stopped-60]",
    "test_cutover.py::test_every_expiry_is_the_sources[redis-7.0",
    "test_cutover.py::test_with_a_writer_that_has_not_stopped[redis-7.0",
    "test_cutover.py::test_killed_on_the_way[redis-6.2",
    "test_cutover.py::test_killed_on_the_way[redis-7.0",
    "test_cutover.py::test_another_extension[redis-7.0",
    "test_database_rolled_back.py::test_the_stream_goes_on[snapshot arrives]",
    "test_evicted.py::test_in_follow[redis-6.2-allkeys-lru]",
    "test_evicted.py::test_in_follow[valkey-9.1-allkeys-random]",
    "test_expiry_renewed.py::test_none_is_lost[redis-7.0",
    "test_foreign_write.py::test_in_follow[redis-6.2]",
    "test_follow.py::test_every_write_takes_effect_once[redis-7.0-redis-7.0]",
    "test_follow.py::test_every_write_takes_effect_once[valkey-8.1",
    "test_scripts.py::test_scripts_are_carried_where_the_source_sends_them[redis-7.0",
    "test_full.py::test_everything_arrives[redis-6.2-redis-6.2]",
    "test_full.py::test_everything_arrives[redis-7.0-redis-7.0]",
    "test_full.py::test_everything_arrives[valkey-8.1-valkey-8.1]",
    "test_full.py::test_everything_arrives[valkey-8.1-valkey-9.1]",
    "test_kill_stream_worker.py::test_in_follow[redis-6.2-whole worker]",
    "test_kill_stream_worker.py::test_in_follow[valkey-9.1-pool child]",
    "test_kill_tree.py::test_in_full_sync[2]",
    "test_kill_tree.py::test_in_follow[redis-7.0]",
    "test_kill_tree.py::test_in_follow[valkey-9.1]",
    "test_out_of_memory.py::test_in_follow[redis-6.2]",
    "test_out_of_memory.py::test_in_follow[valkey-9.1]",
    "test_power_cut.py::test_chunk_files_are_torn[empty]",
    "test_power_cut.py::test_chunk_files_are_torn[short]",
    "test_power_cut.py::test_the_log_is_torn[flipped]",
    "test_power_cut.py::test_the_log_is_torn[zeros]",
    "test_among_commands_that_carry_the_foreign_value_on[alive-valkey-9.1]",
    "test_among_commands_that_carry_the_foreign_value_on[killed-redis-6.2]",
    "test_replica_source.py::test_the_streams_database[redis-7.0]",
    "test_replica_source.py::test_the_streams_database[valkey-8.1]",
    "test_source_failover.py::test_failover_to_its_replica[redis-7.0]",
    "test_stalled.py::test_in_follow[broker]",
    "test_target_failover.py::test_to_a_replica_that_lags[redis-7.0]",
    "test_transactions_whole.py::test_the_sum_is_constant[redis-7.0]",
    "test_transactions_whole.py::test_the_sum_is_constant[valkey-9.1]",
)
"""Of the long ones, those that differ from another in the servers or the manner, or take longest: `make test-all`."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even read files of which `make test` runs nothing: each of its processes would."""
    name = collection_path.relative_to(config.rootpath).as_posix()
    if collection_path.suffix != ".py" or config.option.markexpr != "not long":
        return None
    return (name.startswith(LONG) and not any(brief.partition("::")[0] in name for brief in BRIEF)) or None


SLOW = (
    "test_cluster_target.py",
    "test_cluster_source.py",
    "test_transformed.py",
    "test_objects_changed.py",
    "test_places.py",
    "test_repaired.py",
    "test_verified.py",
    "test_sync_types.py::test_incremental",
    "test_a_steady_flow_of_them",
    "test_filtered.py::test_what_is_in_scope",
    "test_filtered.py::test_databases_that_are_merged",
    "test_from_nothing_to_a_sync_and_its_end",
    "test_load_and_stream_without_a_compiled_core",
    "test_memory.py::test_huge_values",
    "test_the_source_does_not_feel_it",
    "test_many_tasks.py::test_their_memory",
    "test_three_tasks_outlive_a_host",
    "test_stalled.py::test_in_follow",
    "test_expiry_renewed.py::test_none_is_lost",
    "test_life.py::test_from_create_to_release",
    "test_database_away.py::test_in_follow",
    "test_cutover.py::test_killed_on_the_way",
    "test_steps.py::test_who_carries_it_out_dies",
    "cutover/test_clusters.py",
    "test_to_a_cluster.py",
    "test_runbook.py",
    "test_everything_is_restarted_in_turn",
    "test_out_of_memory.py::test_in_follow",
    "test_another_host.py::test_what_was_deleted_goes",
    "test_cut_connection.py::test_at_a_random_byte",
    "test_link_down.py::test_for_longer",
    "test_target_emptied.py::test_somebody",
    "test_suspended.py::test_it_goes_on_from_disk",
    "test_lasting_differences_are_found_under_traffic",
    "test_power_cut.py::test_the_log_is_torn",
    "test_kill_tree.py::test_while_the_source_is_idle",
)
"""Half a minute and more each: one that begins last would keep all others waiting."""
WORKERS = 4
"""pytest-xdist gives each of them a part of the list, in its order, before they take from each other."""


def begin_with_the_slow(items: list[pytest.Item]) -> list[pytest.Item]:
    """As many parts as there are workers, the slow tests dealt out to their beginnings."""
    slow = [item for item in items if any(name in item.nodeid for name in SLOW)]
    rest = [item for item in items if item not in slow]
    ordered: list[pytest.Item] = []
    for number in range(WORKERS):
        mine = slow[number::WORKERS]
        upto = len(items) * (number + 1) // WORKERS - len(ordered) - len(mine)
        ordered += mine + rest[:upto]
        rest = rest[upto:]
    return ordered


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark the tests of `make test-long`, and those of `make test-all` alone; order those that were asked for."""
    for item in items:
        if item.nodeid.startswith(LONG) and not any(brief in item.nodeid for brief in BRIEF):
            item.add_marker("long")
        if item.get_closest_marker("long") and any(rare in item.nodeid for rare in RARE):
            item.add_marker("rare")
    yield
    items[:] = begin_with_the_slow(items)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers, `server("redis-6.2", config={...})`; all end with the test, their logs stay."""
    with ExitStack() as stack:

        def begin(
            kind: str,
            *,
            config: Mapping[str, str] | None = None,
            dir: Path | None = None,
            env: Mapping[str, str] | None = None,
        ) -> Server:
            place = dir or tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(start(kind, config=config, dir=place, env=env))

        yield begin


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL's database `postgres`, for the tests of one process."""
    with postgresql.start() as url:
        yield url
