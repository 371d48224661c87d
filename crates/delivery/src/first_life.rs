//! What is known of the spans of a record that no request brought: when they were received before, in front of the
//! gateways they have passed, or that they were made here. The log keeps it for us without looking, in
//! [`tracecast_log::Origin::via`].

use bytes::{BufMut, Bytes, BytesMut};

/// In front of the rest. No header can carry these, so what clients say begins with none of them.
const BEFORE: u8 = 1;
const MADE_HERE: u8 = 2;

/// What a record says of the past of its spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// When they were received, unix nanoseconds, if that was another time than the record's.
    pub(crate) received_unix_nano: Option<u64>,
    /// The gateways they have passed.
    pub(crate) via: Bytes,
    /// They had none: this gateway has made them.
    pub(crate) made_here: bool,
}

/// Spans that were received then, and had passed these gateways.
pub(crate) fn before(received_unix_nano: u64, via: &[u8]) -> Bytes {
    let mut said = BytesMut::with_capacity(1 + size_of::<u64>() + via.len());
    said.put_u8(BEFORE);
    said.put_u64_le(received_unix_nano);
    said.put_slice(via);
    said.freeze()
}

/// Spans made by this gateway.
pub(crate) fn made_here() -> Bytes {
    Bytes::from_static(&[MADE_HERE])
}

pub(crate) fn read(said: &Bytes) -> Past {
    if let Some(([BEFORE, time @ ..], via)) = said.split_first_chunk::<{ 1 + size_of::<u64>() }>() {
        let received_unix_nano = Some(u64::from_le_bytes(*time));
        return Past { received_unix_nano, via: said.slice_ref(via), made_here: false };
    }
    match &said[..] {
        [MADE_HERE] => Past { made_here: true, ..Past::default() },
        _ => Past { via: said.clone(), ..Past::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_and_what_clients_say_is_left_alone() {
        for via in [&b""[..], b"a, b"] {
            let via = Bytes::copy_from_slice(via);
            let expected =
                Past { received_unix_nano: Some(u64::MAX - 1), via: via.clone(), made_here: false };
            assert_eq!(read(&before(u64::MAX - 1, &via)), expected);
        }
        assert_eq!(read(&made_here()), Past { made_here: true, ..Past::default() });
        for other in [&b""[..], b"gateway-1, gateway-2", b"\x01short", b"\x02longer"] {
            let via = Bytes::from_static(other);
            assert_eq!(read(&via), Past { via, ..Past::default() });
        }
    }
}
