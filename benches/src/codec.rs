//! What deflate and inflate alone cost on the bytes of a load: the least a gateway can pay that has to do them.

use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tracecast_loadkit::load;

/// CPU seconds of one core for a million spans: compressing requests at level 1, or decompressing them.
pub(crate) fn cpu_seconds_per_million(options: &load::Options, inflate: bool) -> anyhow::Result<f64> {
    const SPANS: u64 = 20_000;
    let bodies: Vec<Vec<u8>> = options.templates().iter().map(|t| t.request(1, 0, 2_000_000_000)).collect();
    let packed = bodies.iter().map(|body| gzip(body, Vec::new())).collect::<std::io::Result<Vec<_>>>()?;
    let mut room = Vec::new();
    let (mut spans, began) = (0, thread_cpu_seconds()?);
    for (body, packed) in bodies.iter().zip(&packed).cycle() {
        room.clear();
        match inflate {
            true => drop(GzDecoder::new(&packed[..]).read_to_end(&mut room)?),
            false => room = gzip(body, room)?,
        }
        spans += options.spans_per_request as u64;
        if spans >= SPANS {
            break;
        }
    }
    Ok((thread_cpu_seconds()? - began) * 1e6 / spans as f64)
}

fn gzip(body: &[u8], room: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(room, Compression::new(1));
    encoder.write_all(body)?;
    encoder.finish()
}

/// CPU time of this thread.
fn thread_cpu_seconds() -> anyhow::Result<f64> {
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path).context(path)?;
    let nanos: f64 = text.split_whitespace().next().context(path)?.parse()?;
    Ok(nanos / 1e9)
}
