//! What a record that is put back into the log says of its first life: when its spans were received, in front of the
//! gateways they have passed. The log keeps both for us without looking, in [`tracecast_log::Origin::via`].

use bytes::{BufMut, Bytes, BytesMut};

/// In front of the time. No header can carry it, so nothing else begins with it.
const MARK: u8 = 1;

/// Unix nanoseconds, and the gateways as they were received.
pub(crate) fn encode(received_unix_nano: u64, via: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + size_of::<u64>() + via.len());
    out.put_u8(MARK);
    out.put_u64_le(received_unix_nano);
    out.put_slice(via);
    out.freeze()
}

/// The time, if one is said, and the gateways.
pub(crate) fn decode(said: &Bytes) -> (Option<u64>, Bytes) {
    match said.split_first_chunk() {
        Some(([MARK, time @ ..], _)) => {
            let time: &[u8; size_of::<u64>()] = time;
            (Some(u64::from_le_bytes(*time)), said.slice(1 + time.len()..))
        }
        _ => (None, said.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_and_what_others_say_is_left_alone() {
        for via in [&b""[..], b"a, b"] {
            assert_eq!(decode(&encode(u64::MAX - 1, via)), (Some(u64::MAX - 1), Bytes::copy_from_slice(via)));
        }
        for other in [&b""[..], b"gateway-1, gateway-2", b"\x01short"] {
            let other = Bytes::from_static(other);
            assert_eq!(decode(&other), (None, other.clone()));
        }
    }
}
