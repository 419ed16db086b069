use std::sync::Arc;

use bytes::BytesMut;
use pgherd_sql::{Pin, PinSet, Step};
use pgherd_wire::backend::{TransactionStatus, tag};

use super::{Closed, CopyFlow, Exchange, Owed, Undo, Verdict};
use crate::following::Following;
use crate::prepared::{Held, Reach, Registry, ServerStatements, Source, Unnamed};

type Talk = Exchange<()>;

fn parse(hidden: bool) -> Owed<()> {
    Owed::Parse {
        hidden,
        undo: Undo::Parsed {
            on_server: Some(ServerStatements::new(1, 0).insert(7, 0)),
            by_client: None,
        },
    }
}

fn quiet(talk: &mut Talk, message: u8) -> Verdict {
    talk.received(message, |undo| {
        panic!("nothing is to be taken back, but {undo:?} was")
    })
}

#[test]
fn a_simple_query_ends_at_ready_for_query() {
    let mut talk = Talk::default();
    talk.sent(Owed::Query);
    for message in [tag::ROW_DESCRIPTION, tag::DATA_ROW, tag::COMMAND_COMPLETE] {
        assert_eq!(quiet(&mut talk, message), Verdict::Forward);
        assert!(!talk.is_over());
    }
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert!(talk.is_over());
}

#[test]
fn an_open_transaction_keeps_the_server() {
    let mut talk = Talk::default();
    talk.sent(Owed::Query);
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    talk.ready(TransactionStatus::InTransaction);
    assert!(!talk.is_over());
}

#[test]
fn nothing_is_over_on_a_lost_connection() {
    let mut talk = Talk::default();
    talk.sent(Owed::Setup);
    talk.ready(TransactionStatus::Idle);
    assert!(talk.is_over());
    talk.lose();
    assert!(!talk.is_over() && !talk.is_unasked() && talk.doubtful());
}

#[test]
fn our_own_messages_stay_unseen() {
    let mut talk = Talk::default();
    talk.sent(Owed::Setup);
    talk.sent(parse(true));
    talk.sent(Owed::Bind { of: None });
    talk.sent(Owed::Sync);
    assert_eq!(quiet(&mut talk, tag::PARAMETER_STATUS), Verdict::Swallow);
    assert_eq!(quiet(&mut talk, tag::DATA_ROW), Verdict::Swallow);
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Swallow);
    assert_eq!(quiet(&mut talk, tag::PARSE_COMPLETE), Verdict::Swallow);
    assert_eq!(quiet(&mut talk, tag::BIND_COMPLETE), Verdict::Forward);
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert!(talk.is_over());
}

/// Our settings and a BEGIN, before a query of the client's.
fn ahead() -> Talk {
    let mut talk = Talk::default();
    talk.sent(Owed::Ahead { opens: false });
    talk.sent(Owed::Setup);
    talk.sent(Owed::Ahead { opens: true });
    assert!(talk.is_unasked() && talk.owes() && !talk.owes_client());
    talk.sent(Owed::Query);
    talk
}

#[test]
fn what_goes_ahead_stays_unseen_and_opens_its_block() {
    let mut talk = ahead();
    let seen = [tag::PARSE_COMPLETE, tag::BIND_COMPLETE, tag::DATA_ROW];
    for message in seen.into_iter().chain([tag::PARAMETER_STATUS]) {
        assert_eq!(quiet(&mut talk, message), Verdict::Swallow);
    }
    assert_eq!(quiet(&mut talk, tag::COMMAND_COMPLETE), Verdict::Swallow);
    assert!(talk.goes_ahead() && talk.in_setup() && !talk.is_ahead());
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Swallow);
    assert_eq!(talk.status(), TransactionStatus::Idle);
    assert!(talk.is_ahead());
    assert_eq!(quiet(&mut talk, tag::COMMAND_COMPLETE), Verdict::Swallow);
    // Should the client have its answer from us, the server is in a block all the same.
    assert_eq!(talk.status(), TransactionStatus::InTransaction);
    assert!(!talk.goes_ahead() && !talk.in_setup() && talk.owes_client());
}

