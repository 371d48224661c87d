//! A plan after a change says what one compiled anew says, and shares with the one before what did not change.

use super::*;
use crate::Place;
use std::collections::BTreeMap;

fn places(changes: Vec<(u128, Place)>) -> BTreeMap<Uuid, Place> {
    changes.into_iter().map(|(n, place)| (id(n), place)).collect()
}

fn slots(plan: &Plan) -> Vec<u32> {
    plan.destinations.iter().map(|compiled| compiled.slot).collect()
}

#[test]
fn a_changed_plan_decides_like_one_compiled_anew() {
    let (one, two, three) = (model_destination(1, "a"), model_destination(2, "a"), destination(3, |_| {}));
    let before = plan(&[one.clone(), two, three]);
    let edited = model_destination(2, "b");
    let fourth = destination(4, |d| d.privacy_mode = true);
    let changes = places(vec![(2, Some(edited.clone())), (3, None), (4, Some(fourth.clone())), (9, None)]);
    let after = before.changed(true, &changes).unwrap();
    assert_eq!(slots(&after), [1, 2, 4]);
    assert!(Arc::ptr_eq(&before.destinations[0], &after.destinations[0]));

    let spans = [generation(1, 1, 0, "a"), generation(2, 2, 0, "b")];
    let anew = decide(&plan(&[one, edited, fourth]), &spans, &TraceMemory::default());
    let decision = decide(&after, &spans, &TraceMemory::default());
    assert_eq!(format!("{decision:?}"), format!("{anew:?}"));
    assert_eq!((selected(&decision, 1), selected(&decision, 2)), (vec![0], vec![1]));
    assert_eq!(slots(&before), [1, 2, 3], "the former plan is as it was");
}

#[test]
fn the_switch_of_the_workspace_compiles_nothing() {
    let before = plan(&[destination(1, |_| {})]);
    let off = before.changed(false, &BTreeMap::new()).unwrap();
    assert!(Arc::ptr_eq(&before.destinations[0], &off.destinations[0]));
    let spans = [generation(1, 1, 0, "a")];
    assert_eq!(skips(&decide(&off, &spans, &TraceMemory::default()), 1), [(Skip::Disabled, 1)]);
    let on = off.changed(true, &BTreeMap::new()).unwrap();
    assert_eq!(selected(&decide(&on, &spans, &TraceMemory::default()), 1), [0]);
}

#[test]
fn what_does_not_compile_is_named() {
    let broken = destination(2, |d| d.sampling_rate = 2.0);
    let changes = places(vec![(1, Some(destination(1, |_| {}))), (2, Some(broken))]);
    assert_eq!(Plan::default().changed(true, &changes).unwrap_err().destination, id(2));
}
