//! `s3`: objects in S3 and what speaks its protocol (R2, GCS interop, MinIO and the like).
//!
//! Contract: OpenRouter's S3 page (broadcast-contract.md 7.3), S3 API reference, `aws-sdk-s3`
//! source; sinks-infrastructure.md 6, 10.4.
//!
//! | | |
//! | --- | --- |
//! | what to enter | the bucket, and keys that may put objects, or the ARN of a role; region and endpoint where they are not those of AWS; prefix, path and layout |
//! | what arrives | a JSON object per trace (`per_trace`), or files of one per line (`jsonl`): trace fields, and observations with model, tokens, costs, input and output |
//! | key, `per_trace` | `{path}/{traceId}-{unix seconds}-{sequence}-{first spanId}.json`: one object per trace and request |
//! | key, `jsonl` | `{path}/{hh}/{first sequence}-{last sequence}-{first spanId}.jsonl.gz`: one gzip NDJSON object per batch (per path, if a batch has several) |
//! | path | `pathTemplate`, `{date}` and the others in UTC |
//! | times, ids in keys | the record's accept time and its sequence in the log, so a retry writes the same key and two requests of one trace never overwrite each other; the first span id, so that neither do the parts of one request that had to be split |
//! | content | `schema: "tracecast.trace/1"`: trace fields and observations (`family/objects.rs`) |
//! | auth | `access_keys`: static or temporary keys, SigV4. `iam_role`: the role is assumed through STS with the external id that the gateway has assigned (put it into the role's trust policy), with the gateway's own identity: `AWS_ACCESS_KEY_ID` and its like, a web identity (IRSA), a container's or an instance's credentials; `AWS_ENDPOINT_URL_STS` and `AWS_ENDPOINT_URL_S3` name endpoints of a private network. Nothing is read from this machine's AWS profile files |
//! | region | as configured; `auto` on R2 and GCS; on AWS the answer that names the right region is learned from |
//! | addressing | virtual-hosted on AWS, path style elsewhere and for AWS buckets with dots |
//! | checksums | the SDK's default on AWS, only where required elsewhere (look-alikes break on them); bodies are always in memory, never streamed |
//! | limits | `per_trace` 128 spans, 8 MiB, 200 ms; `jsonl` 20,000 spans, 16 MiB, 5 s |
//! | errors | by S3 error code (`response.rs`) |
//! | privacy | input, output and the messages of errors are not in the objects |
//! | test | a PUT of a few bytes at `{prefix}/.tracecast-connection-test`: PutObject is all we may do |

mod identity;
mod request;
mod response;
mod role;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use tracecast_destination::{S3Config, S3ObjectLayout};

use self::request::{Bucket, Object};
use self::response::Put;
use crate::family::{objects, offload, probe};
use crate::{Adapter, Batch, BatchLimits, BuildError, Clients, Preview, Sent, TestReport};

/// Objects on their way at the same time, per batch.
const PUTS_MAX: usize = 16;
const TEST_NAME: &str = ".tracecast-connection-test";

/// The adapter.
#[derive(Debug)]
pub struct S3 {
    bucket: Bucket,
    layout: Arc<request::Layout>,
    prefix: String,
}

impl S3 {
    /// Checks endpoint, keys and template; opens no connection.
    pub fn new(config: &S3Config, clients: &Clients) -> Result<Self, BuildError> {
        Ok(S3 {
            bucket: Bucket::new(config, clients)?,
            layout: Arc::new(request::Layout::new(config)?),
            prefix: objects::clean(&config.prefix),
        })
    }

    async fn send_once(&self, batch: &Batch) -> Sent {
        let layout = self.layout.clone();
        let built = offload::encode(batch, move |batch| layout.objects(batch)).await;
        // What holds for the destination need not be asked once per object.
        let held = AtomicBool::new(false);
        let mut calls: Vec<BoxFuture<'_, (Put, u64)>> = Vec::with_capacity(built.objects.len());
        for object in &built.objects {
            let held = &held;
            calls.push(Box::pin(async move {
                if held.load(Ordering::Relaxed) {
                    return (Put::Skipped, 0);
                }
                let (put, bytes) = self.put(object).await;
                held.fetch_or(put.holds(), Ordering::Relaxed);
                (put, bytes)
            }));
        }
        let puts: Vec<(Put, u64)> = stream::iter(calls).buffered(PUTS_MAX).collect().await;
        let bytes = puts.iter().map(|(_, bytes)| bytes).sum();
        let items: Vec<(&[usize], Put)> =
            built.objects.iter().zip(puts).map(|(object, (put, _))| (object.items.as_slice(), put)).collect();
        Sent { answer: response::answer(batch, &built.refused, items), bytes }
    }

    async fn put(&self, object: &Object) -> (Put, u64) {
        let put = self.bucket.put(object).await;
        let bytes = match put.reached() {
            true => object.body.len() as u64,
            false => 0,
        };
        (put, bytes)
    }

    async fn probe(&self) -> probe::Verdict {
        let object = Object {
            key: objects::join_key(&self.prefix, TEST_NAME),
            body: Bytes::from_static(b"tracecast connection test\n"),
            content_type: "text/plain",
            gzip: false,
            items: Vec::new(),
        };
        let (mut put, _) = self.put(&object).await;
        // The first answer may have named the region.
        if put.is_again() {
            put = self.put(&object).await.0;
        }
        response::verdict(put, &object.key)
    }
}

impl Adapter for S3 {
    fn limits(&self) -> BatchLimits {
        match self.layout.kind {
            S3ObjectLayout::PerTrace => BatchLimits {
                spans_max: 128,
                bytes_max: 8 << 20,
                age_max: Duration::from_millis(200),
                concurrency_max: 4,
            },
            S3ObjectLayout::Jsonl => BatchLimits {
                spans_max: 20_000,
                bytes_max: 16 << 20,
                age_max: Duration::from_secs(5),
                concurrency_max: 2,
            },
        }
    }

    fn keeps_batches(&self) -> bool {
        true
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Sent> {
        Box::pin(self.send_once(batch))
    }

    fn test<'a>(&'a self) -> BoxFuture<'a, TestReport> {
        Box::pin(probe::run(self.bucket.shown_url(), self.probe()))
    }

    fn preview(&self, batch: &Batch) -> Vec<Preview> {
        let built = self.layout.lines(batch);
        built.objects.into_iter().map(|object| self.bucket.preview(object)).collect()
    }
}
