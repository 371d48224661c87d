//! Request-level rules, and that every span is accounted for.

use super::*;
use proptest::prelude::*;

const KEY: [u8; 32] = [0x1f; 32];

fn hex(hash: [u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn nothing_is_decided_about_nothing() {
    let plan = plan(&[destination(1, |_| {})]);
    let traces = Traces::index(Bytes::new(), &Limits::default()).unwrap();
    let decision = plan.decide(&traces, &at(NOW), &TraceMemory::default());
    assert!(decision.routes.is_empty() && decision.skips.is_empty() && decision.union.is_none());
    assert!(!decision.all_private && decision.trace_keys.is_empty());
}

#[test]
fn a_plain_destination_takes_all_and_needs_no_memory() {
    let memory = TraceMemory::default();
    let plan = plan(&[destination(1, |_| {}), destination(2, |d| d.privacy_mode = true)]);
    let decision = decide(&plan, &[span(1, 1, 0), generation(2, 2, 0, "m")], &memory);
    assert_balanced(&decision, &[1, 2], 2);
    assert!(decision.routes.iter().all(|route| route.spans.is_all()));
    assert!(decision.union.as_ref().unwrap().is_all());
    assert!(!decision.all_private && decision.routes[1].private);
    assert!(memory.is_empty() && decision.trace_keys.is_empty());
}

#[test]
fn switches_skip_the_whole_request() {
    let spans = [span(1, 1, 0), span(1, 2, 1)];
    let off = destination(1, |d| d.enabled = false);
    let decision = decide(&plan(&[off, destination(2, |_| {})]), &spans, &TraceMemory::default());
    assert_eq!(skips(&decision, 1), [(Skip::Disabled, 2)]);
    assert_eq!(selected(&decision, 2), [0, 1]);

    let all_off = Plan::compile(false, &[destination(1, |_| {})]).unwrap();
    let decision = decide(&all_off, &spans, &TraceMemory::default());
    assert_eq!(skips(&decision, 1), [(Skip::Disabled, 2)]);
    assert_balanced(&decision, &[1], 2);
}

#[test]
fn a_region_must_be_served() {
    let plan =
        plan(&[destination(1, |d| d.regions = vec![Region::Europe, Region::Us]), destination(2, |_| {})]);
    for (region, slots) in [(Region::Global, [2].as_slice()), (Region::Europe, &[1]), (Region::Us, &[1])] {
        let context = Context { region, ..at(NOW) };
        let decision = plan.decide(&request(&[span(1, 1, 0)]), &context, &TraceMemory::default());
        assert_balanced(&decision, &[1, 2], 1);
        assert_eq!(decision.routes.iter().map(|route| route.slot).collect::<Vec<_>>(), slots);
        assert!(decision.skips.iter().all(|(_, reason, _)| *reason == Skip::Region));
    }
}

#[test]
fn an_allowlist_lets_listed_keys_pass_and_nothing_keyless() {
    let listed = (0..10).map(|n| hex([n * 7 + 3; 32])).chain([hex(KEY)]).collect();
    let plan = plan(&[destination(1, |d| d.api_key_hashes = Some(listed)), destination(2, |_| {})]);
    let traces = request(&[span(1, 1, 0), span(1, 2, 0)]);
    let with =
        |api_key_hash| plan.decide(&traces, &Context { api_key_hash, ..at(NOW) }, &TraceMemory::default());
    assert_eq!(selected(&with(Some(KEY)), 1), [0, 1]);
    assert_eq!(selected(&with(Some([3; 32])), 1), [0, 1]);
    for refused in [None, Some([4; 32]), Some([0xff; 32])] {
        let decision = with(refused);
        assert_eq!(skips(&decision, 1), [(Skip::Key, 2)]);
        assert_eq!(selected(&decision, 2), [0, 1]);
    }
}

#[test]
fn the_first_reason_in_the_order_counts() {
    let impossible = |d: &mut Destination| {
        d.regions = vec![Region::Us];
        d.api_key_hashes = Some(vec![hex([9; 32])]);
        d.sampling_rate = 0.0001;
        d.filter_rules = rules(vec![(Logic::And, vec![rule(Field::Model, Operator::Equals, text("x"))])]);
    };
    let spans = [generation(1, 1, 0, "y")];
    let traces = request(&spans);
    let reason = |change: &dyn Fn(&mut Destination), context: Context<'_>| {
        let plan = plan(&[destination(1, |d| {
            impossible(d);
            change(d);
        })]);
        skips(&plan.decide(&traces, &context, &TraceMemory::default()), 1)
    };
    let us = Context { region: Region::Us, ..at(NOW) };
    let keyed = Context { api_key_hash: Some([9; 32]), ..us };
    assert_eq!(reason(&|d| d.enabled = false, at(NOW)), [(Skip::Disabled, 1)]);
    assert_eq!(reason(&|_| {}, at(NOW)), [(Skip::Region, 1)]);
    assert_eq!(reason(&|_| {}, us), [(Skip::Key, 1)]);
    assert_eq!(reason(&|_| {}, keyed), [(Skip::Sampled, 1)]);
    assert_eq!(reason(&|d| d.sampling_rate = 1.0, keyed), [(Skip::Filter, 1)]);
}

#[test]
fn a_span_without_a_place_is_skipped_by_kind() {
    let mut plan = plan(&[destination(1, |_| {}), model_destination(2, "m")]);
    for compiled in &mut plan.destinations {
        Arc::get_mut(compiled).unwrap().accepts = Some(|span| span.parent_span_id().is_none());
    }
    let spans = [generation(1, 1, 0, "m"), span(1, 2, 1), generation(2, 3, 0, "other"), span(2, 4, 3)];
    let decision = decide(&plan, &spans, &TraceMemory::default());
    assert_eq!(selected(&decision, 1), [0, 2]);
    assert_eq!(skips(&decision, 1), [(Skip::Kind, 2)]);
    assert_eq!(selected(&decision, 2), [0]);
    assert_eq!(skips(&decision, 2), [(Skip::Filter, 2), (Skip::Kind, 1)]);
    assert_balanced(&decision, &[1, 2], 4);
}

#[test]
fn compile_errors_name_the_destination_and_the_place() {
    let error = |change: fn(&mut Destination)| {
        Plan::compile(true, &[destination(1, |_| {}), destination(2, change)]).unwrap_err()
    };
    let bad_key = error(|d| d.api_key_hashes = Some(vec![hex(KEY), "abc".into()]));
    assert_eq!(bad_key.destination, id(2));
    assert_eq!(bad_key.to_string(), format!("destination {}: api_key_hashes[1]: not 64 hex digits", id(2)));
    for rate in [0.0, -1.0, 1.5, f64::NAN, f64::INFINITY] {
        let (slot, mut wrong) = destination(3, |_| {});
        Arc::get_mut(&mut wrong).unwrap().sampling_rate = rate;
        assert!(Plan::compile(true, &[(slot, wrong)]).unwrap_err().reason.starts_with("sampling_rate: "));
    }
}

/// One destination of every sort.
fn mixed() -> Vec<(u32, Arc<Destination>)> {
    vec![
        destination(1, |_| {}),
        sampled_destination(2, 0.5),
        model_destination(3, "a"),
        destination(4, |d| {
            d.sampling_rate = 0.4;
            d.privacy_mode = true;
            d.filter_rules = rules(vec![(
                Logic::Or,
                vec![
                    rule(Field::Model, Operator::NotEquals, text("a")),
                    rule(Field::UserId, Operator::Exists, None),
                ],
            )]);
        }),
        destination(5, |d| d.regions = vec![Region::Us]),
        destination(6, |d| d.enabled = false),
        destination(7, |d| d.privacy_mode = true),
    ]
}

/// Spans with any parents, also themselves, each other, and nobody; ids may repeat.
fn any_spans() -> impl Strategy<Value = Vec<SpanBuilder>> {
    let one = (1u64..4, 1u64..12, 0u64..14, 0u8..4, prop::option::of(0u8..3));
    prop::collection::vec(one, 1..24).prop_map(|spans| {
        spans
            .into_iter()
            .map(|(trace, id, parent, what, session)| {
                let span = match what {
                    0 => generation(trace, id, parent, "a"),
                    1 => generation(trace, id, parent, "b"),
                    2 => span(trace, id, parent).with("user.id", "u"),
                    _ => span(trace, id, parent),
                };
                match session {
                    Some(n) => span.with("session.id", format!("session {n}")),
                    None => span,
                }
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_books_balance_for_any_tree(requests in prop::collection::vec(any_spans(), 1..4)) {
        let plan = plan(&mixed());
        let memory = TraceMemory::default();
        for spans in requests {
            let decision = decide(&plan, &spans, &memory);
            assert_balanced(&decision, &[1, 2, 3, 4, 5, 6, 7], spans.len() as u32);
        }
    }

    #[test]
    fn the_order_of_destinations_changes_nothing(
        requests in prop::collection::vec(any_spans(), 1..4),
        order in Just((0..7).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let destinations = mixed();
        let shuffled: Vec<_> = order.iter().map(|i| destinations[*i].clone()).collect();
        let (plan_a, plan_b) = (plan(&destinations), plan(&shuffled));
        let (memory_a, memory_b) = (TraceMemory::default(), TraceMemory::default());
        for spans in requests {
            let (a, b) = (decide(&plan_a, &spans, &memory_a), decide(&plan_b, &spans, &memory_b));
            for slot in 1..=7 {
                prop_assert_eq!(selected(&a, slot), selected(&b, slot));
                prop_assert_eq!(skips(&a, slot), skips(&b, slot));
            }
            prop_assert_eq!(&a.union, &b.union);
            prop_assert_eq!(a.all_private, b.all_private);
        }
    }

    #[test]
    fn destinations_do_not_see_each_other(spans in any_spans()) {
        let together = decide(&plan(&mixed()), &spans, &TraceMemory::default());
        for destination in mixed() {
            let slot = destination.0;
            let alone = decide(&plan(&[destination]), &spans, &TraceMemory::default());
            prop_assert_eq!(selected(&alone, slot), selected(&together, slot));
            prop_assert_eq!(skips(&alone, slot), skips(&together, slot));
        }
    }

    #[test]
    fn a_restored_memory_decides_like_the_original(
        before in prop::collection::vec(any_spans(), 1..5),
        after in prop::collection::vec(any_spans(), 1..3),
    ) {
        let plan = plan(&mixed());
        let (original, restored) = (TraceMemory::default(), TraceMemory::default());
        for spans in before {
            restored.restore(NOW, &decide(&plan, &spans, &original).trace_keys);
        }
        for spans in after {
            let (a, b) = (decide(&plan, &spans, &original), decide(&plan, &spans, &restored));
            for slot in 1..=7 {
                prop_assert_eq!(selected(&a, slot), selected(&b, slot));
                prop_assert_eq!(skips(&a, slot), skips(&b, slot));
            }
            prop_assert_eq!(a.trace_keys, b.trace_keys);
        }
    }
}
