//! Support of the tests: the gateway as a process, its admin API, and strict fakes of vendors.

pub mod fakes;
pub mod process;
pub mod spans;
