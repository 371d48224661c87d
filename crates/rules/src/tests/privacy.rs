//! From the decision to the bytes: what a private destination gets holds no content.

use super::*;
use tracecast_genai::Privacy;
use tracecast_otlp::write::{Edit, select};

const CANARY: &str = "canary-7f3a";

#[test]
fn a_private_destination_gets_no_content() {
    let said = format!(r#"{{"messages":[{{"role":"user","content":"{CANARY}"}}]}}"#);
    let spans = [
        generation(1, 1, 0, "yes").with("gen_ai.prompt", said.as_str()).with("gen_ai.completion", CANARY),
        span(1, 2, 1).with("input.value", CANARY),
        generation(2, 3, 0, "no").with("gen_ai.prompt", said.as_str()),
    ];
    let traces = request(&spans);
    // The rule looks at content that is then not sent.
    let by_content = || rules(vec![(Logic::And, vec![rule(Field::Input, Operator::Contains, text(CANARY))])]);
    let private = destination(1, |d| {
        d.privacy_mode = true;
        d.filter_rules = by_content();
    });
    let plan = plan(&[private, model_destination(2, "yes")]);
    let decision = plan.decide(&traces, &at(NOW), &TraceMemory::default());
    assert_balanced(&decision, &[1, 2], 3);
    assert_eq!((selected(&decision, 1), selected(&decision, 2)), (vec![0, 1, 2], vec![0, 1]));
    assert!(!decision.all_private);

    let holds_canary = |bytes: &[u8]| memchr::memmem::find(bytes, CANARY.as_bytes()).is_some();
    for route in &decision.routes {
        let mut out = Vec::new();
        select(&traces, &route.spans, route.private.then_some(&Privacy as &dyn Edit), &mut out);
        assert_eq!(holds_canary(&out), !route.private);
        let sent = Traces::index(Bytes::from(out), &Limits::default()).unwrap();
        assert_eq!(sent.len() as u32, route.spans.count());
        assert_eq!(sent.span(0).attribute("gen_ai.request.model").unwrap().as_str(), Some("yes"));
    }
}

#[test]
fn all_private_means_everyone_who_selects() {
    let private = |n, change: fn(&mut Destination)| {
        destination(n, move |d| {
            d.privacy_mode = true;
            change(d);
        })
    };
    let spans = [generation(1, 1, 0, "m")];
    let all_private = |destinations: &[(u32, Arc<Destination>)]| {
        let decision = decide(&plan(destinations), &spans, &TraceMemory::default());
        assert_balanced(&decision, &destinations.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), 1);
        decision.all_private
    };
    assert!(all_private(&[private(1, |_| {}), private(2, |_| {})]));
    assert!(!all_private(&[private(1, |_| {}), destination(2, |_| {})]));
    assert!(!all_private(&[destination(1, |_| {}), private(2, |_| {})]));
    // Who gets nothing does not count, and nobody is not everybody.
    assert!(all_private(&[private(1, |_| {}), destination(2, |d| d.enabled = false)]));
    assert!(all_private(&[model_destination(1, "other"), private(2, |_| {})]));
    assert!(!all_private(&[private(1, |d| d.enabled = false)]));
}
