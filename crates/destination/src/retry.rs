//! When a batch that failed is sent again: an addition of this gateway.

wire_enum! {
    /// How long a batch that failed waits.
    pub enum Retry {
        /// Up to half a second, then twice as long each time up to a minute.
        Backoff = "backoff",
        /// 5 s, 5 min, 30 min, 2 h, 5 h, then every 10 h, a fifth more or less each: for receivers that are away for hours.
        Schedule = "schedule",
    }
}
