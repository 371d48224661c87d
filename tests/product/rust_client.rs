//! The `openrouter-rs` crate manages destinations, keys and workspaces with only its base URL changed.

use openrouter_rs::OpenRouterClient;
use openrouter_rs::api::observability::{
    CreateObservabilityDestinationRequest, ObservabilityFilterGroup, ObservabilityFilterRule,
    ObservabilityFilterRulesConfig, UpdateObservabilityDestinationRequest,
};
use openrouter_rs::api::workspaces::{CreateWorkspaceRequest, UpdateWorkspaceRequest};
use openrouter_rs::error::OpenRouterError;
use openrouter_rs::types::PaginationOptions;
use serde_json::json;
use tracecast_tests::process::{Gateway, Home, INGEST_KEY, MANAGEMENT_KEY};

use crate::BINARY;

fn gateway() -> (Home, Gateway) {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    (home, gateway)
}

fn client(gateway: &Gateway) -> OpenRouterClient {
    OpenRouterClient::builder()
        .base_url(format!("{}/api/v1", gateway.admin))
        .management_key(MANAGEMENT_KEY)
        .api_key(INGEST_KEY)
        .build()
        .expect("a client")
}

/// The HTTP status of an error the client read as the API's own.
fn status<T: std::fmt::Debug>(result: Result<T, OpenRouterError>) -> u16 {
    match result {
        Err(OpenRouterError::Api(context)) => context.status.as_u16(),
        other => panic!("not an API error: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_lives_from_create_to_404() {
    let (_home, gateway) = gateway();
    let client = client(&gateway);
    let management = client.management();
    let rule = ObservabilityFilterRule::builder().field("model").operator("exists").build().expect("a rule");
    let group = ObservabilityFilterGroup::builder().rules(vec![rule]).logic("or").build().expect("a group");
    let rules = ObservabilityFilterRulesConfig::builder().groups(vec![group]).build().expect("rules");
    let create = CreateObservabilityDestinationRequest::builder()
        .destination_type("webhook")
        .name("by the rust client")
        .config(json!({ "url": "http://127.0.0.1:9/hook" }))
        .sampling_rate(0.5)
        .api_key_hashes(["a".repeat(64)])
        .filter_rules(rules)
        .regions(vec!["eu".to_owned()])
        .broadcast_generation_cost(true)
        .build()
        .expect("a request");
    let made = management.create_observability_destination(&create).await.expect("created");
    assert_eq!(made.destination_type, "webhook");
    assert_eq!(made.sampling_rate, 0.5);
    assert_eq!(made.regions, Some(vec!["europe".to_owned()]));
    assert!(made.broadcast_generation_cost && !made.broadcast_generation_identity);
    assert_eq!(made.filter_rules.as_ref().map(|r| r.groups.len()), Some(1));

    let got = management.get_observability_destination(&made.id).await.expect("found");
    assert_eq!((got.id.as_str(), got.name.as_deref()), (made.id.as_str(), Some("by the rust client")));
    let page = management
        .list_observability_destinations(Some(PaginationOptions::with_limit(1)), None)
        .await
        .expect("a page");
    assert_eq!((page.data.len(), page.total_count), (1, 1));

    let mut update = UpdateObservabilityDestinationRequest::builder();
    update.enabled(false).clear_api_key_hashes().clear_filter_rules();
    let changed = management
        .update_observability_destination(&made.id, &update.build().expect("a request"))
        .await
        .expect("changed");
    assert!(!changed.enabled && changed.api_key_hashes.is_none() && changed.filter_rules.is_none());
    assert_eq!(changed.sampling_rate, 0.5, "what is absent is kept");

    assert!(management.delete_observability_destination(&made.id).await.expect("deleted"));
    assert_eq!(status(management.get_observability_destination(&made.id).await), 404);
    let nothing = CreateObservabilityDestinationRequest::builder()
        .destination_type("webhook")
        .name("bad")
        .config(json!({ "url": "no url" }))
        .build()
        .expect("a request");
    assert_eq!(status(management.create_observability_destination(&nothing).await), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_workspaces_live_as_long() {
    let (_home, gateway) = gateway();
    let client = client(&gateway);
    let management = client.management();
    let create =
        CreateWorkspaceRequest::builder().name("Research").slug("research").build().expect("a request");
    let workspace = management.create_workspace(&create).await.expect("created");
    assert!(workspace.is_observability_broadcast_enabled, "on by default here");
    assert_eq!(management.get_workspace("research").await.expect("found by slug").id, workspace.id);
    let update =
        UpdateWorkspaceRequest::builder().is_observability_broadcast_enabled(false).build().expect("one");
    let changed = management.update_workspace(&workspace.id, &update).await.expect("changed");
    assert!(!changed.is_observability_broadcast_enabled);

    let key = management
        .create_api_key_in_workspace("app", Some(10.0), Some(&workspace.id))
        .await
        .expect("created");
    // The plaintext stands beside `data`, as upstream sends it; this crate reads `data` alone.
    assert!(key.label.as_deref().is_some_and(|l| l.starts_with("sk-tc-v1-")), "{:?}", key.label);
    let hash = key.hash.expect("a hash");
    let listed =
        management.list_api_keys_in_workspace(None, None, Some(&workspace.id)).await.expect("a list");
    assert_eq!(listed.iter().filter_map(|k| k.hash.as_deref()).collect::<Vec<_>>(), [hash.as_str()]);
    assert!(listed[0].key.is_none(), "never again");
    let disabled = management.update_api_key(&hash, None, Some(true), Some(5.0)).await.expect("changed");
    assert_eq!((disabled.disabled, disabled.limit), (Some(true), Some(5.0)));
    assert_eq!(disabled.name.as_deref(), Some("app"), "the null it sends for the name keeps it");
    assert!(management.delete_api_key(&hash).await.expect("deleted"));
    assert_eq!(status(management.get_api_key(&hash).await), 404);

    let current = management.get_current_api_key_info().await.expect("the client's own key");
    assert!(!current.is_management_key);
    assert!(management.delete_workspace("research", None).await.expect("deleted"));
    assert_eq!(status(management.get_workspace("research").await), 404);
}
