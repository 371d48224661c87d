//! temp
use std::time::Instant;
use tracecast_otlp::write::*;
use tracecast_otlp::*;
use prost::Message;
struct Privacy;
impl Edit for Privacy {
    fn attribute(&self, _: Place, k: &str, _: &Value<'_>) -> Verdict { if k.starts_with("gen_ai.prompt") { Verdict::Drop } else { Verdict::Keep } }
    fn keep_unknown_fields(&self) -> bool { false }
}
fn time(name: &str, n: usize, spans: usize, mut f: impl FnMut()) {
    for _ in 0..n / 10 { f() }
    let mut best = f64::MAX;
    for _ in 0..5 {
        let t = Instant::now();
        for _ in 0..n { f() }
        best = best.min(t.elapsed().as_nanos() as f64 / (n * spans) as f64);
    }
    println!("{name}: {best:.0} ns/span");
}
fn main() {
    let spans: Vec<SpanBuilder> = (0..32u8).map(|i| {
        let mut attributes: Vec<(String, OwnedValue)> = (0..22).map(|k| (format!("gen_ai.attribute.number_{k}"), format!("value {k} of something").as_str().into())).collect();
        attributes.push(("gen_ai.prompt".into(), "hello world, this is ".repeat(120).into()));
        attributes.push(("gen_ai.completion".into(), "hello world, this is ".repeat(60).into()));
        attributes.push(("gen_ai.usage.input_tokens".into(), OwnedValue::Int(2489)));
        SpanBuilder { trace_id: [i + 1; 16], span_id: [i + 1; 8], name: "chat gpt".into(), kind: 3, start_unix_nano: 1, end_unix_nano: 2, attributes, ..Default::default() }
    }).collect();
    let mut body = Vec::new();
    resource_spans(&[("service.name".into(), "x".into()), ("service.version".into(), "1.0.0".into())], "openrouter", "", &spans, &mut body);
    println!("{} bytes/span", body.len() / 32);
    let body: bytes::Bytes = body.into();
    let limits = Limits::default();
    let n = 2000;
    time("memcpy", n, 32, || { std::hint::black_box(body.to_vec()); });
    time("utf8", n, 32, || { std::hint::black_box(String::from_utf8_lossy(&body).len()); });
    time("index", n, 32, || { std::hint::black_box(Traces::index(body.clone(), &limits).unwrap()); });
    time("prost decode", n / 10, 32, || { std::hint::black_box(opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest::decode(&body[..]).unwrap()); });
    let t = Traces::index(body.clone(), &limits).unwrap();
    let half = SpanSet::from_positions(32, (0..32).filter(|i| i % 2 == 0));
    let mut out = Vec::new();
    time("select half", n, 32, || { out.clear(); select(&t, &half, None, &mut out); });
    let all = SpanSet::all(32);
    time("select edit", n, 32, || { out.clear(); select(&t, &all, Some(&Privacy), &mut out); });
    time("json encode", n / 4, 32, || { out.clear(); json::encode(&t, &all, None, &mut out); });
    let mut text = b"{\"resourceSpans\":[".to_vec(); text.extend(&out); text.extend(b"]}");
    time("json decode", n / 4, 32, || { std::hint::black_box(json::decode(&text, &limits).unwrap()); });
    time("serde_json -> opentelemetry-proto", n / 20, 32, || { std::hint::black_box(serde_json::from_slice::<opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest>(&text).unwrap()); });
    time("40 lookups", n, 32, || { for s in t.spans() { for k in 0..40usize { std::hint::black_box(s.attribute(["gen_ai.request.model","gen_ai.usage.input_tokens","llm.model_name","openinference.span.kind","input.value"][k % 5])); } } });
    time("attributes iter", n, 32, || { for s in t.spans() { for a in s.attributes() { std::hint::black_box(a); } } });
}
