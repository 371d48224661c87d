//! What an LLM span says, whichever dialect it was written in.
//!
//! [`Generation`] reads a borrowed span: OTel GenAI (current and before 1.37), OpenInference, OpenLLMetry,
//! the Vercel AI SDK, Langfuse's SDK and OpenRouter's own attributes. Every field is a precedence list in
//! `keys`; nothing is decoded until it is asked for.
//!
//! [`classify`] says what an attribute key is; [`Privacy`], [`StripMedia`] and [`StripIdentity`] are the
//! projections built on it, [`Chain`] joins them; [`shrink`] makes a span smaller that its receiver finds too
//! large. [`events`] turns plain JSON logs into spans.

mod chain;
mod completion;
mod content;
pub mod events;
pub mod identity;
mod io;
mod keys;
mod kind;
pub mod media;
mod messages;
mod metadata;
mod privacy;
mod shrink;
mod usage;
mod view;

#[cfg(test)]
mod tests;

pub use chain::Chain;
pub use completion::Completion;
pub use content::{Class, classify, looks_like_content};
pub use identity::{StatedIdentity, StripIdentity, stated_identity};
pub use media::StripMedia;
pub use privacy::{Privacy, failed_closed};
pub use shrink::shrink;
pub use usage::{Cost, Usage};
pub use view::Generation;
