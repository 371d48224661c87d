//! Roles: what STS is asked, what is done with its answer, and who the gateway is to it.

use std::collections::HashMap;
use std::sync::Arc;

use tracecast_destination::{S3AuthMode, S3Config, S3ObjectLayout};

use super::super::request::{Bucket, Layout, role};
use super::super::{S3, objects};
use super::config;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

const ARN: &str = "arn:aws:iam::123456789012:role/writer";

/// A bucket behind a role; the variables are the gateway's environment.
fn adapter(s3: &str, variables: &[(&str, &str)]) -> S3 {
    let config = S3Config {
        auth_mode: S3AuthMode::IamRole,
        access_key_id: None,
        secret_access_key: None,
        role_arn: Some(ARN.into()),
        external_id: Some("ext-0001".into()),
        region: Some("eu-west-1".into()),
        ..config(Some(s3), S3ObjectLayout::PerTrace)
    };
    let variables: HashMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let clients = clients();
    let role = role(&config, &clients, &|name| variables.get(name).cloned()).unwrap();
    S3 {
        bucket: Bucket::with_role(&config, &clients, Some(role), None).unwrap(),
        layout: Arc::new(Layout::new(&config).unwrap()),
        prefix: objects::clean(&config.prefix),
    }
}

fn given(id: &str, ends: &str) -> Answered {
    let body = format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>{id}</AccessKeyId>\
         <SecretAccessKey>role-secret</SecretAccessKey><SessionToken>role-token</SessionToken>\
         <Expiration>{ends}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    );
    Some((200, "content-type: text/xml\r\n".into(), body.into()))
}

fn hours_from_now(hours: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours)).to_string()
}

/// An STS that checks what the reference demands of a call.
async fn sts(ends: String) -> Server {
    Server::answering(move |position, received| {
        let form: HashMap<String, String> =
            url::form_urlencoded::parse(&received.body).into_owned().collect();
        let wanted = [
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", ARN),
            ("RoleSessionName", "tracecast"),
            ("ExternalId", "ext-0001"),
            ("DurationSeconds", "3600"),
        ];
        let signed = received.header("authorization");
        let is_good = wanted.iter().all(|(name, value)| form.get(*name).is_some_and(|is| is == value))
            && form.len() == wanted.len()
            && received.method == "POST"
            && received.header("content-type") == "application/x-www-form-urlencoded"
            && signed.starts_with("AWS4-HMAC-SHA256 Credential=AKIAOWN/")
            && signed.contains("/eu-west-1/sts/aws4_request, SignedHeaders=content-type;host;x-amz-date");
        match is_good {
            true => given(&format!("ASIAROLE{position}"), &ends),
            false => {
                let body = "<Error><Code>AccessDenied</Code><Message>not so</Message></Error>";
                Some((403, String::new(), body.into()))
            }
        }
    })
    .await
}

async fn send(adapter: &S3) -> Answer {
    adapter.send(&batch(vec![item(1, &[generation(1)])])).await.answer
}

#[tokio::test]
async fn objects_are_written_with_the_credentials_of_the_role() {
    let sts = sts(hours_from_now(1)).await;
    let s3 = Server::start(vec![(200, "", b"")]).await;
    let own = [
        ("AWS_ACCESS_KEY_ID", "AKIAOWN"),
        ("AWS_SECRET_ACCESS_KEY", "own-secret"),
        ("AWS_ENDPOINT_URL_STS", sts.url.as_str()),
    ];
    let adapter = adapter(&s3.url, &own);
    assert_eq!(send(&adapter).await, Answer::Delivered);
    assert_eq!(send(&adapter).await, Answer::Delivered);
    assert_eq!(sts.received().len(), 1, "credentials that hold are kept");
    for put in s3.received() {
        assert!(put.header("authorization").contains("Credential=ASIAROLE0/"), "{put:?}");
        assert_eq!(put.header("x-amz-security-token"), "role-token");
    }
    let shown = format!("{adapter:?}");
    assert!(!shown.contains("role-secret") && !shown.contains("own-secret"), "{shown}");
}

#[tokio::test]
async fn credentials_are_renewed_before_they_end() {
    let sts = sts((jiff::Timestamp::now() + jiff::SignedDuration::from_mins(4)).to_string()).await;
    let s3 = Server::start(vec![(200, "", b"")]).await;
    let own = [
        ("AWS_ACCESS_KEY_ID", "AKIAOWN"),
        ("AWS_SECRET_ACCESS_KEY", "own-secret"),
        ("AWS_ENDPOINT_URL_STS", sts.url.as_str()),
    ];
    let adapter = adapter(&s3.url, &own);
    for n in 0..2 {
        assert_eq!(send(&adapter).await, Answer::Delivered);
        let put = s3.received().pop().unwrap();
        assert!(put.header("authorization").contains(&format!("Credential=ASIAROLE{n}/")), "{put:?}");
    }
}