#[test]
fn a_sync_is_the_last_that_may_be_sent_before_what_goes_ahead_is_answered() {
    let mut talk = ahead();
    assert!(!talk.is_synced_ahead());
    talk.sent(Owed::OurSync);
    assert!(talk.is_synced_ahead());
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    talk.ready(TransactionStatus::Idle);
    assert!(talk.is_synced_ahead());
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    assert!(!talk.is_synced_ahead() && !talk.goes_ahead());
    // What the client sends in a block of its own is another matter.
    talk.sent(Owed::Sync);
    assert!(!talk.is_synced_ahead());
}

#[test]
fn nothing_runs_behind_what_goes_ahead_and_fails() {
    let mut talk = ahead();
    assert_eq!(quiet(&mut talk, tag::ERROR_RESPONSE), Verdict::Swallow);
    assert!(!talk.owes() && talk.skipping() && !talk.is_over());
}

#[test]
fn what_is_ours_alone_is_not_owed_to_the_client() {
    let mut talk = Talk::default();
    talk.sent(Owed::Setup);
    talk.sent(parse(true));
    talk.sent(Owed::OurSync);
    assert!(talk.owes() && !talk.owes_client());
    talk.sent(Owed::Query);
    assert!(talk.owes_client());
}

#[test]
fn flush_without_sync_keeps_the_server() {
    let mut talk = Talk::default();
    talk.sent(parse(false));
    assert_eq!(quiet(&mut talk, tag::PARSE_COMPLETE), Verdict::Forward);
    assert!(!talk.owes());
    assert!(!talk.is_over());
    talk.sent(Owed::Sync);
    talk.ready(TransactionStatus::Idle);
    assert!(talk.is_over());
}

#[test]
fn a_block_is_sure_to_have_failed_only_while_nothing_may_have_got_it_out() {
    let mut talk = Talk::default();
    assert!(!talk.has_failed());
    let fail = |talk: &mut Talk| {
        talk.sent(Owed::Query);
        quiet(talk, tag::ERROR_RESPONSE);
        talk.ready(TransactionStatus::Failed);
        assert!(talk.has_failed());
    };
    fail(&mut talk);
    talk.sent(Owed::Query);
    assert!(!talk.has_failed(), "it may be a ROLLBACK");
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    talk.ready(TransactionStatus::Idle);
    fail(&mut talk);
    talk.sent(parse(false));
    talk.sent(Owed::Bind { of: None });
    assert!(talk.has_failed(), "nothing is run by that");
    talk.sent(Owed::Execute);
    for message in [
        tag::PARSE_COMPLETE,
        tag::BIND_COMPLETE,
        tag::COMMAND_COMPLETE,
    ] {
        assert!(!talk.has_failed());
        quiet(&mut talk, message);
    }
    assert!(!talk.owes() && !talk.has_failed(), "no Sync has come yet");
    talk.sent(Owed::Sync);
    talk.ready(TransactionStatus::Failed);
    assert!(talk.has_failed());
}

#[test]
fn an_error_takes_back_what_is_skipped_up_to_the_sync() {
    let mut talk = Talk::default();
    talk.sent(Owed::Bind { of: None });
    talk.sent(parse(true));
    talk.sent(Owed::Query); // skipped too: the server discards all but Sync
    talk.sent(Owed::Sync);
    talk.sent(parse(false));
    talk.sent(Owed::Sync);
    let mut undone = 0;
    assert_eq!(
        talk.received(tag::ERROR_RESPONSE, |_| undone += 1),
        Verdict::Forward
    );
    assert_eq!(undone, 1);
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert_eq!(quiet(&mut talk, tag::PARSE_COMPLETE), Verdict::Forward);
    talk.ready(TransactionStatus::Idle);
    assert!(talk.is_over());
}

