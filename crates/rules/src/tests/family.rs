//! Spans that are no generation follow the nearest one they belong to.

use super::*;
use crate::family::Family;
use crate::trace_index::TraceIndex;
use proptest::prelude::*;

/// Positions that a destination for model `yes` gets.
fn follows(spans: &[SpanBuilder]) -> Vec<u32> {
    let decision = decide(&plan(&[model_destination(1, "yes")]), spans, &TraceMemory::default());
    assert_balanced(&decision, &[1], spans.len() as u32);
    selected(&decision, 1)
}

#[test]
fn parents_and_children_follow_their_generation() {
    // root -> wrapper -> generation -> attempt -> detail
    let tree = |model: &str| {
        [span(1, 1, 0), span(1, 2, 1), generation(1, 3, 2, model), span(1, 4, 3), span(1, 5, 4)]
    };
    assert_eq!(follows(&tree("yes")), [0, 1, 2, 3, 4]);
    assert!(follows(&tree("no")).is_empty());
}

#[test]
fn the_order_of_spans_does_not_matter() {
    let spans = [span(1, 4, 3), span(1, 2, 1), span(1, 1, 0), span(1, 5, 4), generation(1, 3, 2, "yes")];
    assert_eq!(follows(&spans), [0, 1, 2, 3, 4]);
}

#[test]
fn the_nearest_counts_whether_above_or_below() {
    // yes(1) -> a(2) -> b(3) -> c(4) -> no(5): a is near yes, c near no, b as near to both.
    let spans =
        [generation(1, 1, 0, "yes"), span(1, 2, 1), span(1, 3, 2), span(1, 4, 3), generation(1, 5, 4, "no")];
    assert_eq!(follows(&spans), [0, 1, 2]);
    let turned =
        [generation(1, 1, 0, "no"), span(1, 2, 1), span(1, 3, 2), span(1, 4, 3), generation(1, 5, 4, "yes")];
    assert_eq!(follows(&turned), [2, 3, 4]);
}

#[test]
fn a_parent_of_several_goes_where_one_of_the_nearest_goes() {
    let spans = [span(1, 1, 0), generation(1, 2, 1, "no"), generation(1, 3, 1, "yes"), span(1, 4, 2)];
    assert_eq!(follows(&spans), [0, 2]);
    // The nearer refuses, the farther passes.
    let deeper = [span(1, 1, 0), generation(1, 2, 1, "no"), span(1, 3, 1), generation(1, 4, 3, "yes")];
    assert_eq!(follows(&deeper), [2, 3]);
    // A generation below a generation hides it from those above.
    let nested = [span(1, 1, 0), generation(1, 2, 1, "no"), generation(1, 3, 2, "yes")];
    assert_eq!(follows(&nested), [2]);
}

#[test]
fn a_relative_that_is_neither_above_nor_below_follows_the_trace() {
    // A tool call beside the generation, under the same agent.
    let spans = [span(1, 1, 0), generation(1, 2, 1, "yes"), span(1, 3, 1)];
    assert_eq!(follows(&spans), [0, 1, 2]);
    let refused = [span(1, 1, 0), generation(1, 2, 1, "no"), span(1, 3, 1)];
    assert!(follows(&refused).is_empty());
    // Its parent is not in the request.
    assert_eq!(follows(&[generation(1, 2, 1, "yes"), span(1, 3, 77)]), [0, 1]);
}

#[test]
fn span_ids_of_another_trace_are_strangers() {
    let spans = [generation(1, 1, 0, "yes"), span(2, 2, 1), generation(2, 3, 0, "no")];
    assert_eq!(follows(&spans), [0]);
}

