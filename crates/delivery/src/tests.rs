//! Whole runtimes over a log in memory, with scripted adapters on a paused clock.

mod answers;
mod backlog;
mod batching;
mod books;
mod harness;
mod intents;
mod lag;
mod lifecycle;
mod outages;
mod pieces;
mod replay;
mod schedule;