#[test]
fn an_error_before_the_sync_was_sent_skips_what_follows() {
    let mut talk = Talk::default();
    talk.sent(Owed::Bind { of: None });
    assert_eq!(quiet(&mut talk, tag::ERROR_RESPONSE), Verdict::Forward);
    assert!(talk.skipping() && !talk.is_over());
    talk.sent(Owed::Sync);
    assert!(!talk.skipping());
    talk.ready(TransactionStatus::Idle);
    assert!(talk.is_over());
}

#[test]
fn a_sure_failure_is_worded_by_us() {
    let mut talk = Talk::default();
    talk.sent(Owed::Fail((*b"ours").into()));
    talk.sent(Owed::Sync);
    assert_eq!(
        quiet(&mut talk, tag::ERROR_RESPONSE),
        Verdict::Replace((*b"ours").into())
    );
    assert_eq!(talk.ready(TransactionStatus::Failed), Verdict::Forward);
}

#[test]
fn local_replies_wait_for_their_turn() {
    let mut talk = Talk::default();
    talk.sent(parse(false));
    talk.sent(Owed::Local {
        reply: b"x",
        undo: Undo::Nothing,
    });
    assert_eq!(talk.local(), None);
    quiet(&mut talk, tag::PARSE_COMPLETE);
    assert_eq!(talk.local(), Some(&b"x"[..]));
    assert_eq!(talk.local(), None);
}

#[test]
fn what_a_close_ends_is_counted_until_that_is_sure() {
    let registry = Registry::<()>::default();
    let closed = |text: &[u8]| {
        let statement = registry.own(&Arc::default(), Source::Parse, text, Reach::Own, ());
        let (name, shape) = (Box::from(&b"name"[..]), None);
        let held = Held { statement, shape };
        let gone = None;
        Undo::Closed(Box::new(Closed { name, held, gone }))
    };
    let mut talk = Talk::default();
    talk.sent(parse(false));
    assert_eq!(talk.kept_bytes(), 0);
    let undo = closed(b"select 1");
    talk.sent(Owed::Local { reply: b"", undo });
    let undo = closed(b"select");
    talk.sent(Owed::Close {
        hidden: false,
        undo,
    });
    assert_eq!(talk.kept_bytes(), 4 + 8 + 4 + 6);
    // Before the Sync the name is skipped together with its Close.
    assert!(!talk.may_reopen(b"name"));
    talk.sent(Owed::Sync);
    assert!(talk.may_reopen(b"name") && !talk.may_reopen(b"other"));
    quiet(&mut talk, tag::PARSE_COMPLETE);
    talk.local();
    assert_eq!(talk.kept_bytes(), 4 + 6);
    assert!(talk.may_reopen(b"name"));
    quiet(&mut talk, tag::CLOSE_COMPLETE);
    assert_eq!(talk.kept_bytes(), 0);
    assert!(!talk.may_reopen(b"name"));
}

#[test]
fn an_unnamed_statement_is_kept_by_an_error_before_its_end() {
    let talk = || {
        let mut talk = Talk::default();
        talk.sent(Owed::Bind { of: None });
        let unnamed = Unnamed::Parsed {
            tail: Box::default(),
            judgement: (),
            read_under: std::sync::Arc::default(),
        };
        let undo = Undo::Kept(Box::new(unnamed));
        talk.sent(Owed::Local { reply: b"", undo });
        let mut following = Following::default();
        following.push(Step::ResetAll);
        talk.sent(Owed::Follow(Box::new(following)));
        talk.sent(Owed::Query);
        talk.sent(Owed::Sync);
        talk
    };
    let mut failed = talk();
    assert!(failed.settles_unnamed_later());
    assert!(!failed.replaces_unnamed_later());
    failed.sent(Owed::Parse {
        hidden: false,
        undo: Undo::Unnamed,
    });
    assert!(!failed.settles_unnamed_later());
    assert!(failed.replaces_unnamed_later());
    let mut failed = talk();
    let mut kept = 0;
    failed.received(tag::ERROR_RESPONSE, |undo| match undo {
        Undo::Kept(unnamed) if matches!(*unnamed, Unnamed::Parsed { .. }) => kept += 1,
        other => panic!("{other:?}"),
    });
    assert_eq!(kept, 1);
    assert_eq!(failed.ready(TransactionStatus::Idle), Verdict::Forward);
    assert!(failed.is_over());

    let mut run = talk();
    assert_eq!(quiet(&mut run, tag::BIND_COMPLETE), Verdict::Forward);
    assert_eq!(run.local(), Some(&b""[..]));
    // What is written down of the query is not lost with it.
    assert!(run.has_following());
    assert!(!run.settles_unnamed_later());
    assert_eq!(quiet(&mut run, tag::ERROR_RESPONSE), Verdict::Forward);
}