#[test]
fn without_any_generation_own_fields_decide() {
    let spans = [span(1, 1, 0), span(1, 2, 1).with("gen_ai.request.model", "yes")];
    let with_users = [span(2, 1, 0), span(2, 2, 1).with("user.id", "u")];
    let by_user = rules(vec![(Logic::And, vec![rule(Field::UserId, Operator::NotEquals, text("u"))])]);
    let plan = plan(&[destination(1, |d| d.filter_rules = by_user)]);
    assert_eq!(selected(&decide(&plan, &with_users, &TraceMemory::default()), 1), [0]);
    assert_eq!(selected(&decide(&plan, &spans, &TraceMemory::default()), 1), [0, 1]);
}

#[test]
fn circles_end() {
    // 1 -> 2 -> 3 -> 1 without, and with, a generation hanging on; and a span that is its own parent.
    let circle = [span(1, 1, 3), span(1, 2, 1), span(1, 3, 2), span(1, 4, 4)];
    assert!(follows(&circle).is_empty());
    let with =
        [span(1, 1, 3), span(1, 2, 1), span(1, 3, 2), generation(1, 4, 2, "yes"), generation(2, 4, 4, "yes")];
    assert_eq!(follows(&with), [0, 1, 2, 3, 4]);
    let on_it = [span(1, 1, 3), generation(1, 2, 1, "yes"), span(1, 3, 2)];
    assert_eq!(follows(&on_it), [0, 1, 2]);
    let twice = [span(1, 1, 2), span(1, 1, 2), generation(1, 2, 1, "yes"), generation(1, 2, 1, "no")];
    assert_eq!(follows(&twice), [0, 1, 2]);
}

/// Steps to the nearest generation by walking, without regard to cost.
fn slow_nearest(parents: &[Option<usize>], generations: &[bool], of: usize) -> Option<(usize, Vec<usize>)> {
    let path_up = |from: usize| {
        let mut path = Vec::new();
        let mut at = from;
        while let Some(parent) = parents[at]
            && path.len() <= parents.len()
        {
            path.push(parent);
            at = parent;
        }
        path
    };
    let first_generation = |path: &[usize]| path.iter().position(|at| generations[*at]);
    let mut found: Vec<(usize, usize)> = Vec::new();
    let up = path_up(of);
    found.extend(first_generation(&up).map(|steps| (steps + 1, up[steps])));
    for (other, _) in generations.iter().enumerate().filter(|(_, is)| **is) {
        let path = path_up(other);
        if let Some(steps) = path.iter().position(|at| *at == of)
            && first_generation(&path[..steps]).is_none()
        {
            found.push((steps + 1, other));
        }
    }
    let nearest = found.iter().map(|(steps, _)| *steps).min()?;
    Some((nearest, found.into_iter().filter(|(steps, _)| *steps == nearest).map(|(_, at)| at).collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_fast_walk_finds_what_a_slow_one_finds(
        spans in prop::collection::vec((0usize..12, 0u8..4, any::<bool>()), 1..12),
    ) {
        let n = spans.len();
        let builders: Vec<_> =
            spans.iter().enumerate().map(|(i, (parent, ..))| span(1, i as u64 + 1, *parent as u64)).collect();
        let parents: Vec<Option<usize>> =
            spans.iter().enumerate().map(|(i, (p, ..))| p.checked_sub(1).filter(|p| *p < n && *p != i)).collect();
        let generations: Vec<bool> = spans.iter().map(|(_, kind, _)| *kind == 0).collect();
        let mut rows: Vec<bool> = spans.iter().map(|(_, kind, passes)| *kind == 0 && *passes).collect();
        let before = rows.clone();

        let traces = request(&builders);
        let index = TraceIndex::new(&traces);
        let found = Family::new(&traces, &index).follow_nearest(&generations, &mut rows, 1);
        for i in 0..n {
            if generations[i] {
                prop_assert_eq!((found[i], rows[i]), (true, before[i]));
                continue;
            }
            match slow_nearest(&parents, &generations, i) {
                None => prop_assert!(!found[i]),
                Some((_, nearest)) => {
                    prop_assert!(found[i]);
                    prop_assert_eq!(rows[i], nearest.iter().any(|at| before[*at]), "span {}", i);
                }
            }
        }
    }
}
