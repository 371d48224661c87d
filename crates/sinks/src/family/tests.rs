//! The shared rules: waits, classes, partial success, texts, addresses, keys.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use url::Url;

use super::address::is_near;
use super::answer::{classify, with_damaged};
use super::json;
use super::objects::{PathTemplate, clean, join_key, segment};
use super::otlp_http::{self, PartialSuccess, partial_success};
use super::redact::{Redactor, shown_url};
use super::retry_after::{parse, retry_after};
use crate::testing::{batch, damaged_item, generation, item, reply, secret};
use crate::{Answer, ItemAnswer};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn retry_after_forms() {
    let now = at("1994-11-06T08:49:07Z");
    let seconds = |s: f64| Some(Duration::from_secs_f64(s));
    for (value, wait) in [
        ("120", seconds(120.0)),
        ("1.5", seconds(1.5)),
        (".25", seconds(0.25)),
        // The three date forms of RFC 9110.
        ("Sun, 06 Nov 1994 08:49:37 GMT", seconds(30.0)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", seconds(30.0)),
        ("Sun Nov  6 08:49:37 1994", seconds(30.0)),
        // Nothing to wait for, or nothing to read: backoff.
        ("0", None),
        ("Sun, 06 Nov 1994 08:49:06 GMT", None),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("1.2.3", None),
        ("NaN", None),
        ("inf", None),
        // Too long is cut to an hour.
        ("7200", seconds(7200.0)),
        ("99999999999999999999999999", seconds(86400.0)),
        ("Sun, 06 Nov 2094 08:49:37 GMT", seconds(86400.0)),
    ] {
        assert_eq!(parse(value, now), wait, "{value}");
    }
}

#[test]
fn retry_after_date_is_read_by_the_servers_clock() {
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
    headers.insert("date", "Sun, 06 Nov 1994 08:49:27 GMT".parse().unwrap());
    let ours = at("2026-01-01T00:00:00Z");
    assert_eq!(retry_after(&headers, ours), Some(Duration::from_secs(10)));
    headers.remove("date");
    assert_eq!(retry_after(&headers, ours), None);
}

#[test]
fn statuses_have_the_classes_of_the_contract() {
    let class = |status: u16, body: &str| match classify(
        &reply(status, "text/plain", body.as_bytes()),
        &Redactor::default(),
    ) {
        Answer::Delivered => "ok",
        Answer::Retry(failure) if failure.retry_after.is_some() => "retry slowly",
        Answer::Retry(_) => "retry",
        Answer::Isolate { by_size: true, .. } => "size",
        Answer::Isolate { by_size: false, .. } => "isolate",
        Answer::Auth(_) => "auth",
        Answer::Config(_) => "config",
        other => panic!("{other:?}"),
    };
    for (statuses, expected) in [
        (&[200, 201, 202, 204, 206][..], "ok"),
        (&[301, 302, 304, 307, 308], "config"),
        (&[404, 405, 410, 415, 508], "config"),
        (&[401, 402, 403, 407], "auth"),
        (&[408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 524, 530], "retry"),
        (&[501, 505, 511, 599], "retry slowly"),
        (&[400, 409, 418, 422], "isolate"),
        (&[413], "size"),
    ] {
        for status in statuses {
            assert_eq!(class(*status, ""), expected, "{status}");
        }
    }
    assert_eq!(class(400, "request body too large"), "size");
    assert_eq!(class(422, "Payload size exceeds the limit"), "size");
    assert_eq!(class(409, "run already exists"), "ok");
    assert_eq!(class(409, "conflict"), "isolate");
}

#[test]
fn failures_carry_status_words_and_wait_but_no_secret() {
    let redactor = Redactor::new([secret("sk-very-secret"), secret("very-secret-longer")]);
    let mut answer = reply(503, "text/plain", b"key sk-very-secret\n is\tbusy");
    answer.headers.insert("retry-after", "7".parse().unwrap());
    let Answer::Retry(failure) = classify(&answer, &redactor) else { panic!() };
    assert_eq!(failure.status, Some(503));
    assert_eq!(failure.message, "answered 503 service unavailable: key *** is busy");
    assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));

    let long = [b"x".repeat(1_990), b"sk-very-secret".to_vec(), b"y".repeat(70_000)].concat();
    let text = redactor.excerpt(&long);
    assert!(text.len() <= 2048);
    assert!(!text.contains("sk-very"));
    assert!(redactor.excerpt("ä".repeat(3_000).as_bytes()).len() <= 2048);
    assert_eq!(format!("{redactor:?}").find("very-secret"), None);
}

#[test]
fn protobuf_status_gives_the_message() {
    // google.rpc.Status { code: 3, message: "bad span" }
    let body = b"\x08\x03\x12\x08bad span";
    let Answer::Isolate { failure, .. } =
        classify(&reply(400, "application/x-protobuf", body), &Redactor::default())
    else {
        panic!()
    };
    assert_eq!(failure.message, "answered 400 bad request: bad span");
}

