//! What the keys spent: counted by ingest, added up here by UTC day, kept in the store.
//!
//! The gateway hands over what was counted about once a second ([`Control::record_usage`]); a process that is
//! killed loses what it had not handed over yet. Windows are those of the API: the UTC day, the week from Monday,
//! the calendar month. Only keys that exist are counted; the sums of a deleted key stay under its hash.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use tracecast_rules::Snapshot;

use crate::model::{Key, KeyHash, LimitReset, now};
use crate::{Control, Error};

/// What was counted under one key on one UTC day, that of `last_used_unix_nano`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// Cost paid with the platform's credits, in billionths of a USD.
    pub cost_nano_usd: u64,
    /// Cost the provider charged to the caller's own key, in billionths of a USD.
    pub byok_nano_usd: u64,
    /// Spans.
    pub events: u64,
    /// When the last of them arrived.
    pub last_used_unix_nano: u64,
}

/// Money and events of one window; money in billionths of a USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) nano_usd: u64,
    pub(crate) byok_nano_usd: u64,
    pub(crate) events: u64,
}

impl Sums {
    fn add(&mut self, more: Sums) {
        self.nano_usd = self.nano_usd.saturating_add(more.nano_usd);
        self.byok_nano_usd = self.byok_nano_usd.saturating_add(more.byok_nano_usd);
        self.events = self.events.saturating_add(more.events);
    }

    pub(crate) fn usd(self) -> f64 {
        self.nano_usd as f64 / 1e9
    }

    pub(crate) fn byok_usd(self) -> f64 {
        self.byok_nano_usd as f64 / 1e9
    }
}

/// What one key did on one UTC day: a row of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DayUsage {
    pub(crate) sums: Sums,
    pub(crate) last_used: Timestamp,
}

/// The window of a length a day belongs to, by its first day; weeks start on Monday.
pub(crate) fn window_start(length: LimitReset, day: Date) -> Date {
    match length {
        LimitReset::Daily => day,
        LimitReset::Weekly => {
            let past = i32::from(day.weekday().to_monday_zero_offset());
            day.checked_sub(past.days()).unwrap_or(day)
        }
        LimitReset::Monthly => day.first_of_month(),
    }
}

/// The midnight UTC at which the next window of this length starts.
pub(crate) fn next_window(length: LimitReset, now: Timestamp) -> Option<Timestamp> {
    let start = window_start(length, utc_day(now));
    let next = match length {
        LimitReset::Daily => start.checked_add(1.day()),
        LimitReset::Weekly => start.checked_add(7.days()),
        LimitReset::Monthly => start.checked_add(1.month()),
    };
    Some(next.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

pub(crate) fn utc_day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// What one key spent: in all, and in the latest window of each length.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    total: Sums,
    /// First day and sums of the latest day, week and month with usage, in the order of [`WINDOWS`].
    windows: [(Date, Sums); 3],
    pub(crate) last_used: Option<Timestamp>,
}

const WINDOWS: [LimitReset; 3] = [LimitReset::Daily, LimitReset::Weekly, LimitReset::Monthly];

impl Spent {
    fn add(&mut self, day: Date, usage: DayUsage) {
        self.total.add(usage.sums);
        for (length, (start, sums)) in WINDOWS.into_iter().zip(&mut self.windows) {
            let of_day = window_start(length, day);
            if of_day > *start {
                (*start, *sums) = (of_day, Sums::default());
            }
            // What comes late, for a window that is over, is in the total alone.
            if of_day == *start {
                sums.add(usage.sums);
            }
        }
        self.last_used = self.last_used.max(Some(usage.last_used));
    }

    /// In all (`None`), or in the window that holds `now`.
    pub(crate) fn sums(&self, window: Option<LimitReset>, now: Timestamp) -> Sums {
        let Some(length) = window else { return self.total };
        let start = window_start(length, utc_day(now));
        let found = WINDOWS.into_iter().zip(&self.windows).find(|(candidate, _)| *candidate == length);
        found.map(|(_, (of, sums))| if *of == start { *sums } else { Sums::default() }).unwrap_or_default()
    }

    /// What counts against the key's limit in its present window, USD.
    pub(crate) fn against_limit(&self, key: &Key, now: Timestamp) -> f64 {
        let sums = self.sums(key.limit_reset, now);
        let byok = if key.include_byok_in_limit { sums.byok_nano_usd } else { 0 };
        sums.nano_usd.saturating_add(byok) as f64 / 1e9
    }
}

/// The sums of all keys: they change every second without a write, so all versions of the model share them.
#[derive(Debug, Default)]
pub(crate) struct Ledger(RwLock<HashMap<KeyHash, Spent>>);

impl Ledger {
    pub(crate) fn of(&self, key: &KeyHash) -> Spent {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or_default()
    }

    pub(crate) fn add(&self, key: KeyHash, day: Date, usage: DayUsage) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().add(day, usage);
    }

    /// Whether nothing of the key's limit is left.
    pub(crate) fn is_over_limit(&self, key: &Key, now: Timestamp) -> bool {
        key.limit_usd.is_some_and(|limit| self.of(&key.hash).against_limit(key, now) >= limit)
    }
}

