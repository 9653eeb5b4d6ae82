//! What every back end has to do: the contract of the ports in `seckill-core`, as checks. A back end's test crate says
//! how it is opened, and [`conformance!`](crate::conformance!) makes a test of each check.
//!
//! Each check gets a back end of its own, since a queue is one for all sales. What one back end cannot do by its nature,
//! such as keeping the pending log of a gate in memory, is tested in its own crate.

#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

pub mod capacity;
pub mod control;
pub mod crowd;
pub mod events;
pub mod fates;
pub mod gate;
pub mod ledger;
pub mod lifecycle;
pub mod lost_gate;
pub mod money;
pub mod outbox;
pub mod parked;
pub mod path;
pub mod queue;
pub mod rebuild;
pub mod sale_changes;
pub mod sold_out;
mod support;
pub mod waiting;

pub use support::Subject;

/// Makes a `#[tokio::test]` of every check. The argument names an async function without arguments that returns a
/// [`Subject`](crate::conformance::Subject); it is called once a test.
#[macro_export]
macro_rules! conformance {
    ($subject:ident) => {
        $crate::conformance_checks! { $subject, gate:
            an_empty_gate_has_no_level
            opening_again_fills_once
            an_older_opening_changes_nothing
            claims_are_decided_in_order
            nothing_is_reserved_outside_the_window
            after_the_close_a_buyer_still_gets_the_order
            the_same_call_again_deducts_once
            an_order_id_twice_in_a_batch_deducts_once
            a_retry_gets_the_first_order
            an_unknown_sale_fails_closed
            another_epoch_fails_closed
            settling_empties_the_pending_log
            settled_entries_ride_along_with_a_reserve
            stranded_reservations_come_oldest_first
            a_reservation_is_stranded_once_it_is_old_enough
            holdings_are_listed_by_user_and_sale
            sales_do_not_touch_each_other
            the_largest_values_come_back_as_they_went_in
        }
        $crate::conformance_checks! { $subject, lost_gate:
            the_condition_says_what_is_wrong
            a_fence_stops_reservations_and_keeps_what_is_held
            pages_of_holders_show_everyone
            a_refilled_gate_knows_its_holders_and_sells_the_rest
            a_refill_that_is_not_whole_changes_nothing
            an_empty_gate_is_refilled
            a_rejected_order_comes_back_once
            a_user_may_order_again_while_the_released_order_is_pending
            markers_are_made_while_orders_may_be_on_their_way
            orders_that_are_sent_again_may_arrive
            progress_goes_forward_only
            what_a_silent_worker_holds_is_forgotten
            a_removed_sale_leaves_nothing_behind
            a_new_sale_of_the_same_id_inherits_nothing
            known_sales_come_back_as_they_were_kept
        }
        $crate::conformance_checks! { $subject, queue:
            a_batch_comes_out_as_it_went_in
            the_largest_batch_comes_out_as_it_went_in
            unacknowledged_batches_come_back
            acknowledged_batches_never_come_back
            prefetch_bounds_what_a_consumer_holds
            a_cancelled_wait_loses_nothing
            many_publishers_at_once_lose_nothing
            several_consumers_share_the_batches
            a_waiting_consumer_gets_what_is_published_later
            the_depth_counts_what_waits
            batches_survive_a_reopen
        }
        $crate::conformance_checks! { $subject, parked:
            a_parked_message_is_kept_with_its_reason
            parked_messages_are_listed_oldest_first
            a_redriven_message_is_delivered_again
            a_redriven_message_can_be_parked_again
            a_discarded_message_is_gone
            parked_messages_survive_a_reopen
            a_marker_comes_after_what_was_published_before_it
            the_consumers_are_counted
        }
        $crate::conformance_checks! { $subject, ledger:
            a_sale_reads_back_as_written
            sales_are_listed_newest_first
            an_epoch_is_never_lowered
            a_new_order_is_committed
            a_redelivered_order_is_answered_and_changes_nothing
            an_order_id_twice_in_a_batch_is_one_order
            a_user_has_one_order_in_a_sale
            what_would_oversell_is_rejected
            a_bad_order_is_rejected_alone
            a_rejection_is_final
            a_batch_may_hold_orders_of_several_sales
            an_order_belongs_to_the_sale_it_was_first_given_for
            a_users_orders_come_oldest_first
            a_sales_orders_come_page_by_page
            an_unknown_order_is_none
            many_orders_are_looked_up_at_once
            the_largest_values_are_kept
            an_empty_batch_is_nothing
            a_large_batch_is_committed_whole
            orders_survive_a_reopen
        }
        $crate::conformance_checks! { $subject, rebuild:
            the_ledgers_id_survives_a_reopen
            a_rebuild_begins_from_the_epoch_it_names
            of_rebuilds_begun_at_once_one_wins
            of_workers_that_take_up_rebuilds_at_once_one_gets_them_all
            a_takeover_that_waited_for_a_refill_changes_nothing
            a_rebuild_has_one_owner_while_its_lease_holds
            orders_of_an_earlier_epoch_are_stale_once_the_sale_is_open
            a_commit_waits_for_the_refill_and_is_decided_after_it
            no_commit_slips_in_between_the_refill_and_the_opening
            a_lock_that_is_dropped_leaves_the_sale_rebuilding
            only_the_owner_of_a_rebuild_gets_the_lock
            a_locked_sales_active_orders_come_page_by_page
            a_lost_sale_is_restored_under_its_id
            what_was_rejected_before_its_sale_existed_is_counted
            missing_orders_are_those_without_an_end
            an_open_sale_is_closed_out_and_a_rebuilding_one_is_not
            unfinished_sales_come_page_by_page
        }
        $crate::conformance_checks! { $subject, lifecycle:
            a_commit_writes_its_events_with_its_orders
            a_batch_that_is_partly_known_tells_of_the_rest
            a_sale_without_a_window_tells_nothing
            overdue_orders_come_page_by_page
            a_cancelled_order_is_returning_until_the_gate_has_taken_it_back
            a_paid_order_keeps_its_units_until_it_is_refunded
            a_transaction_that_is_dropped_changes_nothing
            locked_orders_come_by_id_and_unknown_ones_not_at_all
            an_event_is_taken_in_once
            a_consumer_that_looks_before_it_acts_acts_twice
            effects_add_up
            states_survive_a_reopen
        }
        $crate::conformance_checks! { $subject, money:
            a_saga_reads_back_as_written
            running_sagas_are_due_when_their_time_has_come
            refunds_that_have_not_ended_are_counted_and_the_newest_shown
            a_balance_is_never_overdrawn
            a_coupon_is_used_for_one_order
            a_request_is_new_once
            entries_add_up_to_the_money_of_a_sale
            effects_of_refund_events_are_counted
        }
        $crate::conformance_checks! { $subject, outbox:
            events_are_claimed_oldest_first_and_by_one
            claimers_at_once_get_different_events
            a_lease_that_is_over_gives_the_event_back
            a_sent_event_comes_again_only_when_it_is_redriven
            a_refused_event_is_due_again_later
            a_parked_event_holds_up_nobody
            a_parked_event_is_discarded_for_good
            the_depth_tells_what_waits
            sent_events_that_nobody_took_in_are_found
            old_sent_events_are_removed
        }
        $crate::conformance_checks! { $subject, events:
            a_subscriber_gets_what_it_wants
            an_event_reaches_every_subscriber
            a_new_subscriber_gets_what_comes_after_it
            events_are_kept_while_a_subscriber_is_away
            unacknowledged_events_come_again
            a_slow_subscriber_holds_its_prefetch_and_slows_nobody
            receivers_of_one_name_share_its_events
            a_cancelled_wait_for_an_event_loses_nothing
            other_patterns_replace_those_before
            a_parked_event_waits_for_a_human
            an_unsubscribed_name_keeps_nothing
            events_survive_a_reopen
        }
        $crate::conformance_checks! { $subject, control:
            snapshots_reach_everyone_who_listens
            settings_come_with_every_exchange
            of_two_changes_at_once_one_is_made
            the_load_run_that_was_kept_last_is_the_one_that_is_kept
        }
        $crate::conformance_checks! { $subject, capacity:
            workers_share_one_total
            a_part_of_the_lowest_total_is_safe
            a_share_that_is_given_back_is_free
            the_share_of_a_silent_worker_is_free_after_its_lease
            the_shares_never_exceed_the_total
        }
        $crate::conformance_checks! { $subject, fates:
            every_listener_hears_what_became_of_a_batch
            a_redelivered_order_is_said_to_have_changed
            changes_after_the_commit_are_heard
            a_large_batch_is_heard_whole
        }
        $crate::conformance_checks! { $subject, waiting:
            a_room_is_opened_once
            an_arrival_keeps_its_number
            the_draw_takes_place_at_the_start
            the_inlet_follows_its_rate_whoever_asks
            the_inlet_follows_the_stock_and_the_gate
            a_place_that_was_not_used_goes_on
            an_unknown_room_is_none
            places_survive_a_reopen
            a_word_is_spent_once
        }
        $crate::conformance_checks! { $subject, path:
            an_order_goes_all_the_way
            a_crash_between_reserve_and_publish_loses_nothing
            an_ack_that_was_never_sent_doubles_nothing
            a_batch_published_twice_doubles_nothing
            a_batch_committed_without_an_answer_doubles_nothing
            a_reopened_gate_sells_only_what_is_left
        }
        $crate::conformance_checks! { $subject, sold_out:
            a_sale_without_units_is_sold_out
            a_sale_that_is_over_is_not_sold_out
            a_gate_that_cannot_be_trusted_does_not_say_sold_out
            every_return_of_units_is_counted
            returned_units_are_withheld_while_none_were_left
            units_that_come_back_to_others_are_not_withheld
            a_new_filling_of_a_sold_out_gate_is_withheld
        }
        $crate::conformance_checks! { $subject, sale_changes:
            a_key_creates_one_sale
            a_change_reads_back_as_made
            changes_at_once_all_hold
            a_change_that_is_not_allowed_changes_nothing
            a_sale_that_was_changed_meanwhile_is_not_closed_out
            a_lost_change_is_restored
            a_paused_sale_answers_its_holders_only
            the_gate_follows_the_end_of_a_sale
            a_raise_adds_its_units_once
            a_filled_gate_has_the_changes_of_its_sale
            a_change_of_another_sale_is_left_alone
            a_change_that_never_reached_the_gate_heals
            the_audit_stays_good_while_stock_is_raised_under_load
        }
        $crate::conformance_checks! { $subject, crowd:
            a_thousand_tasks_do_not_oversell
            concurrent_writers_give_each_order_one_end
            buyers_at_once_get_every_unit_and_no_more
        }
    };
}