#[test]
fn copy_in_by_simple_query() {
    let mut talk = Talk::default();
    talk.sent(Owed::Query);
    quiet(&mut talk, tag::COPY_IN_RESPONSE);
    assert_eq!(talk.copy(), CopyFlow::In);
    talk.sent(Owed::CopyEnd);
    assert_eq!(talk.copy(), CopyFlow::Ended);
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    assert_eq!(talk.copy(), CopyFlow::None);
    talk.ready(TransactionStatus::Idle);
    assert!(talk.is_over());
}

#[test]
fn a_sync_during_copy_in_is_not_answered() {
    let mut talk = Talk::default();
    talk.sent(Owed::Execute);
    talk.sent(Owed::Sync);
    quiet(&mut talk, tag::COPY_IN_RESPONSE);
    talk.sent(Owed::Sync); // ignored as well
    talk.sent(Owed::CopyEnd);
    talk.sent(Owed::Sync);
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert!(talk.is_over());
}

#[test]
fn a_copy_in_whose_sync_came_too_early_is_not_over_before_the_next() {
    let mut talk = Talk::default();
    talk.sent(Owed::Execute);
    talk.sent(Owed::Sync);
    quiet(&mut talk, tag::COPY_IN_RESPONSE);
    talk.sent(Owed::CopyEnd);
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    assert!(!talk.owes() && talk.unsynced() && !talk.is_over());
    talk.sent(Owed::Sync);
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert!(talk.is_over());
    // One that was sent before the answer to the first counts.
    talk.sent(Owed::Execute);
    talk.sent(Owed::Sync);
    talk.sent(Owed::CopyEnd);
    talk.sent(Owed::Sync);
    quiet(&mut talk, tag::COPY_IN_RESPONSE);
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    assert!(talk.owes() && !talk.unsynced());
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert!(talk.is_over());
}

#[test]
fn a_whole_copy_in_one_pipeline() {
    let mut talk = Talk::default();
    talk.sent(Owed::Execute);
    talk.sent(Owed::CopyEnd);
    talk.sent(Owed::Sync);
    quiet(&mut talk, tag::COPY_IN_RESPONSE);
    assert_eq!(talk.copy(), CopyFlow::Ended);
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert!(talk.is_over());
}

#[test]
fn a_failed_extended_copy_leaves_the_connection_in_doubt() {
    let mut talk = Talk::default();
    talk.sent(Owed::Execute);
    talk.sent(Owed::Sync);
    quiet(&mut talk, tag::COPY_IN_RESPONSE);
    quiet(&mut talk, tag::ERROR_RESPONSE);
    talk.sent(Owed::CopyEnd);
    talk.sent(Owed::Sync);
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert!(talk.doubtful() && !talk.is_over());
}

