//! What holds for all kinds: registration. The rest is in `matrix`.

use tracecast_destination::Kind;

use crate::build;
use crate::testing::*;

#[test]
fn every_kind_has_an_adapter_with_bounds() {
    let clients = clients();
    for kind in Kind::ALL {
        let limits = build(&destination_at(kind, "http://h"), &clients).unwrap().limits();
        assert!(limits.spans_max > 0 && limits.bytes_max > 0 && limits.concurrency_max > 0, "{kind:?}");
    }
}
