//! Every kind against every answer. A cell asserts the same for all 17; what does not apply stands in `table.rs`.

mod figures;
mod table;
mod tests_of_connections;
mod vendors;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use tracecast_destination::Kind;
use tracecast_otlp::write::SpanBuilder;

use self::vendors::Identity;
use crate::testing::*;
use crate::{Adapter, Answer, Batch, Clients, ItemAnswer, build};

/// What a cell found wrong.
type Found = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($words:tt)*) => {
        if !$holds {
            return Err(format!($($words)*));
        }
    };
}
use ensure;

/// Holds a cell against all kinds: those of the table must not keep it, all others must.
async fn every_kind<'a>(cell: &str, check: impl Fn(Kind) -> BoxFuture<'a, Found>) {
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        let exempt = table::EXEMPT.iter().find(|(name, kinds, _)| *name == cell && kinds.contains(&kind));
        match (check(kind).await, exempt) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Err(found), None) => wrong.push(format!("{kind}: {found}")),
            (Ok(()), Some((_, _, why))) => {
                wrong.push(format!("{kind}: holds, though the table says that {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{cell}\n{}", wrong.join("\n"));
}

macro_rules! matrix {
    ($($cell:ident,)*) => {
        const CELLS: &[&str] = &[$(stringify!($cell)),*];
        mod each {
            use crate::testing::clients;
            $(
                #[tokio::test]
                async fn $cell() {
                    let clients = clients();
                    super::every_kind(stringify!($cell), |kind| Box::pin(super::$cell(kind, &clients))).await;
                }
            )*
        }
    };
}

matrix! {
    good_spans_are_taken_as_documented,
    a_wrong_key_holds,
    a_right_that_is_lacking_holds,
    a_wrong_address_holds,
    too_large_is_halved,
    a_wait_is_kept,
    a_server_error_is_retried,
    a_part_refused_is_final,
    silence_is_retried,
    private_spans_show_no_content,
    secrets_are_never_said,
    a_retry_is_the_same_to_the_vendor,
    a_megabyte_arrives,
    what_is_optional_may_be_empty,
    every_letter_arrives,
    a_callers_keys_are_taken_for_nothing_else,
}

#[test]
fn the_table_names_cells_and_kinds_once() {
    let mut seen = Vec::new();
    for (cell, kinds, why) in table::EXEMPT {
        assert!(CELLS.contains(cell), "{cell} is no cell");
        assert!(!why.is_empty() && !kinds.is_empty());
        for kind in *kinds {
            assert!(!seen.contains(&(cell, kind)), "{cell} {kind} stands there twice");
            seen.push((cell, kind));
        }
    }
}

fn adapter(kind: Kind, server: &Server, clients: &Clients) -> Arc<dyn Adapter> {
    build(&destination_at(kind, &server.url), clients).unwrap()
}

fn one(span: SpanBuilder) -> Batch {
    batch(vec![item(1, &[span])])
}

async fn accepting(kind: Kind) -> Server {
    Server::answering(move |position, _| vendors::accepted(kind, position)).await
}

/// Sends a batch to a vendor that takes it. What the vendor received.
async fn delivered(kind: Kind, clients: &Clients, batch: &Batch) -> Result<Vec<Received>, String> {
    let server = accepting(kind).await;
    let sent = adapter(kind, &server, clients).send(batch).await;
    ensure!(sent.answer == Answer::Delivered, "{:?}", sent.answer);
    Ok(server.received())
}

/// How a batch is answered if the vendor refuses its request at each position in turn.
async fn refused(kind: Kind, clients: &Clients, refusal: fn(Kind) -> Answered) -> Vec<Answer> {
    let mut answers = Vec::new();
    for at in 0..vendors::wanted(kind).len() {
        let respond = move |position: usize, _: &Received| match position < at {
            true => vendors::accepted(kind, position),
            false => refusal(kind),
        };
        let server = Server::answering(respond).await;
        answers.push(adapter(kind, &server, clients).send(&one(generation(1))).await.answer);
    }
    answers
}

async fn good_spans_are_taken_as_documented(kind: Kind, clients: &Clients) -> Found {
    let received = delivered(kind, clients, &one(generation(1))).await?;
    let wanted = vendors::wanted(kind);
    ensure!(received.len() == wanted.len(), "{} requests", received.len());
    for (received, wanted) in received.iter().zip(wanted) {
        ensure!(received.method == wanted.method, "method {}", received.method);
        let (path, query) = wanted.target.split_once('?').unwrap_or((wanted.target, ""));
        let target = received.target.split_once('?').map_or(&*received.target, |(path, _)| path);
        let fits = match path.strip_suffix('*') {
            Some(start) => target.starts_with(start),
            None => target == path,
        };
        ensure!(fits, "target {target}");
        for name in query.split('&').filter(|name| !name.is_empty()) {
            let (name, value) = name.split_once('=').unwrap();
            let found = received.query(name);
            ensure!(found.as_ref().is_some_and(|found| found.starts_with(value)), "{name}: {found:?}");
        }
        for (name, value) in wanted.headers {
            ensure!(received.header(name) == *value, "{name}: {}", received.header(name));
        }
    }
    let said: Vec<String> = received.iter().flat_map(wire::texts).collect();
    for text in ["claude-sonnet-4-20250514", "user-1", "session-9", "search", "Hi", "Hello"] {
        ensure!(said.iter().any(|said| said.contains(text)), "{text} is missing");
    }
    Ok(())
}

async fn a_wrong_key_holds(kind: Kind, clients: &Clients) -> Found {
    for answer in refused(kind, clients, |kind| vendors::refusal(kind, 401, "who are you")).await {
        ensure!(matches!(answer, Answer::Auth(_)), "{answer:?}");
    }
    Ok(())
}

async fn a_right_that_is_lacking_holds(kind: Kind, clients: &Clients) -> Found {
    for answer in refused(kind, clients, |kind| vendors::refusal(kind, 403, "not you")).await {
        ensure!(matches!(answer, Answer::Auth(_)), "{answer:?}");
    }
    Ok(())
}

async fn a_wrong_address_holds(kind: Kind, clients: &Clients) -> Found {
    let server = Server::answering(move |_, _| vendors::refusal(kind, 404, "nothing here")).await;
    let adapter = adapter(kind, &server, clients);
    let routes =
        table::OTHER_ROUTES.iter().find(|(other, _)| *other == kind).map_or(0, |(_, routes)| *routes);
    for _ in 0..routes {
        let answer = adapter.send(&one(generation(1))).await.answer;
        let at_once =
            matches!(&answer, Answer::Retry(failure) if failure.retry_after == Some(Duration::ZERO));
        ensure!(at_once, "another route is tried at once: {answer:?}");
    }
    let answer = adapter.send(&one(generation(1))).await.answer;
    ensure!(matches!(answer, Answer::Config(_)), "{answer:?}");
    Ok(())
}

async fn too_large_is_halved(kind: Kind, clients: &Clients) -> Found {
    for answer in refused(kind, clients, |kind| vendors::refusal(kind, 413, "too much")).await {
        ensure!(matches!(answer, Answer::Isolate { by_size: true, .. }), "{answer:?}");
    }
    Ok(())
}

async fn a_wait_is_kept(kind: Kind, clients: &Clients) -> Found {
    let limited = |kind| {
        let (status, lines, body) = vendors::refusal(kind, 429, "not so fast")?;
        Some((status, format!("{lines}retry-after: 7\r\n"), body))
    };
    for answer in refused(kind, clients, limited).await {
        let Answer::Retry(failure) = &answer else { return Err(format!("{answer:?}")) };
        ensure!(failure.retry_after == Some(Duration::from_secs(7)), "{failure:?}");
    }
    Ok(())
}

async fn a_server_error_is_retried(kind: Kind, clients: &Clients) -> Found {
    for answer in refused(kind, clients, |kind| vendors::refusal(kind, 500, "oh dear")).await {
        ensure!(matches!(answer, Answer::Retry(_)), "{answer:?}");
    }
    Ok(())
}

async fn a_part_refused_is_final(kind: Kind, clients: &Clients) -> Found {
    let server =
        Server::answering(move |position, received| vendors::partial(kind, position, received)).await;
    let two = batch(vec![item(1, &[generation(1)]), item(2, &[generation(2)])]);
    let answer = adapter(kind, &server, clients).send(&two).await.answer;
    let (refused, message) = match answer {
        Answer::Partial { refused, message } => (refused, message),
        Answer::PerItem(items) => {
            let mut refused = items.into_iter().filter_map(|item| match item {
                ItemAnswer::Refused(message) => Some(message),
                _ => None,
            });
            let message = refused.next().unwrap_or_default();
            (u32::try_from(refused.count()).unwrap() + 1, message)
        }
        other => return Err(format!("{other:?}")),
    };
    ensure!(refused == 1 && message.contains("one bad span"), "{refused}: {message}");
    Ok(())
}

/// The clock stands still but for the wait, so this takes no time.
async fn silence_is_retried(kind: Kind, clients: &Clients) -> Found {
    for at in 0..vendors::wanted(kind).len() {
        let respond = move |position: usize, _: &Received| match position < at {
            true => vendors::accepted(kind, position),
            false => None,
        };
        let server = Server::answering(respond).await;
        let adapter = adapter(kind, &server, clients);
        let sending = tokio::spawn(async move { adapter.send(&one(generation(1))).await });
        server.has_received(at + 1).await;
        tokio::time::pause();
        let sent = sending.await.unwrap();
        tokio::time::resume();
        let Answer::Retry(failure) = &sent.answer else { return Err(format!("{:?}", sent.answer)) };
        ensure!(failure.status.is_none() && failure.message.contains("in time"), "{failure:?}");
    }
    Ok(())
}

/// Content in every place it can be, each with a canary of its own; and what is not content.
fn canaries() -> (SpanBuilder, Vec<String>) {
    let mut planted = Vec::new();
    let mut canary = |place: &str| {
        let text = format!("canary-{place}");
        planted.push(text.clone());
        text
    };
    let message =
        |text: String| serde_json::json!({"messages": [{"role": "user", "content": text}]}).to_string();
    let mut span = generation(1);
    span.attributes.retain(|(key, _)| !matches!(key.as_str(), "gen_ai.prompt" | "gen_ai.completion"));
    let mut add = |key: &str, value: tracecast_otlp::write::OwnedValue| {
        span.attributes.push((key.to_owned(), value));
    };
    add("gen_ai.prompt", message(canary("prompt")).into());
    add("gen_ai.completion", serde_json::json!({"completion": canary("completion")}).to_string().into());
    for key in [
        "span.input",
        "span.output",
        "trace.input",
        "trace.output",
        "input.value",
        "output.value",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.tool.call.arguments",
        "gen_ai.prompt.0.content",
        "llm.input_messages.0.message.content",
        "ai.prompt.messages",
        "ai.response.text",
        "traceloop.entity.input",
        "langfuse.observation.input",
        "langfuse.trace.output",
        "exception.message",
    ] {
        let text = message(canary(key));
        add(key, text.into());
    }
    let long = format!("{} {}", canary("unknown-long"), "x".repeat(2_000));
    add("vendor.unknown", long.into());
    let list = tracecast_otlp::write::OwnedValue::Array(vec![canary("unknown-list").into()]);
    add("vendor.list", list);
    span.status_code = 2;
    span.status_message = canary("status");
    span.events.push((
        START,
        "exception".into(),
        attributes(&[
            ("exception.type", "RateLimitError".into()),
            ("exception.message", canary("exception-event").into()),
        ]),
    ));
    span.events.push((
        START,
        "gen_ai.user.message".into(),
        attributes(&[("content", canary("message-event").into())]),
    ));
    (span, planted)
}

async fn private_spans_show_no_content(kind: Kind, clients: &Clients) -> Found {
    let (span, planted) = canaries();
    let mut shown = Vec::new();
    for private in [false, true] {
        let mut item = item(1, std::slice::from_ref(&span));
        item.private = private;
        let batch = batch(vec![item]);
        let server = accepting(kind).await;
        let adapter = adapter(kind, &server, clients);
        let sent = adapter.send(&batch).await;
        ensure!(sent.answer == Answer::Delivered, "{:?}", sent.answer);
        let previews = adapter.preview(&batch);
        ensure!(!previews.is_empty(), "no preview");
        let bodies = server.received().into_iter().map(|received| {
            format!("{}{}", wire::all(&received), String::from_utf8_lossy(&wire::plain(&received)))
        });
        let previewed =
            previews.iter().map(|preview| format!("{preview:?}{}", String::from_utf8_lossy(&preview.body)));
        shown.push((bodies.collect::<String>(), previewed.collect::<String>()));
    }
    let [open, private] = &shown[..] else { unreachable!() };
    for shown in [&open.0, &open.1] {
        ensure!(shown.contains("canary-"), "shows no content at all");
    }
    for shown in [&private.0, &private.1] {
        for canary in &planted {
            ensure!(!shown.contains(canary), "shows {canary}");
        }
        // What is not content stays.
        for kept in ["user-1", "session-9", "claude-sonnet-4-20250514", "search"] {
            ensure!(shown.contains(kept), "lost {kept}");
        }
    }
    Ok(())
}

/// A vendor, or a proxy before it, that repeats whatever it was told.
async fn secrets_are_never_said(kind: Kind, clients: &Clients) -> Found {
    for status in [400, 401, 403, 404, 413, 429, 500] {
        let server = Server::answering(move |_, received| {
            let told = wire::all(received).replace(['\n', '"', '\\', '<', '>'], " ");
            vendors::refusal(kind, status, &told)
        })
        .await;
        let adapter = adapter(kind, &server, clients);
        let batch = one(generation(1));
        let sent = adapter.send(&batch).await;
        let report = adapter.test().await;
        let previews = adapter.preview(&batch);
        let bodies: String =
            previews.iter().map(|preview| String::from_utf8_lossy(&preview.body).into_owned()).collect();
        let said = format!("{sent:?} {report:?} {previews:?} {bodies} {adapter:?}");
        let told: String = server.received().iter().map(wire::all).collect();
        ensure!(vendors::secrets(kind).iter().any(|secret| told.contains(secret)), "no secret was sent");
        for secret in vendors::secrets(kind) {
            ensure!(!said.contains(secret), "says {secret} after {status}: {said}");
        }
    }
    Ok(())
}

/// Requests as a vendor compares them: an attempt may differ only in saying that it is one.
fn comparable(received: &Received) -> (String, String, Vec<u8>) {
    let target = received.target.replace("&retry=true", "");
    (received.method.clone(), target, wire::plain(received))
}

async fn a_retry_is_the_same_to_the_vendor(kind: Kind, clients: &Clients) -> Found {
    let first = delivered(kind, clients, &one(generation(1))).await?;
    // Another adapter, as after a restart.
    let retry = Batch { attempt: 1, ..one(generation(1)) };
    let second = delivered(kind, clients, &retry).await?;
    let [first_sent, second_sent] =
        [&first, &second].map(|all| all.iter().map(comparable).collect::<Vec<_>>());
    ensure!(first_sent == second_sent, "the retry differs: {second_sent:?}");

    let known = |received: &[Received], text: &str| received.iter().any(|one| wire::all(one).contains(text));
    match vendors::identity(kind) {
        Identity::Batch(id) => ensure!(known(&first, id) && known(&second, id), "{id} is not there"),
        Identity::Span(id) => {
            ensure!(known(&first, &id), "{id} is not there");
            // Sent again among others, as a replay does.
            let mut among = batch(vec![item(9, &[generation(9)]), item(1, &[generation(1)])]);
            among.token = "dest.2-1".into();
            ensure!(known(&delivered(kind, clients, &among).await?, &id), "{id} is lost in another batch");
        }
    }
    Ok(())
}

fn with_prompt(text: &str) -> SpanBuilder {
    let mut span = generation(1);
    span.attributes.retain(|(key, _)| key != "gen_ai.prompt");
    let prompt = serde_json::json!({"messages": [{"role": "user", "content": text}]}).to_string();
    span.attributes.push(("gen_ai.prompt".into(), prompt.into()));
    span
}

async fn a_megabyte_arrives(kind: Kind, clients: &Clients) -> Found {
    use std::fmt::Write;
    let mut text = String::from("first words ");
    while text.len() < 1 << 20 {
        let n = text.len();
        write!(text, "{n} ").unwrap();
    }
    text.push_str("last words");
    let received = delivered(kind, clients, &one(with_prompt(&text))).await?;
    let said: Vec<String> = received.iter().flat_map(wire::texts).collect();
    ensure!(said.iter().any(|said| said.starts_with("first words")), "the text is not there");
    ensure!(said.contains(&text), "the text is not whole");
    Ok(())
}

fn nulls(value: &Json) -> usize {
    match value {
        Json::Null => 1,
        Json::Array(items) => items.iter().map(nulls).sum(),
        Json::Object(object) => object.values().map(nulls).sum(),
        _ => 0,
    }
}

async fn what_is_optional_may_be_empty(kind: Kind, clients: &Clients) -> Found {
    let bare = |n: u8| SpanBuilder {
        trace_id: TRACE_ID,
        span_id: [n; 8],
        start_unix_nano: START,
        ..SpanBuilder::default()
    };
    let mut call = bare(2);
    call.attributes = attributes(&[("gen_ai.operation.name", "chat".into())]);
    let received = delivered(kind, clients, &batch(vec![item(1, &[bare(1), call])])).await?;
    let is_protobuf = received[0].header("content-type") == "application/x-protobuf";
    let data = &received[usize::from(kind == Kind::Clickhouse)..];
    for received in data {
        let values = wire::values(received);
        ensure!(!values.is_empty(), "an empty body");
        // Nothing rather than null: several vendors refuse a null where a text is optional.
        let nulls: usize = values.iter().map(nulls).sum();
        ensure!(is_protobuf || nulls == 0, "nulls: {values:?}");
    }
    let said: String = data.iter().map(wire::all).collect();
    for id in ["0101010101010101", "0202020202020202"] {
        ensure!(said.contains(id), "{id} is missing");
    }
    Ok(())
}

async fn every_letter_arrives(kind: Kind, clients: &Clients) -> Found {
    // Combining, wide, right to left, outside the basic plane, joined, and what JSON and SQL treat apart.
    let text = "Zoe\u{308} 日本語 \u{202e}שלום 😀👩\u{200d}💻 \u{1}\u{7f}\u{2028}\u{feff}\\u0041 '\"`\t\r\n<&> \u{10ffff}";
    let mut span = with_prompt(text);
    for (key, value) in &mut span.attributes {
        if matches!(key.as_str(), "user.id" | "trace.metadata.team") {
            *value = format!("{key} {text}").into();
        }
    }
    let received = delivered(kind, clients, &one(span)).await?;
    let said: Vec<String> = received.iter().flat_map(wire::texts).collect();
    for expected in [text.to_owned(), format!("user.id {text}"), format!("trace.metadata.team {text}")] {
        ensure!(said.iter().any(|said| said.contains(&expected)), "not there as it was: {expected:?}");
    }
    Ok(())
}

/// Names that vendors read, as a caller may call what is his own.
const MISLEADING: [&str; 24] = [
    "input",
    "output",
    "prompt",
    "messages",
    "model",
    "model_name",
    "provider",
    "usage",
    "usage_metadata",
    "cost",
    "tags",
    "tools",
    "error",
    "user_id",
    "session_id",
    "environment",
    "finish_reason",
    "temperature",
    "trace_id",
    "trace_name",
    "_dd",
    "weave",
    "opik_prompts",
    "ls_model_name",
];

/// Whatever a caller calls his metadata: it arrives, among the metadata, and what has that name in truth says the same
/// as without it.
async fn a_callers_keys_are_taken_for_nothing_else(kind: Kind, clients: &Clients) -> Found {
    let mut plain = generation(1);
    // In other words: under this key it would be the caller's own.
    for (key, _) in plain.attributes.iter_mut().filter(|(key, _)| key == "trace.metadata.environment") {
        *key = "langfuse.environment".into();
    }
    let mut misleading = plain.clone();
    for name in MISLEADING {
        misleading.attributes.push((format!("opik.metadata.{name}"), format!("mine-{name}").into()));
    }
    let before = wire::leaves(&delivered(kind, clients, &one(plain)).await?)?;
    let after = wire::leaves(&delivered(kind, clients, &one(misleading)).await?)?;
    for name in MISLEADING {
        let mine = format!("mine-{name}");
        ensure!(after.values().any(|text| text.contains(&mine)), "lost {name}");
    }
    for (path, text) in after.iter().filter(|(_, text)| text.starts_with("mine-")) {
        let is_apart = ["metadata", "attributes"].iter().any(|place| path.to_lowercase().contains(place));
        ensure!(is_apart, "{text} stands at {path}");
    }
    for (path, text) in &before {
        let now = after.get(path);
        ensure!(
            now.is_some_and(|now| now == text || now.contains("mine-tags")),
            "{path}: {text}, now {now:?}"
        );
    }
    Ok(())
}