/// Sums that are shown already and not stored yet, by day and key.
pub(crate) type Unsaved = BTreeMap<(Date, KeyHash), DayUsage>;

/// What the recording of usage remembers between two calls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    unsaved: Unsaved,
    /// The day the limits were last judged on: with the next one windows begin anew.
    judged: Option<Date>,
}

impl Control {
    /// Adds what was counted to the keys' usage, judges their limits and stores the sums. To be called about once a
    /// second, also with nothing, so that a limit is given back when its window ends. An error says that the sums
    /// are not stored; they are shown all the same and stored with the next call that succeeds.
    pub async fn record_usage(&self, usage: Vec<KeyUsage>) -> Result<(), Error> {
        self.record_usage_at(usage, now()).await
    }

    pub(crate) async fn record_usage_at(&self, usage: Vec<KeyUsage>, now: Timestamp) -> Result<(), Error> {
        let mut tally = self.tally.lock().await;
        let model = self.model();
        let counted = usage.into_iter().filter(|usage| model.keys.contains_key(&usage.hash));
        let mut is_changed = false;
        for usage in counted {
            let Some(last_used) = millisecond(usage.last_used_unix_nano) else { continue };
            let sums = Sums {
                nano_usd: usage.cost_nano_usd,
                byok_nano_usd: usage.byok_nano_usd,
                events: usage.events,
            };
            let (day, of_day) = (utc_day(last_used), DayUsage { sums, last_used });
            model.usage.add(usage.hash, day, of_day);
            tally
                .unsaved
                .entry((day, usage.hash))
                .and_modify(|row| {
                    row.sums.add(sums);
                    row.last_used = row.last_used.max(last_used);
                })
                .or_insert(of_day);
            is_changed = true;
        }
        let today = utc_day(now);
        if is_changed || tally.judged != Some(today) {
            self.judge_limits(now).await;
            tally.judged = Some(today);
        }
        if !tally.unsaved.is_empty() {
            self.store.add_usage(&tally.unsaved).await?;
            tally.unsaved.clear();
        }
        Ok(())
    }

    /// Tells the data plane whose limit is spent and whose is not any more.
    async fn judge_limits(&self, now: Timestamp) {
        // No write may swap the snapshot between the look and the swap.
        let _writer = self.writer.lock().await;
        let (model, current) = (self.model(), self.snapshot.load_full());
        let turned: Vec<(KeyHash, bool)> = model
            .keys
            .values()
            .filter_map(|key| {
                let is_over = model.usage.is_over_limit(key, now);
                (current.keys.get(&key.hash)?.over_limit != is_over).then_some((key.hash, is_over))
            })
            .collect();
        if turned.is_empty() {
            return;
        }
        let mut next = Snapshot::clone(&current);
        for (hash, is_over) in turned {
            if let Some(key) = Arc::make_mut(&mut next.keys).get_mut(&hash) {
                let key = Arc::make_mut(key);
                key.over_limit = is_over;
                tracing::info!(key = %key.label, is_over, "limit of a key");
            }
        }
        self.snapshot.store(Arc::new(next));
    }
}

/// The precision the API shows.
fn millisecond(unix_nano: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(unix_nano / 1_000_000).ok()?).ok()
}
