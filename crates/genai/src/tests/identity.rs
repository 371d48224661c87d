//! Stated identity and its removal.

use tracecast_otlp::SpanSet;
use tracecast_otlp::write::{OwnedValue, select};

use super::{builder, text, traces};
use crate::identity::{self, NOT_A_STRING};
use crate::{Chain, Privacy, StripIdentity, stated_identity};

#[test]
fn the_span_wins_over_the_resource_and_the_name_over_its_alias() {
    let resource = vec![
        (identity::API_KEY_HASH, text("of-resource")),
        (identity::WORKSPACE_ID, text("ws-resource")),
        (identity::REGION, text("europe")),
    ];
    let spans = [
        builder(vec![("openrouter.api_key_hash", text("alias")), (identity::WORKSPACE_ID, text("ws-span"))]),
        builder(vec![("openrouter.api_key_hash", text("alias")), (identity::API_KEY_HASH, text("own"))]),
        builder(vec![(identity::WORKSPACE_ID, OwnedValue::Int(7)), (identity::REGION, text(""))]),
    ];
    let read = traces(resource, &spans);
    let stated = |i| stated_identity(read.span(i));
    assert_eq!(stated(0).api_key_hash, Some("alias"));
    assert_eq!(stated(0).workspace_id, Some("ws-span"));
    assert_eq!(stated(0).region, Some("europe"));
    assert_eq!(stated(1).api_key_hash, Some("own"));
    // A mistyped workspace names none that exists; it does not fall back.
    assert_eq!(stated(2).workspace_id, Some(NOT_A_STRING));
    assert_eq!(stated(2).region, Some("europe"));
    let nothing = traces(vec![], &[builder(vec![])]);
    assert!(stated_identity(nothing.span(0)).is_empty());
}

#[test]
fn stripping_removes_it_everywhere_and_chains() {
    let resource = vec![(identity::REGION, text("europe")), ("service.name", text("s"))];
    let attributes = vec![
        (identity::API_KEY_HASH, text("a")),
        (identity::API_KEY_HASH_ALIAS, text("b")),
        (identity::WORKSPACE_ID, text("c")),
        ("gen_ai.prompt", text("private words")),
        ("user.id", text("u")),
    ];
    let given = traces(resource, &[builder(attributes)]);
    let mut out = Vec::new();
    select(&given, &SpanSet::all(1), Some(&Chain(&[&StripIdentity, &Privacy])), &mut out);
    let read = tracecast_otlp::Traces::index(out.into(), &Default::default()).expect("valid");
    assert!(stated_identity(read.span(0)).is_empty());
    let keys: Vec<&str> = read.span(0).attributes().map(|(key, _)| key).collect();
    assert_eq!(keys, ["user.id"]);
    assert!(read.span(0).resource().attribute("service.name").is_some());
}
