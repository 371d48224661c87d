//! Verdicts and keys across requests, through `decide`.

use super::*;
use std::sync::Barrier;

fn yes_plan() -> Plan {
    plan(&[model_destination(1, "yes")])
}

#[test]
fn later_spans_of_a_trace_follow_its_verdict() {
    let plan = yes_plan();
    let memory = TraceMemory::default();
    assert_eq!(
        selected(&decide(&plan, &[generation(1, 2, 1, "yes"), generation(2, 2, 1, "no")], &memory), 1),
        [0]
    );
    // The roots come when they end, in a later request.
    let later = [span(1, 1, 0), span(2, 1, 0), span(3, 1, 0)];
    let decision = decide(&plan, &later, &memory);
    assert_eq!(selected(&decision, 1), [0]);
    assert_eq!(skips(&decision, 1), [(Skip::Filter, 2)]);
}

#[test]
fn a_trace_passes_once_one_generation_passed() {
    let plan = yes_plan();
    let memory = TraceMemory::default();
    decide(&plan, &[generation(1, 2, 1, "no")], &memory);
    assert!(decide(&plan, &[span(1, 3, 1)], &memory).routes.is_empty());
    decide(&plan, &[generation(1, 4, 1, "yes")], &memory);
    assert_eq!(selected(&decide(&plan, &[span(1, 5, 1)], &memory), 1), [0]);
    decide(&plan, &[generation(1, 6, 1, "no")], &memory);
    assert_eq!(selected(&decide(&plan, &[span(1, 1, 0)], &memory), 1), [0]);
}

#[test]
fn the_request_itself_comes_before_the_memory() {
    let plan = yes_plan();
    let memory = TraceMemory::default();
    decide(&plan, &[generation(1, 2, 1, "yes")], &memory);
    let decision = decide(&plan, &[span(1, 7, 1), generation(1, 8, 7, "no")], &memory);
    assert!(decision.routes.is_empty());
}

#[test]
fn spans_that_are_no_generation_teach_nothing() {
    let by_user = rules(vec![(Logic::And, vec![rule(Field::UserId, Operator::NotEquals, text("u"))])]);
    let plan = plan(&[destination(1, |d| d.filter_rules = by_user)]);
    let memory = TraceMemory::default();
    let decision = decide(&plan, &[span(1, 1, 0)], &memory);
    assert_eq!(selected(&decision, 1), [0]);
    assert!(memory.is_empty() && decision.trace_keys.is_empty());
    assert!(decide(&plan, &[span(1, 2, 1).with("user.id", "u")], &memory).routes.is_empty());
}

#[test]
fn a_trace_is_forgotten_ten_minutes_after_it_was_last_used() {
    let plan = yes_plan();
    let seen_at = |gaps_in_minutes: &[u64]| {
        let memory = TraceMemory::default();
        plan.decide(&request(&[generation(1, 2, 1, "yes")]), &at(NOW), &memory);
        let mut now = NOW;
        gaps_in_minutes
            .iter()
            .map(|gap| {
                now += gap * MINUTE;
                !plan.decide(&request(&[span(1, 1, 0)]), &at(now), &memory).routes.is_empty()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(seen_at(&[9]), [true]);
    assert_eq!(seen_at(&[10]), [false]);
    assert_eq!(seen_at(&[6, 6, 6, 6]), [true, true, true, true]);
    assert_eq!(seen_at(&[6, 10]), [true, false]);
}

#[test]
fn a_record_carries_what_its_own_spans_do_not_say() {
    let plan = plan(&[sampled_destination(1, 0.5), model_destination(2, "yes")]);
    let memory = TraceMemory::default();
    let first = decide(&plan, &[generation(1, 2, 1, "yes").with("session.id", "s")], &memory);
    assert!(!first.trace_keys.is_empty());
    // Nothing new and nothing borrowed: nothing to write.
    let same = decide(&plan, &[generation(1, 3, 1, "yes").with("session.id", "s")], &memory);
    assert!(same.trace_keys.is_empty());
    // The key and the verdict are borrowed, so this record alone restores them.
    let borrowed = decide(&plan, &[span(1, 1, 0)], &memory);
    let restored = TraceMemory::default();
    restored.restore(NOW, &borrowed.trace_keys);
    for spans in [vec![span(1, 4, 1)], vec![span(1, 5, 1).with("session.id", "another")]] {
        let (a, b) = (decide(&plan, &spans, &memory), decide(&plan, &spans, &restored));
        assert_eq!((selected(&a, 1), selected(&a, 2)), (selected(&b, 1), selected(&b, 2)));
    }
}

#[test]
fn a_refresh_is_written_too() {
    let plan = plan(&[sampled_destination(1, 0.5)]);
    let memory = TraceMemory::default();
    let spans = request(&[generation(1, 2, 1, "m").with("session.id", "s")]);
    let written = |now| !plan.decide(&spans, &at(now), &memory).trace_keys.is_empty();
    assert!(written(NOW));
    assert!(!written(NOW + 4 * MINUTE));
    assert!(written(NOW + 5 * MINUTE));
    assert!(!written(NOW + 9 * MINUTE));
}

#[test]
fn requests_of_a_trace_at_the_same_time_agree() {
    let plan = plan(&[sampled_destination(1, 0.5)]);
    for round in 0..50u64 {
        let memory = TraceMemory::default();
        let start = Barrier::new(4);
        let kept: Vec<bool> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|n| {
                    let (plan, memory, start) = (&plan, &memory, &start);
                    let session = format!("{round}/{n}");
                    scope.spawn(move || {
                        let span = generation(round, n + 1, 0, "m").with("session.id", session);
                        start.wait();
                        !decide(plan, &[span], memory).routes.is_empty()
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        assert!(kept.iter().all(|one| *one == kept[0]), "{kept:?}");
        assert_eq!(memory.len(), 1);
    }
}

#[test]
fn more_traces_than_one_lock_takes() {
    let plan = plan(&[sampled_destination(1, 0.5), model_destination(2, "yes")]);
    let memory = TraceMemory::default();
    let model = |n| if n % 3 == 0 { "yes" } else { "no" };
    let spans: Vec<_> = (0..700).map(|n| generation(n, 1, 0, model(n))).collect();
    let together = decide(&plan, &spans, &memory);
    assert_balanced(&together, &[1, 2], 700);
    assert_eq!(selected(&together, 2).len(), 234);
    assert_eq!(memory.len(), 700);
    for n in 0..700 {
        let alone = decide(&plan, &[span(n, 2, 1)], &memory);
        assert_eq!(!selected(&alone, 1).is_empty(), selected(&together, 1).contains(&(n as u32)));
        assert_eq!(!selected(&alone, 2).is_empty(), n % 3 == 0);
    }
}