#[test]
fn a_sync_during_a_simple_copy_in_is_not_answered_however_early_it_is_sent() {
    for early in [true, false] {
        let mut talk = Talk::default();
        talk.sent(Owed::Query);
        if !early {
            quiet(&mut talk, tag::COPY_IN_RESPONSE);
        }
        talk.sent(Owed::Sync);
        talk.sent(Owed::CopyEnd);
        talk.sent(Owed::Query);
        if early {
            quiet(&mut talk, tag::COPY_IN_RESPONSE);
        }
        quiet(&mut talk, tag::COMMAND_COMPLETE);
        talk.ready(TransactionStatus::Idle);
        assert_eq!(quiet(&mut talk, tag::DATA_ROW), Verdict::Forward);
        quiet(&mut talk, tag::COMMAND_COMPLETE);
        talk.ready(TransactionStatus::Idle);
        assert!(talk.is_over());
    }
}

/// A simple COPY that fails, with a Sync before the end of its data and a query behind it.
fn failed_with_a_sync_within() -> Talk {
    let mut talk = Talk::default();
    talk.sent(Owed::Query);
    talk.sent(Owed::Sync);
    talk.sent(Owed::CopyEnd);
    talk.sent(Owed::Query);
    quiet(&mut talk, tag::COPY_IN_RESPONSE);
    quiet(&mut talk, tag::ERROR_RESPONSE);
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    talk
}

#[test]
fn a_sync_in_doubt_is_told_from_the_query_behind_it() {
    for heard in [true, false] {
        let mut talk = failed_with_a_sync_within();
        if heard {
            assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
        }
        assert!(talk.doubtful());
        assert_eq!(quiet(&mut talk, tag::DATA_ROW), Verdict::Forward);
        assert!(!talk.doubtful());
        quiet(&mut talk, tag::COMMAND_COMPLETE);
        assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
        assert!(talk.is_over());
    }
}

#[test]
fn an_error_of_the_next_query_ends_a_doubt_too() {
    let mut talk = failed_with_a_sync_within();
    quiet(&mut talk, tag::ERROR_RESPONSE);
    assert!(!talk.doubtful());
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert!(talk.is_over());
}

#[test]
fn each_copy_of_a_query_has_its_own_end() {
    let mut talk = Talk::default();
    talk.sent(Owed::Query);
    talk.sent(Owed::CopyEnd);
    quiet(&mut talk, tag::COPY_IN_RESPONSE);
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    quiet(&mut talk, tag::COPY_IN_RESPONSE);
    assert_eq!(talk.copy(), CopyFlow::In);
    talk.sent(Owed::CopyEnd);
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    talk.ready(TransactionStatus::Idle);
    assert!(talk.is_over());
}

#[test]
fn a_pipeline_behind_a_copy_without_an_end_keeps_its_syncs() {
    let mut talk = Talk::default();
    talk.sent(Owed::Execute);
    talk.sent(Owed::Sync);
    talk.sent(parse(false));
    talk.sent(Owed::Sync);
    quiet(&mut talk, tag::COPY_IN_RESPONSE);
    // It was cancelled before the server read the first Sync; the Parse is not skipped.
    assert_eq!(quiet(&mut talk, tag::ERROR_RESPONSE), Verdict::Forward);
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert_eq!(quiet(&mut talk, tag::PARSE_COMPLETE), Verdict::Forward);
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert!(talk.is_over());
}

#[test]
fn what_has_no_place_in_a_copy_shows_that_the_syncs_around_it_count() {
    for front in [Owed::Query, Owed::Execute] {
        let simple = matches!(front, Owed::Query);
        let mut talk = Talk::default();
        talk.sent(front);
        quiet(&mut talk, tag::COPY_IN_RESPONSE);
        talk.sent(Owed::Sync);
        talk.sent(Owed::Query);
        talk.sent(Owed::Sync);
        talk.sent(Owed::Query);
        // The COPY has failed before all of it was read.
        assert_eq!(quiet(&mut talk, tag::ERROR_RESPONSE), Verdict::Forward);
        for _ in 0..1 + usize::from(simple) {
            assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
        }
        quiet(&mut talk, tag::COMMAND_COMPLETE);
        for _ in 0..2 {
            assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
        }
        quiet(&mut talk, tag::COMMAND_COMPLETE);
        assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
        assert!(talk.is_over());
    }
}