#[tokio::test]
async fn a_role_that_may_not_be_assumed_holds_the_destination() {
    let refused: &[u8] =
        b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no trust</Message></Error></ErrorResponse>";
    let sts = Server::start(vec![(403, "", refused)]).await;
    let s3 = Server::start(vec![(200, "", b"")]).await;
    let own = [
        ("AWS_ACCESS_KEY_ID", "AKIAOWN"),
        ("AWS_SECRET_ACCESS_KEY", "own-secret"),
        ("AWS_ENDPOINT_URL_STS", sts.url.as_str()),
    ];
    let adapter = adapter(&s3.url, &own);
    let Answer::Auth(failure) = send(&adapter).await else { panic!() };
    assert!(failure.message.contains("AccessDenied: no trust"), "{}", failure.message);
    let report = adapter.test().await;
    assert_eq!((report.diagnosis, report.status), (Diagnosis::Auth, Some(403)));
    assert!(report.hint.contains("trust policy"), "{}", report.hint);
    assert!(s3.received().is_empty());

    let unknown: &[u8] = b"<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>";
    let sts = Server::start(vec![(403, "", unknown)]).await;
    let own = [
        ("AWS_ACCESS_KEY_ID", "AKIAOWN"),
        ("AWS_SECRET_ACCESS_KEY", "own-secret"),
        ("AWS_ENDPOINT_URL_STS", sts.url.as_str()),
    ];
    let report = super::roles::adapter(&s3.url, &own).test().await;
    assert_eq!(report.diagnosis, Diagnosis::Auth);
    assert!(report.hint.contains("gateway's own credentials"), "{}", report.hint);

    let ill = Server::start(vec![(503, "", b"")]).await;
    let own = [
        ("AWS_ACCESS_KEY_ID", "AKIAOWN"),
        ("AWS_SECRET_ACCESS_KEY", "own-secret"),
        ("AWS_ENDPOINT_URL_STS", ill.url.as_str()),
    ];
    assert!(matches!(send(&super::roles::adapter(&s3.url, &own)).await, Answer::Retry(_)));
}

#[tokio::test]
async fn the_gateways_identity_comes_from_where_the_sdks_look() {
    let s3 = Server::start(vec![(200, "", b"")]).await;
    let sts = Server::answering(|_, received| {
        let form: HashMap<String, String> =
            url::form_urlencoded::parse(&received.body).into_owned().collect();
        match form["Action"].as_str() {
            "AssumeRoleWithWebIdentity" => {
                let is_good = form["WebIdentityToken"] == "jwt"
                    && form["RoleArn"] == "arn:own"
                    && received.header("authorization").is_empty();
                is_good.then(|| given("ASIAOWN", &hours_from_now(1))).flatten()
            }
            _ => {
                let by = received.header("authorization").split(['=', '/']).nth(1).unwrap().to_owned();
                given(&format!("ROLEBY{by}"), &hours_from_now(1))
            }
        }
    })
    .await;
    let machine = Server::answering(|_, received| {
        let json = r#"{"AccessKeyId":"ASIAMACHINE","SecretAccessKey":"x","Token":"t"}"#;
        let body = match (received.method.as_str(), received.target.as_str()) {
            ("GET", "/container") if received.header("authorization") == "pod-token" => json,
            ("PUT", "/latest/api/token") => "imds-token",
            ("GET", path) if received.header("x-aws-ec2-metadata-token") == "imds-token" => {
                match path.strip_prefix("/latest/meta-data/iam/security-credentials/") {
                    Some("") => "instance-role",
                    Some("instance-role") => json,
                    _ => return Some((404, String::new(), Vec::new())),
                }
            }
            _ => return Some((401, String::new(), Vec::new())),
        };
        Some((200, String::new(), body.into()))
    })
    .await;
    let file = std::env::temp_dir().join(format!("tracecast-web-identity-{}", std::process::id()));
    std::fs::write(&file, "jwt\n").unwrap();
    let container = format!("{}/container", machine.url);
    let sources: [(&[(&str, &str)], &str); 3] = [
        (
            &[("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()), ("AWS_ROLE_ARN", "arn:own")],
            "ROLEBYASIAOWN",
        ),
        (
            &[
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token"),
            ],
            "ROLEBYASIAMACHINE",
        ),
        (&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &machine.url)], "ROLEBYASIAMACHINE"),
    ];
    for (variables, by) in sources {
        let variables = [variables, &[("AWS_ENDPOINT_URL_STS", sts.url.as_str())]].concat();
        assert_eq!(send(&adapter(&s3.url, &variables)).await, Answer::Delivered, "{by}");
        let put = s3.received().pop().unwrap();
        assert!(put.header("authorization").contains(&format!("Credential={by}/")), "{put:?}");
    }
    std::fs::remove_file(&file).unwrap();

    // None of them: said so, and nothing is sent.
    let nobody = format!("http://{}", closed_port());
    let variables =
        [("AWS_EC2_METADATA_SERVICE_ENDPOINT", nobody.as_str()), ("AWS_ENDPOINT_URL_STS", &sts.url)];
    let Answer::Auth(failure) = send(&adapter(&s3.url, &variables)).await else { panic!() };
    assert!(failure.message.contains("no identity at aws"), "{}", failure.message);
    let report = adapter(&s3.url, &variables).test().await;
    assert_eq!(report.diagnosis, Diagnosis::Auth);
    assert!(report.hint.contains("give the gateway one: AWS_ACCESS_KEY_ID"), "{}", report.hint);
}