/// One module of [`conformance!`](crate::conformance!).
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_checks {
    ($subject:ident, $part:ident: $($check:ident)*) => {
        mod $part {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    $crate::conformance::$part::$check(super::$subject().await).await;
                }
            )*
        }
    };
}

#[cfg(test)]
mod tests {
    /// A check that the macro does not list would silently never run.
    #[test]
    fn every_check_is_listed() {
        let list = include_str!("conformance.rs");
        let parts = [
            ("gate", include_str!("conformance/gate.rs")),
            ("lost_gate", include_str!("conformance/lost_gate.rs")),
            ("queue", include_str!("conformance/queue.rs")),
            ("parked", include_str!("conformance/parked.rs")),
            ("ledger", include_str!("conformance/ledger.rs")),
            ("rebuild", include_str!("conformance/rebuild.rs")),
            ("lifecycle", include_str!("conformance/lifecycle.rs")),
            ("money", include_str!("conformance/money.rs")),
            ("outbox", include_str!("conformance/outbox.rs")),
            ("events", include_str!("conformance/events.rs")),
            ("fates", include_str!("conformance/fates.rs")),
            ("path", include_str!("conformance/path.rs")),
            ("control", include_str!("conformance/control.rs")),
            ("capacity", include_str!("conformance/capacity.rs")),
            ("sold_out", include_str!("conformance/sold_out.rs")),
            ("sale_changes", include_str!("conformance/sale_changes.rs")),
            ("waiting", include_str!("conformance/waiting.rs")),
            ("crowd", include_str!("conformance/crowd.rs")),
        ];
        for (part, text) in parts {
            let (_, listed) = list.split_once(&format!(" {part}:\n")).unwrap();
            let (listed, _) = listed.split_once('}').unwrap();
            let listed: Vec<_> = listed.split_whitespace().collect();
            let written: Vec<_> = text
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
                .collect();
            assert_eq!(listed, written, "{part}");
        }
    }
}