#[test]
fn a_late_copy_end_is_forgotten() {
    let mut talk = Talk::default();
    talk.sent(Owed::Query);
    quiet(&mut talk, tag::ERROR_RESPONSE);
    talk.sent(Owed::CopyEnd);
    talk.ready(TransactionStatus::Idle);
    assert!(talk.is_over());
}

#[test]
fn nobody_asked() {
    let mut talk = Talk::default();
    assert_eq!(quiet(&mut talk, tag::DATA_ROW), Verdict::Unexpected);
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Unexpected);
    talk.sent(Owed::Bind { of: None });
    assert_eq!(quiet(&mut talk, tag::COMMAND_COMPLETE), Verdict::Unexpected);
}

#[test]
fn a_simple_query_is_not_answered_by_messages_of_a_login_or_a_pipeline() {
    let foreign = [
        tag::AUTHENTICATION,
        tag::BACKEND_KEY_DATA,
        tag::NEGOTIATE_PROTOCOL_VERSION,
        tag::PARSE_COMPLETE,
        tag::FUNCTION_CALL_RESPONSE,
        b'@',
    ];
    for message in foreign {
        let mut talk = Talk::default();
        talk.sent(Owed::Query);
        assert_eq!(quiet(&mut talk, message), Verdict::Unexpected, "{message}");
    }
}

#[test]
fn a_check_of_ours_stays_unseen_with_what_is_remarked() {
    let mut talk = Talk::default();
    talk.sent(parse(true));
    talk.sent(Owed::DescribeStatement {
        hidden: true,
        of: None,
    });
    talk.sent(Owed::Ours(tag::COMMAND_COMPLETE));
    talk.sent(Owed::Bind { of: None });
    for message in [
        tag::NOTICE_RESPONSE,
        tag::PARSE_COMPLETE,
        tag::PARAMETER_DESCRIPTION,
        tag::NO_DATA,
        tag::DATA_ROW,
        tag::COMMAND_COMPLETE,
    ] {
        assert_eq!(quiet(&mut talk, message), Verdict::Swallow);
    }
    assert_eq!(quiet(&mut talk, tag::NOTICE_RESPONSE), Verdict::Forward);
    assert_eq!(quiet(&mut talk, tag::BIND_COMPLETE), Verdict::Forward);
    assert!(!talk.owes());
}

#[test]
fn syncs_into_a_copy_are_counted_to_an_end() {
    let mut exchange = Exchange::<()>::default();
    exchange.sent(Owed::Query);
    exchange.received(tag::COPY_IN_RESPONSE, |_| {});
    let mut sent = 0;
    while !exchange.is_flooded() {
        exchange.sent(Owed::Sync);
        sent += 1;
        assert!(sent < 100_000, "no end");
    }
    assert!(sent > 1000, "few are no flood");
}

#[test]
fn a_question_for_a_mark_is_ours_and_so_is_its_error() {
    let mut talk = Talk::default();
    talk.sent(Owed::Query);
    talk.sent(Owed::Question);
    assert_eq!(quiet(&mut talk, tag::COMMAND_COMPLETE), Verdict::Forward);
    assert!(talk.asks() && !talk.at_question());
    let status = TransactionStatus::InTransaction;
    assert_eq!(talk.ready(status), Verdict::Forward);
    assert!(talk.at_question() && !talk.owes_client());
    assert_eq!(quiet(&mut talk, tag::ERROR_RESPONSE), Verdict::Swallow);
    assert_eq!(talk.ready(TransactionStatus::Failed), Verdict::Swallow);
    assert!(!talk.asks() && !talk.owes());
}