#[test]
fn retry_info_is_a_wait() {
    // google.rpc.Status { code: 8, details: [Any { type_url, value: RetryInfo { retry_delay } }] }
    let status = |url: &str, delay: &[u8]| {
        let info = [&[0x0a, delay.len() as u8][..], delay].concat();
        let any = [&[0x0a, url.len() as u8][..], url.as_bytes(), &[0x12, info.len() as u8], &info].concat();
        [&[0x08, 0x08, 0x1a, any.len() as u8][..], &any].concat()
    };
    let wait = |body: &[u8]| {
        let Answer::Retry(failure) =
            classify(&reply(503, "application/x-protobuf", body), &Redactor::default())
        else {
            panic!()
        };
        failure.retry_after
    };
    let url = "type.googleapis.com/google.rpc.RetryInfo";
    // seconds: 7, nanos: 500,000,000
    let delay = [0x08, 0x07, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01];
    assert_eq!(wait(&status(url, &delay)), Some(Duration::from_millis(7_500)));
    assert_eq!(wait(&status("type.googleapis.com/google.rpc.ErrorInfo", &delay)), None);
    assert_eq!(wait(&status(url, &[])), None, "no time at all: backoff");
    // seconds: -1
    let past = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(wait(&status(url, &past)), None);
    let mut both = reply(503, "application/x-protobuf", &status(url, &delay));
    both.headers.insert("retry-after", "3".parse().unwrap());
    let Answer::Retry(failure) = classify(&both, &Redactor::default()) else { panic!() };
    assert_eq!(failure.retry_after, Some(Duration::from_secs(3)), "the header speaks for all of HTTP");
}

#[test]
fn failures_below_http_have_the_classes_of_the_contract() {
    use super::transport::{Cause, TransportError};
    for (cause, is_config) in [
        (Cause::Connect, false),
        (Cause::Timeout, false),
        (Cause::Reset, false),
        (Cause::Garbled, false),
        (Cause::Dns { unknown_name: false }, false),
        (Cause::Tls { certificate: false }, false),
        (Cause::Dns { unknown_name: true }, true),
        (Cause::Tls { certificate: true }, true),
        (Cause::Blocked, true),
        (Cause::Invalid, true),
    ] {
        let error = TransportError { cause, message: "m".into() };
        match error.answer() {
            // Without a status: five in a row hold the destination.
            Answer::Config(failure) => assert!(is_config && failure.status.is_none(), "{cause:?}"),
            Answer::Retry(failure) => assert!(!is_config && failure.retry_after.is_none(), "{cause:?}"),
            other => panic!("{cause:?}: {other:?}"),
        }
    }
}

