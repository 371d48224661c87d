//! Signed webhooks as a receiver with the official library sees them: over a rotation, a crash, a file.

use serde_json::{Value as Json, json};
use standardwebhooks::Webhook;
use tracecast_tests::fakes::{Fake, Got};
use tracecast_tests::process::{Gateway, Home};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

const FIRST: &str = "whsec_Rmlyc3RTZWNyZXRPZlRoZVRlc3RzMDAwMDAwMDE=";
const SECOND: &str = "whsec_U2Vjb25kU2VjcmV0T2ZUaGVUZXN0czAwMDAwMDI=";

/// Which of the secrets the request verifies with.
fn verified(got: &Got) -> [bool; 2] {
    [FIRST, SECOND].map(|secret| {
        let verifier = Webhook::new(secret).expect("a secret");
        verifier.verify(&got.body, &got.headers).is_ok()
    })
}

fn ids(got: &[Got]) -> Vec<&str> {
    got.iter().map(|got| got.headers["webhook-id"].to_str().expect("text")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_signs_on_over_a_crash_and_retries_keep_their_id() {
    // The first attempt of each delivery fails.
    let fake = Fake::start(Box::new(|n, _| (if n % 2 == 0 { 503 } else { 200 }, "text/plain", vec![]))).await;
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let id = gateway.simple("webhook", "signed", json!({ "url": fake.url(), "signingSecret": FIRST })).await;
    assert_eq!(gateway.send(request(&[generation(1, "x")])).await.0, 200);
    gateway.settled(&id, 1).await;
    let got = fake.wait_for(2).await;
    assert_eq!([verified(&got[0]), verified(&got[1])], [[true, false]; 2]);
    assert_eq!(ids(&got)[0], ids(&got)[1]);
    assert_eq!(got[0].headers["idempotency-key"], got[0].headers["webhook-id"]);

    let path = format!("/observability/destinations/{id}");
    let change = json!({ "config": { "signingSecret": SECOND } });
    let (status, changed) = gateway.api("PATCH", &path, Some(&change)).await;
    assert_eq!(status, 200, "{changed}");
    let former = &changed["data"]["config"]["previousSigningSecrets"][0];
    assert_eq!((&former["secret"], former["signsUntil"].is_string()), (&json!("whse...MDE="), true));
    assert_eq!(gateway.send(request(&[generation(2, "x")])).await.0, 200);
    gateway.settled(&id, 2).await;
    gateway.kill();

    let gateway = home.start();
    assert_eq!(gateway.send(request(&[generation(3, "x")])).await.0, 200);
    gateway.settled(&id, 3).await;
    let got = fake.wait_for(6).await;
    for got in &got[2..] {
        assert_eq!(verified(got), [true, true]);
    }
    assert_ne!(ids(&got)[3], ids(&got)[4]);
    // Tests are signed as well.
    assert_eq!(gateway.api("POST", &format!("{path}/test"), None).await.0, 200);
    assert_eq!(verified(&fake.wait_for(7).await[6]), [true, true]);
    assert_eq!(gateway.stop(), 0);
    for secret in [FIRST, SECOND] {
        assert_eq!(home.files_with(secret.trim_start_matches("whsec_")), Vec::<String>::new());
    }
}

async fn file_destination(gateway: &Gateway) -> Json {
    let (_, list) = gateway.api("GET", "/observability/destinations", None).await;
    list["data"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_changed_in_the_config_file_rotates_too() {
    let fake = Fake::start(Box::new(|_, _| (200, "text/plain", vec![]))).await;
    let home = Home::new(BINARY);
    let config = |secret: &str| {
        home.config(&format!(
            "destinations:\n  - {{ name: signed, type: webhook, config: {{ url: \"{}\", signingSecret: {secret} }} }}\n",
            fake.url()
        ));
    };
    config(FIRST);
    let gateway = home.start();
    assert_eq!(gateway.stop(), 0);
    config(SECOND);
    // Started twice: what does not change does not end the rotation.
    let gateway = home.start();
    assert_eq!(gateway.stop(), 0);
    let gateway = home.start();
    let shown = file_destination(&gateway).await;
    assert_eq!(shown["config"]["signingSecret"], "whse...MDI=", "{shown:#}");
    assert_eq!(gateway.send(request(&[generation(1, "x")])).await.0, 200);
    assert_eq!(verified(&fake.wait_for(1).await[0]), [true, true]);
}
