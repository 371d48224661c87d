//! Destinations that answer badly, or not at all: what each is taken for, and that nothing is lost by it.

use std::time::Instant;

use tracecast_loadkit::faultsink::{BlackHole, Fault, FaultSink, Reply};
use tracecast_tests::process::is_timed;
use tracecast_tests::spans::{generation, request};

use crate::scene::Scene;
use crate::table::Row;
use crate::tls::{Authority, Front, Wrong};

const FAILING: &[&str] = &["degraded", "open"];
const THROTTLED: &[&str] = &["throttled"];
const AUTH: &[&str] = &["held_auth"];
const CONFIG: &[&str] = &["held_config"];
const FINE: &[&str] = &["healthy"];

fn refuse(status: u16) -> Fault {
    Fault::Refuse(Reply::new(status, "no"))
}

/// Faults of sinks that listen, and the states in which the destination may be because of it.
fn faults() -> Vec<(&'static str, Fault, &'static [&'static str])> {
    let redirect = Reply::new(301, "").header("location", "http://127.0.0.1:9/");
    let later = Reply::new(503, "busy").header("retry-after", "3600");
    let odd = |reply| Fault::TakeSaying(reply);
    vec![
        ("429", refuse(429), FAILING),
        ("500", refuse(500), FAILING),
        ("502", refuse(502), FAILING),
        ("408", refuse(408), FAILING),
        ("503 for an hour", Fault::Refuse(later), THROTTLED),
        ("401", refuse(401), AUTH),
        ("403", refuse(403), AUTH),
        ("404", refuse(404), CONFIG),
        ("410", refuse(410), CONFIG),
        ("redirect", Fault::Refuse(redirect), CONFIG),
        ("207", odd(Reply::json(207, r#"[{"status":500}]"#)), FINE),
        ("204", odd(Reply { status: 204, ..Reply::default() }), FINE),
        ("200 with an error", odd(Reply::json(200, r#"{"code":13,"message":"internal"}"#)), FINE),
        ("200 with a page", odd(Reply::new(200, "<html>welcome</html>").header("x", "y")), FINE),
        ("closed under reuse", Fault::CloseUnderReuse, FINE),
        ("hang", Fault::Hang, &["healthy", "degraded", "open"]),
        ("1 byte per second", Fault::Drip, &["healthy", "degraded", "open"]),
        ("reset at the head", Fault::ResetAtHead, FAILING),
        ("reset at byte 1", Fault::ResetAt(1), FAILING),
        ("reset at byte 5000", Fault::ResetAt(5000), FAILING),
        ("reset after the body", Fault::ResetAfterBody, FAILING),
        ("torn answer", Fault::TornAnswer, FAILING),
        ("lost answer", Fault::LoseAnswer, FAILING),
        ("no HTTP", Fault::Garbage, FAILING),
        ("early 503", Fault::EarlyReply(Reply::new(503, "full")), FAILING),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_and_then_recovery() {
    const SPANS: u64 = 60;
    let authority = Authority::new("trusted by the gateway");
    let mut scene = Scene::open_with("limits: { destinations_per_kind: 100 }\n", |home| {
        let file = home.path().join("authority.pem");
        authority.write(&file);
        vec![("SSL_CERT_FILE", file.display().to_string())]
    })
    .await;
    let mut expected = Vec::new();
    for (name, fault, states) in faults() {
        scene.place(name, fault).await;
        expected.push(states);
    }
    // Those whose address is the fault: it is corrected later. A good certificate shows that the authority counts.
    let hole = BlackHole::start().await.expect("a black hole");
    // Bound all the time, so that nobody else gets the port, but nobody listens.
    let unheard = tokio::net::TcpSocket::new_v4().expect("a socket");
    unheard.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let closed = unheard.local_addr().expect("its address");
    let mut fronts = Vec::new();
    let mut moved = Vec::new();
    let nowhere = [
        (
            "black hole",
            format!("http://{}", hole.address().expect("its address")),
            &["healthy", "degraded", "open"],
        ),
        ("refused", format!("http://{closed}"), &["degraded", "open", ""]),
        ("NXDOMAIN", "http://nowhere.invalid".to_owned(), &["held_config", "", ""]),
    ];
    for (name, endpoint, states) in &nowhere {
        let sink = FaultSink::start(Fault::None).await.expect("a sink");
        moved.push(scene.place_at(name, sink, endpoint).await);
        expected.push(states.as_slice());
    }
    for (name, wrong, states) in [
        ("TLS", Wrong::Nothing, FINE),
        ("TLS expired", Wrong::Expired, CONFIG),
        ("TLS unknown issuer", Wrong::Issuer, CONFIG),
        ("TLS other name", Wrong::Name, CONFIG),
    ] {
        let sink = FaultSink::start(Fault::None).await.expect("a sink");
        let front = Front::start(&authority, wrong, sink.address()).await;
        moved.push(scene.place_at(name, sink, &front.url()).await);
        fronts.push(front);
        expected.push(states);
    }

    scene.load(scene.options(SPANS, 10, 1000, 1)).await;
    for (place, states) in expected.iter().enumerate() {
        let settles = states == &FINE;
        let stats = scene
            .until(place, &format!("one of {states:?}"), |stats| {
                let tried = settles || stats["attempts"].as_u64() > Some(0);
                tried
                    && states.contains(&stats["state"].as_str().unwrap_or(""))
                    && (stats["pending"] == 0) == settles
            })
            .await;
        let pending = if settles { 0 } else { SPANS };
        assert_eq!(stats["pending"], pending, "{}: {stats:#}", scene.places[place].name);
    }
    for place in moved {
        let url = scene.places[place].sink.url();
        scene.readdress(place, &url).await;
    }
    scene.recover().await;
    let places = scene.places.len();
    let conclusion = scene.conclude().await;
    assert_eq!((conclusion.dead_lettered, conclusion.dropped), (0, 0));
    Row {
        test: "every_fault_and_then_recovery",
        fault: "29 ways to fail at once: statuses, resets at any byte, hang, 1 B/s, torn, lost and early answers, \
                no HTTP, black hole, refused, NXDOMAIN, TLS expired / unknown issuer / other name; then all repaired",
        load: format!("{SPANS} spans to each of {places} destinations"),
        expected: "the state each fault stands for; all delivered after the repair",
        measured: conclusion.to_string(),
    }
    .record();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_retry_after() {
    const FORMS: usize = 9;
    let mut scene = Scene::open("limits: { destinations_per_kind: 100 }\n").await;
    for n in 0..FORMS {
        scene.place(&format!("form {n}"), Fault::None).await;
    }
    let begun = Instant::now();
    let http_date = |seconds: i64, format: &str| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        jiff::fmt::strtime::format(format, at).expect("a date")
    };
    let (imf, rfc850, asctime) =
        ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y");
    // The header, and the wait it asks for (none: the backoff's, at most half a second the first time; the tests of
    // delivery look at that on a clock of their own). Dates have whole seconds, so one is lost by cutting.
    let forms: [(&str, String, Option<f64>); FORMS] = [
        ("seconds", "2".into(), Some(2.0)),
        ("fraction", "1.5".into(), Some(1.5)),
        ("date", http_date(4, imf), Some(3.0)),
        ("date of RFC 850", http_date(4, rfc850), Some(3.0)),
        ("date of asctime", http_date(4, asctime), Some(3.0)),
        ("past date", http_date(-60, imf), None),
        ("zero", "0".into(), None),
        ("negative", "-5".into(), None),
        ("no sense", "soon".into(), None),
    ];
    for ((_, header, _), place) in forms.iter().zip(&scene.places) {
        place.sink.queue([Fault::Refuse(Reply::new(429, "slow down").header("retry-after", header))]);
    }
    scene.send(request(&[generation(1, "x")])).await;
    let mut waits = Vec::new();
    for (place, (name, header, wait)) in forms.iter().enumerate() {
        scene.until(place, "drained", |stats| stats["pending"] == 0 && stats["delivered"] == 1).await;
        let exchanges = scene.places[place].sink.exchanges();
        let [first, second] = exchanges.as_slice() else { panic!("{name}: {exchanges:?}") };
        let waited = (second.at - first.at).as_secs_f64();
        // Dates count from when they were made.
        let since = if wait.is_some() && header.len() > 9 { second.at - begun } else { second.at - first.at };
        let since = since.as_secs_f64();
        assert!(since >= wait.unwrap_or_default(), "{name}: {since} s");
        if is_timed() {
            let most = wait.map_or(2.0, |wait| wait * 1.1 + 2.5);
            assert!(since.max(waited) <= most, "{name}: {since} s");
        }
        waits.push(format!("{name} {waited:.1} s"));
    }
    let conclusion = scene.conclude().await;
    Row {
        test: "every_form_of_retry_after",
        fault: "429 with every form of Retry-After: seconds, fraction, three date forms, past, zero, negative, no sense",
        load: format!("1 span to each of {} destinations", forms.len()),
        expected: "waits as asked, plus at most 10 %; backoff where nothing sensible is asked",
        measured: format!("{}; {conclusion}", waits.join(", ")),
    }
    .record();
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_success_of_every_shape() {
    const SPANS: u64 = 40;
    let partial = |refused, said, message: &str| Fault::Partial { refused, said, message: message.into() };
    let protobuf = |body: &[u8]| {
        let reply = Reply { status: 200, headers: Vec::new(), body: body.to_vec() };
        Fault::TakeSaying(reply.header("content-type", "application/x-protobuf"))
    };
    // The fault, and how many spans end as refused: dropped (not named) or dead-lettered (all of them, so named).
    let shapes = [
        ("a warning only", partial(0, 0, "a field is deprecated"), (0, 0)),
        ("1 of 40", partial(1, 1, "no"), (1, 0)),
        ("17 of 40", partial(17, 17, "no"), (17, 0)),
        ("40 of 40", partial(40, 40, "no"), (0, 40)),
        ("negative", partial(0, -3, "odd"), (0, 0)),
        ("no protobuf", protobuf(b"\xff\xff\xff\xff\xff"), (0, 0)),
        ("a length that lies", protobuf(b"\x0a\xff\xff\x03\x08\x05"), (0, 0)),
        ("an empty partial success", protobuf(b"\x0a\x00"), (0, 0)),
        ("json without sense", Fault::TakeSaying(Reply::json(200, r#"{"partialSuccess":[1,2]}"#)), (0, 0)),
    ];
    let mut scene = Scene::open("limits: { destinations_per_kind: 100 }\n").await;
    for (name, fault, _) in &shapes {
        let place = scene.place(name, Fault::None).await;
        // One that refuses all of it refuses the halves as well.
        match fault {
            Fault::Partial { refused: 40, .. } => scene.places[place].sink.behave(fault.clone()),
            _ => scene.places[place].sink.queue([fault.clone()]),
        }
    }
    let spans: Vec<_> = (0..SPANS).map(|n| generation(n, "x")).collect();
    scene.send(request(&spans)).await;
    for (place, (name, _, (dropped, dead))) in shapes.iter().enumerate() {
        let stats =
            scene.until(place, "drained", |stats| stats["pending"] == 0 && stats["selected"] == SPANS).await;
        assert_eq!(stats["dropped"]["refused_unattributed"], *dropped, "{name}: {stats:#}");
        assert_eq!(stats["dead_lettered"], *dead, "{name}: {stats:#}");
        let resent = scene.places[place].sink.exchanges().len() - 1;
        assert!(resent == 0 || *dead > 0, "{name}: a partial success is never resent");
        scene.places[place].sink.behave(Fault::None);
    }
    let conclusion = scene.conclude().await;
    assert_eq!((conclusion.dropped, conclusion.dead_lettered, conclusion.duplicates), (18, 40, 0));
    Row {
        test: "partial_success_of_every_shape",
        fault: "OTLP partial success: warning, 1, 17 and 40 of 40 refused, negative, no protobuf, false length, empty, \
                JSON without sense",
        load: format!("{SPANS} spans to each of {} destinations", shapes.len()),
        expected: "k dropped as refused_unattributed or all dead-lettered, the rest delivered, nothing resent",
        measured: conclusion.to_string(),
    }
    .record();
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_among_a_thousand() {
    const SPANS: u64 = 1000;
    let counts = [1usize, 3, 17];
    let mut scene = Scene::open("limits: { destinations_per_kind: 100 }\n").await;
    let mut places = Vec::new();
    for status in [400, 413] {
        for k in counts {
            let marker = format!("poison-{k}.");
            let fault = Fault::Poison { marker, reply: Reply::new(status, "a span is not welcome") };
            places.push((status, k, scene.place(&format!("{k} by {status}"), fault).await));
        }
    }
    // Span n is poison for `k` if it is one of k spread evenly.
    let mut spans = Vec::new();
    for n in 0..SPANS {
        let marks: String = counts
            .iter()
            .filter(|k| (0..**k as u64).any(|i| i * SPANS / **k as u64 + 5 == n))
            .map(|k| format!("poison-{k}."))
            .collect();
        let mut span = generation(n, &"text ".repeat(20));
        // Not in the text: a span refused for its size is sent once more with its texts cut, and must stay poison.
        span.attributes.push(("trace.metadata.marks".into(), marks.into()));
        spans.push(span);
    }
    let mut bytes = 0;
    for chunk in spans.chunks(100) {
        let body = request(chunk);
        bytes += body.len();
        scene.send(body).await;
    }
    let mut requests = Vec::new();
    for (status, k, place) in &places {
        let stats =
            scene.until(*place, "drained", |stats| stats["pending"] == 0 && stats["selected"] == SPANS).await;
        assert_eq!(stats["dead_lettered"], *k, "{status}: {stats:#}");
        assert_ne!(stats["state"], "open", "a refusal of a payload opens no circuit: {stats:#}");
        let sent = scene.places[*place].sink.exchanges().len();
        // Delivery guarantees 8: at most 2 k log2(n) + 2 k requests beyond the batches themselves. A size that was
        // refused keeps later batches small, down to 16 KiB; each of the requests that came may have waited in vain for
        // company, and then its rest is a batch.
        let came = SPANS as usize / 100;
        let batches = if *status == 413 { bytes / (16 << 10) + 1 + came } else { came };
        let shrunk = if *status == 413 { *k } else { 0 };
        let bound = 2 * k * 10 + 2 * k + batches + shrunk;
        assert!(sent <= bound, "{k} by {status}: {sent} requests, at most {bound}");
        requests.push(format!("{k} by {status}: {sent}"));
    }
    let conclusion = scene.conclude().await;
    assert_eq!((conclusion.dead_lettered, conclusion.duplicates), (2 * (1 + 3 + 17), 0));
    Row {
        test: "poison_among_a_thousand",
        fault: "1, 3 and 17 spans of 1,000 refused by 400 and by 413",
        load: format!("{SPANS} spans to each of {} destinations", places.len()),
        expected: "exactly those dead-lettered, at most 2k log2 n + 2k requests beyond the batches, no circuit opened",
        measured: format!("requests: {}; {conclusion}", requests.join(", ")),
    }
    .record();
}
