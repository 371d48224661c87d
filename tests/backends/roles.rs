//! moto with IAM and STS enforced behind `s3` with a role: whose external id opens the bucket, and whose does not.

use std::process::Command;

use serde_json::{Value as Json, json};
use tracecast_tests::process::Home;

use crate::python::{Server, free_port, run_json, venv};
use crate::s3::check;
use crate::sdks::{BINARY, send};

const CANARY: &str = "canary-prompt-5f10";
const ARN: &str = "arn:aws:iam::123456789012:role/writer";

fn destination(name: &str) -> Json {
    let config = json!({
        "bucketName": "traces", "authMode": "iam_role", "provider": "aws", "region": "us-east-1", "roleArn": ARN,
        "objectLayout": "per_trace",
    });
    json!({ "type": "s3", "name": name, "config": config })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_opens_for_the_external_id_of_its_destination_alone() {
    let python = venv("moto");
    let port = free_port();
    let moto = Server::start(
        "moto",
        port,
        "/moto-api/",
        Command::new(python.join("bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            // Until this many calls nothing is checked; the script ends that.
            .env("INITIAL_NO_AUTH_ACTION_COUNT", "1000"),
    )
    .await;
    let admin =
        |arguments: &[&str]| run_json(&python, "moto_admin.py", &[&[moto.url.as_str()], arguments].concat());
    let keys = admin(&["prepare"]);
    let text = |value: &Json| value.as_str().expect("a text").to_owned();
    let (key_id, secret) = (text(&keys["gateway"][0]), text(&keys["gateway"][1]));

    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start_with(&[
        ("AWS_ACCESS_KEY_ID", &key_id),
        ("AWS_SECRET_ACCESS_KEY", &secret),
        ("AWS_ENDPOINT_URL_STS", &moto.url),
        ("AWS_ENDPOINT_URL_S3", &moto.url),
    ]);
    let (status, created) =
        gateway.api("POST", "/observability/destinations", Some(&destination("own"))).await;
    assert_eq!(status, 201, "{created}");
    let (id, external) = (text(&created["data"]["id"]), text(&created["data"]["config"]["externalId"]));
    let test = async |id: &str| {
        let path = format!("/observability/destinations/{id}/test");
        let (_, answer) = gateway.api("POST", &path, None).await;
        assert!(!answer.to_string().contains(&secret), "{answer}");
        answer["data"].clone()
    };
    assert_eq!(admin(&["role", &external]), ARN);
    let report = test(&id).await;
    assert_eq!(report["ok"], true, "{report}");

    // Another destination, so another id: the same role does not open for it.
    let other = gateway.destination(destination("foreign")).await;
    let report = test(&other).await;
    assert_eq!(report["diagnosis"], "auth", "{report}");
    let hint = text(&report["hint"]);
    assert!(hint.contains("trust policy") && hint.contains("config.externalId"), "{hint}");
    let (status, _) = gateway.api("DELETE", &format!("/observability/destinations/{other}"), None).await;
    assert_eq!(status, 200);

    let sent = send(&gateway, "http", "role", CANARY, 3);
    gateway.settled(&id, 6).await;
    let (key_id, secret) = (text(&keys["administrator"][0]), text(&keys["administrator"][1]));
    let objects = admin(&["objects", &key_id, &secret]);
    let objects = objects.as_object().expect("objects by key");
    let traces: Vec<Json> = objects
        .iter()
        .filter(|(key, _)| key.ends_with(".json"))
        .map(|(_, body)| serde_json::from_str(body.as_str().expect("text")).expect("JSON"))
        .collect();
    check(&traces, &sent);
    assert!(traces.iter().all(|trace| trace["input"].to_string().contains(CANARY)), "{traces:#?}");
}
