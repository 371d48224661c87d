//! Support of the tests: the gateway as a process, its admin API, strict fakes of vendors.

pub mod process;
