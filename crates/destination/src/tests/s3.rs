//! The conditional rules of S3.
use super::*;
use crate::{Config, S3Config, S3Provider, s3_external_id};

const ARN: &str = "arn:aws:iam::123456789012:role/tracecast";

fn role() -> Json {
    json!({"bucketName": "b", "authMode": "iam_role", "roleArn": ARN, "region": "eu-west-1"})
}

fn keys() -> Json {
    case(Kind::S3).minimal
}

fn s3(config: &Json) -> S3Config {
    match created(Kind::S3, config).config {
        Config::S3(config) => config,
        other => panic!("{other:?}"),
    }
}

fn later() -> Timestamp {
    "2026-10-01T00:00:00Z".parse().unwrap()
}

#[test]
fn access_keys_need_both_keys() {
    for key in ["accessKeyId", "secretAccessKey"] {
        let issue = sole(create(&body(Kind::S3, &without(&keys(), key))), &format!("config.{key}"));
        assert_eq!(issue.message, "is required with authMode access_keys");
        // a key of the wrong type is not also missing
        sole(create(&body(Kind::S3, &with(&keys(), json!({ key: 1 })))), &format!("config.{key}"));
    }
    assert_eq!(refused(Kind::S3, &json!({"authMode": "access_keys"})).len(), 3);
    // which mode was meant is unknown: nothing more is asked for
    sole(create(&body(Kind::S3, &json!({"bucketName": "b", "authMode": "x"}))), "config.authMode");
}

#[test]
fn iam_role_needs_role_and_region_and_aws() {
    for key in ["roleArn", "region"] {
        let issue = sole(create(&body(Kind::S3, &without(&role(), key))), &format!("config.{key}"));
        assert_eq!(issue.message, "is required with authMode iam_role");
    }
    created(Kind::S3, &with(&role(), json!({"provider": "aws"})));
    let on = |more: Json| create(&body(Kind::S3, &with(&role(), more)));
    sole(on(json!({"provider": "gcs"})), "config.provider");
    sole(on(json!({"endpoint": "http://minio:9000"})), "config.endpoint");
    sole(on(json!({"provider": "other", "endpoint": "http://minio:9000"})), "config.provider");
}

#[test]
fn external_id_is_assigned_and_never_chosen() {
    let destination = created(Kind::S3, &role());
    let assigned = s3_external_id(ID);
    assert_eq!(destination.to_json()["config"]["externalId"], *assigned);
    assert_eq!(s3(&role()).external_id.as_deref(), Some(assigned.as_str()));
    created(Kind::S3, &with(&role(), json!({"externalId": assigned})));
    created(Kind::S3, &with(&role(), json!({"externalId": null})));
    for chosen in [json!("mine"), json!(1), json!("")] {
        let chosen = json!({"externalId": chosen});
        sole(create(&body(Kind::S3, &with(&role(), chosen.clone()))), "config.externalId");
        sole(create(&body(Kind::S3, &with(&keys(), chosen.clone()))), "config.externalId");
        sole(destination.patch(&json!({"config": chosen}), later()), "config.externalId");
    }
    assert_eq!(s3(&keys()).external_id, None);
    assert_ne!(s3_external_id(Uuid::from_u128(1)), assigned);
}

#[test]
fn the_mode_can_be_switched_and_the_external_id_comes_back() {
    let destination = created(Kind::S3, &with(&keys(), json!({"region": "eu-west-1"})));
    let to_role = json!({"config": {"authMode": "iam_role", "roleArn": ARN}});
    let switched = destination.patch(&to_role, later()).unwrap();
    assert_eq!(switched.to_json()["config"]["externalId"], *s3_external_id(ID));
    let back = switched.patch(&json!({"config": {"authMode": "access_keys"}}), later()).unwrap();
    assert_eq!(back.to_json()["config"].get("externalId"), None);
    let role_only = created(Kind::S3, &role());
    let issues = role_only.patch(&json!({"config": {"authMode": "access_keys"}}), later());
    assert_eq!(issues.unwrap_err().len(), 2);
}

#[test]
fn provider_is_derived_and_agrees_with_the_endpoint() {
    for (more, provider, region, endpoint) in [
        (json!({}), S3Provider::Aws, None, None),
        (json!({"region": "us-east-2"}), S3Provider::Aws, Some("us-east-2"), None),
        (
            json!({"endpoint": "https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com"}),
            S3Provider::Aws,
            None,
            Some("https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com"),
        ),
        (
            json!({"endpoint": "https://a.eu.r2.cloudflarestorage.com/"}),
            S3Provider::CloudflareR2,
            Some("auto"),
            Some("https://a.eu.r2.cloudflarestorage.com"),
        ),
        (
            json!({"endpoint": "https://storage.googleapis.com"}),
            S3Provider::Gcs,
            Some("auto"),
            Some("https://storage.googleapis.com"),
        ),
        (json!({"provider": "gcs"}), S3Provider::Gcs, Some("auto"), Some("https://storage.googleapis.com")),
        (
            json!({"endpoint": "http://127.0.0.1:9000"}),
            S3Provider::Other,
            Some("us-east-1"),
            Some("http://127.0.0.1:9000"),
        ),
    ] {
        let config = s3(&with(&keys(), more.clone()));
        assert_eq!(config.effective_provider(), provider, "{more}");
        assert_eq!(config.effective_region(), region, "{more}");
        assert_eq!(config.effective_endpoint(), endpoint, "{more}");
    }
    let on = |more: Json| create(&body(Kind::S3, &with(&keys(), more)));
    sole(on(json!({"provider": "aws", "endpoint": "http://minio:9000"})), "config.endpoint");
    sole(on(json!({"provider": "other"})), "config.endpoint");
    sole(on(json!({"provider": "cloudflare_r2"})), "config.endpoint");
    sole(on(json!({"endpoint": "minio:9000"})), "config.endpoint");
}

#[test]
fn amazon_headers_are_limited_to_an_allow_list() {
    for name in [
        "x-amz-server-side-encryption",
        "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id",
        "x-amz-storage-class",
        "x-amz-acl",
        "x-amz-tagging",
        "x-amz-meta-team",
        "x-amz-expected-bucket-owner",
        "x-amz-request-payer",
        "cache-control",
    ] {
        created(Kind::S3, &with(&keys(), json!({"headers": {name: "v"}})));
    }
    for name in ["x-amz-date", "X-Amz-Security-Token", "x-amz-content-sha256", "x-amz-copy-source"] {
        let config = with(&keys(), json!({"headers": {name: "v"}}));
        sole(create(&body(Kind::S3, &config)), &format!("config.headers.{name}"));
        created(Kind::Webhook, &json!({"url": "http://h", "headers": {name: "v"}}));
    }
}