#[test]
fn partial_success_is_read_by_its_own_content_type() {
    let some = |rejected, message: &str| Some(PartialSuccess { rejected, message: message.into() });
    let json = "application/json";
    let proto = "application/x-protobuf";
    // field 1 { 1: 3, 2: "no" }
    let binary: &[u8] = b"\x0a\x06\x08\x03\x12\x02no";
    for (content_type, body, expected) in [
        (json, &br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}"#[..], some(3, "no")),
        (json, br#"{"partialSuccess":{"rejectedSpans":3}}"#, some(3, "")),
        (
            "application/json; charset=utf-8",
            br#"{"partial_success":{"rejected_spans":2,"error_message":"x"}}"#,
            some(2, "x"),
        ),
        (json, br#"{"partialSuccess":{"errorMessage":"deprecated"}}"#, some(0, "deprecated")),
        (json, br#"{"partialSuccess":{"rejectedSpans":"-1"}}"#, None),
        (json, br#"{"partialSuccess":{}}"#, None),
        (json, br#"{"partialSuccess":null}"#, None),
        (json, br#"{"jobId":17}"#, None),
        (json, b"{}", None),
        (json, b"not json", None),
        (json, b"", None),
        ("", br#"{"partialSuccess":{"rejectedSpans":1}}"#, some(1, "")),
        ("text/html", br#"{"partialSuccess":{"rejectedSpans":1}}"#, None),
        (proto, binary, some(3, "no")),
        ("application/protobuf", binary, some(3, "no")),
        (proto, b"\x0a\x00", None),
        (proto, b"\x0a\xff\xff", None),
        (proto, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        // JSON answered to a protobuf request.
        (json, binary, None),
    ] {
        assert_eq!(
            partial_success(&reply(200, content_type, body)),
            expected,
            "{content_type} {}",
            String::from_utf8_lossy(body)
        );
    }
}

#[test]
fn partial_success_is_final() {
    let two = batch(vec![item(1, &[generation(1)]), item(2, &[generation(2)])]);
    let answer = |rejected| {
        let partial = PartialSuccess { rejected, message: "why".into() };
        otlp_http::accepted(&two, Some(partial))
    };
    assert_eq!(otlp_http::accepted(&two, None), Answer::Delivered);
    assert_eq!(answer(0), Answer::Delivered);
    assert_eq!(answer(1), Answer::Partial { refused: 1, message: "why".into() });
    let refused = ItemAnswer::Refused("why".into());
    assert_eq!(answer(2), Answer::PerItem(vec![refused.clone(), refused.clone()]));
    assert_eq!(answer(u64::MAX), Answer::PerItem(vec![refused.clone(), refused]));
}

#[test]
fn damaged_items_are_refused_alone() {
    let three = batch(vec![item(1, &[generation(1)]), damaged_item(2), item(3, &[generation(3)])]);
    for body in [
        otlp_http::protobuf(&three.items, super::projection::edit),
        otlp_http::json(&three.items, super::projection::edit).into(),
    ] {
        assert_eq!(body.damaged, [1]);
    }
    let Answer::PerItem(items) = with_damaged(&three, &[1], Answer::Delivered) else { panic!() };
    assert_eq!(items[0], ItemAnswer::Delivered);
    assert!(matches!(items[1], ItemAnswer::Refused(_)));
    assert_eq!(items[2], ItemAnswer::Delivered);
    let retry = Answer::Retry(crate::Failure::default());
    assert_eq!(with_damaged(&three, &[1], retry.clone()), retry);
}

#[test]
fn json_bodies_join_with_commas_and_leave_nothing_out() {
    let body =
        otlp_http::json(&[item(1, &[generation(1)]), damaged_item(2), item(3, &[generation(3)])], |_| None);
    let json: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
    let list = json["resourceSpans"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0]["scopeSpans"][0]["spans"][0]["spanId"], "0101010101010101");
    assert_eq!(list[1]["scopeSpans"][0]["spans"][0]["spanId"], "0303030303030303");
    assert_eq!(&otlp_http::json(&[], |_| None).bytes[..], br#"{"resourceSpans":[]}"#);
}

#[test]
fn shown_urls_hide_what_may_be_secret() {
    let shown = |text: &str| shown_url(&Url::parse(text).unwrap());
    assert_eq!(shown("https://h/p"), "https://h/p");
    assert_eq!(shown("https://u:p@h:8443/p?token=abc&x=1#f"), "https://h:8443/p?token=***&x=***");
}

#[test]
fn near_hosts() {
    let near = |text: &str| is_near(&Url::parse(text).unwrap());
    for url in [
        "http://localhost:4318",
        "http://127.0.0.1",
        "http://10.2.3.4",
        "http://[::1]:4318",
        "http://collector:4318",
        "http://otel.monitoring.svc",
    ] {
        assert!(near(url), "{url}");
    }
    for url in ["http://api.axiom.co", "http://8.8.8.8"] {
        assert!(!near(url), "{url}");
    }
}

#[test]
fn path_templates_expand_in_utc_and_stay_clean() {
    // 2024-01-05T23:59:59Z
    let time = 1_704_499_199_000_000_000;
    let expand = |template: &str, prefix: &str, name: Option<&str>| {
        PathTemplate::read(template, prefix).unwrap().expand(time, name)
    };
    assert_eq!(expand("{prefix}/{date}", "openrouter-traces", None), "openrouter-traces/2024-01-05");
    assert_eq!(
        expand("{prefix}/{year}/{month}/{day}/{apiKeyName}", "a//b/", Some("prod")),
        "a/b/2024/01/05/prod"
    );
    assert_eq!(expand("{prefix}/x-{date}", "", None), "x-2024-01-05");
    assert_eq!(expand("/../{prefix}/./{apiKeyName}/", "/p/", Some("../..")), "p/..-..");
    assert_eq!(expand("{apiKeyName}", "", Some("..")), "unknown");
    assert_eq!(expand("{apiKeyName}", "", None), "unknown");
    assert!(PathTemplate::read("{prefix}/{hour}", "p").unwrap_err().contains("{hour}"));
    assert!(PathTemplate::read("{prefix", "p").is_err());
    assert_eq!(clean("///"), "");
    assert_eq!(join_key("", "name"), "name");
    assert_eq!(join_key("p", "name"), "p/name");
}

#[test]
fn foreign_names_become_one_segment() {
    assert_eq!(segment("a/b\\c\n"), "a-b-c");
    assert_eq!(segment("x\u{7}y"), "x-y");
    assert_eq!(segment("50% <b>?"), "50%25 %3Cb%3E%3F");
    assert_eq!(segment(" "), "unknown");
    assert_eq!(segment("..."), "unknown");
    assert_eq!(segment("Schlüssel 1"), "Schlüssel 1");
    assert!(segment(&"ü".repeat(500)).len() <= 200);
}

#[test]
fn json_texts_stay_on_one_line() {
    assert_eq!(json::one_line("{\n \"a\": \"x\\ny\"\r\n}").unwrap(), b"{  \"a\": \"x\\ny\"  }");
    assert_eq!(json::one_line("{\"a\":"), None);
    assert_eq!(json::one_line("plain"), None);
    let mut out = Vec::new();
    let mut object = json::Object::open(&mut out);
    object.opt_f64("nan", Some(f64::NAN));
    object.opt_f64("small", Some(1e-7));
    object.opt_json("text", Some("not {json"));
    object.close();
    assert_eq!(out, br#"{"small":0.0000001,"text":"not {json"}"#);
    assert_eq!(json::rfc3339(1_768_473_660_500_000_000), "2026-01-15T10:41:00.500Z");
}
