//! Tests of the log as a whole.
pub(crate) mod faults;