#[test]
fn a_text_that_is_sent_in_two_parts_has_one_answer() {
    let mut talk = Talk::default();
    for owed in [Owed::Head, Owed::Question, Owed::Query] {
        talk.sent(owed);
    }
    assert_eq!(talk.replies_owed(), 1);
    assert_eq!(quiet(&mut talk, tag::COMMAND_COMPLETE), Verdict::Forward);
    let open = TransactionStatus::InTransaction;
    assert_eq!(talk.ready(open), Verdict::Swallow);
    assert_eq!(quiet(&mut talk, tag::DATA_ROW), Verdict::Swallow);
    assert_eq!(talk.ready(open), Verdict::Swallow);
    let mut success = BytesMut::new();
    assert!(talk.acknowledge(&mut success, false));
    assert_eq!(success[..], *b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05I");
    assert_eq!(quiet(&mut talk, tag::COMMAND_COMPLETE), Verdict::Forward);
    success.clear();
    assert!(talk.acknowledge(&mut success, true));
    assert_eq!(success[..], *b"Z\0\0\0\x05I");
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert!(talk.is_over());
}

#[test]
fn behind_a_first_part_that_fails_nothing_is_owed() {
    let mut talk = Talk::default();
    for owed in [Owed::Head, Owed::Question, Owed::Query] {
        talk.sent(owed);
    }
    let failed = TransactionStatus::Failed;
    assert_eq!(quiet(&mut talk, tag::ERROR_RESPONSE), Verdict::Forward);
    assert_eq!(talk.ready(failed), Verdict::Swallow);
    assert!(talk.is_headless());
    assert_eq!(quiet(&mut talk, tag::ERROR_RESPONSE), Verdict::Swallow);
    assert_eq!(talk.ready(failed), Verdict::Forward);
    assert!(!talk.is_headless() && !talk.owes());
}

#[test]
fn behind_a_first_part_that_cannot_be_read_nothing_is_owed() {
    let mut talk = Talk::default();
    for owed in [Owed::Head, Owed::Question, Owed::Query] {
        talk.sent(owed);
    }
    let idle = TransactionStatus::Idle;
    assert_eq!(quiet(&mut talk, tag::ERROR_RESPONSE), Verdict::Forward);
    assert_eq!(talk.ready(idle), Verdict::Swallow);
    assert!(talk.is_headless());
    assert_eq!(quiet(&mut talk, tag::DATA_ROW), Verdict::Swallow);
    assert_eq!(talk.ready(idle), Verdict::Forward);
    assert!(!talk.is_headless() && talk.is_over());
}

#[test]
fn a_query_in_a_block_of_ours_ends_with_our_commit() {
    let mut talk = Talk::default();
    for owed in [Owed::Setup, Owed::Body, Owed::Question, Owed::Tail] {
        talk.sent(owed);
    }
    let open = TransactionStatus::InTransaction;
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    assert_eq!(talk.ready(open), Verdict::Swallow);
    assert_eq!(quiet(&mut talk, tag::DATA_ROW), Verdict::Forward);
    assert!(talk.keeps_back());
    assert_eq!(quiet(&mut talk, tag::COMMAND_COMPLETE), Verdict::Swallow);
    assert_eq!(talk.ready(open), Verdict::Swallow);
    assert_eq!(talk.ready(open), Verdict::Swallow);
    assert!(talk.at_tail() && talk.replies_owed() == 1);
    let mut success = BytesMut::new();
    assert!(talk.acknowledge(&mut success, false));
    assert_eq!(success[..], *b"Z\0\0\0\x05I");
    assert_eq!(quiet(&mut talk, tag::COMMAND_COMPLETE), Verdict::Swallow);
    assert_eq!(talk.ready(TransactionStatus::Idle), Verdict::Forward);
    assert!(talk.is_over());
}

#[test]
fn what_is_kept_back_of_a_pipeline_is_not_owed_once_its_client_is_gone() {
    let mut talk = Talk::default();
    for owed in [parse(false), Owed::Execute, Owed::Asking, Owed::Sync] {
        talk.sent(owed);
    }
    let mut success = BytesMut::new();
    assert!(
        !talk.acknowledge(&mut success, false),
        "it is not known to be run"
    );
    assert!(success.is_empty());
    talk.unsend();
    assert!(talk.unsynced() && talk.replies_owed() == 0);
}

#[test]
fn what_would_bind_a_session_is_taken_back_where_it_is_skipped() {
    let bound = PinSet::of(&[Pin::TempTable]);
    let local = || Owed::Local {
        reply: b"",
        undo: Undo::Bound(bound),
    };
    let mut talk = Talk::default();
    talk.sent(parse(false));
    talk.sent(local());
    talk.sent(Owed::Bind { of: None });
    let mut over = PinSet::EMPTY;
    talk.received(tag::ERROR_RESPONSE, |undo| {
        if let Undo::Bound(pins) = undo {
            over = over.union(pins);
        }
    });
    assert_eq!(over, bound);
    // What has had its turn is not.
    let mut talk = Talk::default();
    talk.sent(local());
    talk.sent(Owed::Bind { of: None });
    assert_eq!(talk.local(), Some(&b""[..]));
    assert_eq!(quiet(&mut talk, tag::ERROR_RESPONSE), Verdict::Forward);
}

#[test]
fn what_binds_behind_a_sync_is_not_taken_back_with_what_is_skipped_before_it() {
    let lock = PinSet::of(&[Pin::AdvisoryLock]);
    let both = PinSet::of(&[Pin::AdvisoryLock, Pin::TempTable]);
    let bound = |of| Owed::Local {
        reply: b"",
        undo: Undo::Bound(of),
    };
    let over = |talk: &mut Talk| {
        let mut over = PinSet::EMPTY;
        talk.received(tag::ERROR_RESPONSE, |undo| {
            if let Undo::Bound(pins) = undo {
                over = over.union(pins);
            }
        });
        over
    };
    let talk = || {
        let mut talk = Talk::default();
        for owed in [parse(false), bound(both), Owed::Bind { of: None }] {
            talk.sent(owed);
        }
        talk
    };
    // Behind a simple query it would be skipped as well.
    let mut same = talk();
    same.sent(Owed::Query);
    same.keep_bound(lock);
    assert_eq!(over(&mut same), both);
    let mut behind = talk();
    behind.sent(Owed::Sync);
    behind.keep_bound(lock);
    assert_eq!(over(&mut behind), both.without(lock));
    // What has run binds, whatever becomes of what was sent behind it.
    let mut answered = talk();
    answered.have_bound(lock);
    assert_eq!(over(&mut answered), both.without(lock));
}

#[test]
fn a_simple_query_ends_what_was_sent_before_it() {
    let mut talk = Talk::default();
    talk.sent(parse(false));
    talk.sent(Owed::Query);
    assert!(!talk.is_text());
    quiet(&mut talk, tag::PARSE_COMPLETE);
    assert!(talk.unsynced() && talk.is_text());
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    talk.ready(TransactionStatus::Idle);
    assert!(talk.is_over());
    // Not what was sent behind it.
    talk.sent(Owed::Query);
    talk.sent(parse(false));
    talk.ready(TransactionStatus::Idle);
    quiet(&mut talk, tag::PARSE_COMPLETE);
    assert!(talk.unsynced() && !talk.is_over());
}

#[test]
fn statements_are_counted_from_where_their_request_begins() {
    let mut talk = Talk::default();
    assert_eq!(talk.begun(), (0, true));
    for _ in 0..2 {
        talk.sent(Owed::Bind { of: None });
        talk.sent(Owed::Execute);
    }
    assert_eq!(talk.begun(), (2, true));
    quiet(&mut talk, tag::BIND_COMPLETE);
    assert!(talk.completes_one());
    quiet(&mut talk, tag::COMMAND_COMPLETE);
    assert_eq!(talk.begun(), (1, true));
    assert!(!talk.completes_one());
    talk.sent(Owed::Sync);
    assert_eq!(talk.begun(), (0, false));
    talk.sent(Owed::ExecuteSaying(b""));
    assert_eq!(talk.begun(), (1, false));
    talk.sent(Owed::Query);
    assert_eq!(talk.begun(), (0, false));
}
