//! What is known of the destinations' health, kept over a restart in one small file: since when they only fail, and
//! their latest changes of state. Without the vendors' words, which may quote content.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value as Json, json};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracecast_delivery::{Delivery, Gap, Gaps, LastError, Lost, Memo, State, Transition};
use tracecast_ingest::Ending;
use uuid::Uuid;

const FILE: &str = "health.json";
const EVERY: Duration = Duration::from_secs(10);

/// Tells delivery what the process before knew. What cannot be read is not needed: it is only logged.
pub(crate) fn recall(delivery: &Delivery, data_dir: &Path) {
    let path = data_dir.join(FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was known of the destinations' health is lost");
            return;
        }
    };
    let stored: Json = serde_json::from_slice(&text).unwrap_or_default();
    let now = unix_seconds();
    for (id, memo) in stored["destinations"].as_object().into_iter().flatten() {
        if let Ok(id) = Uuid::try_parse(id) {
            delivery.recall(id, read(memo, now));
        }
    }
}

/// Writes down what has changed until the gateway stops, and once more then.
pub(crate) async fn keep(delivery: Delivery, data_dir: PathBuf, mut end: watch::Receiver<Option<Ending>>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut written, mut is_failing, mut is_ending) = (String::new(), false, false);
    while !is_ending {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = end.wait_for(Option::is_some) => is_ending = true,
        }
        let text = text(delivery.memos(), unix_seconds());
        if text == written {
            continue;
        }
        let (dir, new) = (data_dir.clone(), text.clone());
        match tokio::task::spawn_blocking(move || write(&dir, &new)).await.unwrap_or(Ok(())) {
            Ok(()) => (written, is_failing) = (text, false),
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::warn!(%error, "what is known of the destinations' health cannot be written down");
            }
            Err(_) => {}
        }
    }
}

/// In one step, so that it is never found half written.
fn write(data_dir: &Path, text: &str) -> io::Result<()> {
    let part = data_dir.join(format!("{FILE}.part"));
    std::fs::write(&part, text)?;
    std::fs::rename(part, data_dir.join(FILE))
}

fn text(mut memos: Vec<(Uuid, Memo)>, now: u64) -> String {
    memos.sort_unstable_by_key(|(id, _)| *id);
    let stored: Map<String, Json> =
        memos.iter().map(|(id, memo)| (id.to_string(), stored(memo, now))).collect();
    json!({ "version": 1, "destinations": stored }).to_string()
}

fn stored(memo: &Memo, now: u64) -> Json {
    // To the minute, so that a destination that goes on failing is not written down each time.
    let at = |ago: Duration| now.saturating_sub(ago.as_secs()) / 60 * 60;
    let entry = |t: &Transition| {
        json!({
            "from": t.from.as_str(), "to": t.to.as_str(), "at": t.at_unix_nano, "times": t.times,
            "error": t.error.as_ref().map(|e| json!({ "status": e.status, "at": e.at_unix_nano })),
        })
    };
    json!({
        "failing_since": memo.failing_for.map(|(since, _)| at(since)),
        "failed_at": memo.failing_for.map(|(_, latest)| at(latest)),
        "history": memo.history.iter().map(entry).collect::<Vec<_>>(),
        "gap": memo.gaps.open.map(|(since, lost, paused)| json!({
            "since": since, "lost_before": [lost.dropped, lost.dead_lettered], "paused": paused,
        })),
        "offer": memo.gaps.offer.map(|gap| json!({
            "since": gap.since_unix_nano, "until": gap.until_unix_nano,
            "lost": [gap.lost.dropped, gap.lost.dead_lettered],
        })),
    })
}

fn read(stored: &Json, now: u64) -> Memo {
    let ago = |field: &str| stored[field].as_u64().map(|at| Duration::from_secs(now.saturating_sub(at)));
    let state = |json: &Json| State::ALL.into_iter().find(|state| json == state.as_str());
    let entry = |json: &Json| {
        let error = |error: &Json| {
            Some(LastError {
                status: error["status"].as_u64().and_then(|status| u16::try_from(status).ok()),
                excerpt: "not kept over a restart".to_owned(),
                at_unix_nano: error["at"].as_u64()?,
            })
        };
        Some(Transition {
            from: state(&json["from"])?,
            to: state(&json["to"])?,
            at_unix_nano: json["at"].as_u64()?,
            times: json["times"].as_u64().and_then(|times| u32::try_from(times).ok())?,
            error: error(&json["error"]),
        })
    };
    let lost = |json: &Json| Some(Lost { dropped: json[0].as_u64()?, dead_lettered: json[1].as_u64()? });
    let open =
        |gap: &Json| Some((gap["since"].as_u64()?, lost(&gap["lost_before"])?, gap["paused"].as_bool()?));
    let offer = |gap: &Json| {
        let (since_unix_nano, until_unix_nano) = (gap["since"].as_u64()?, gap["until"].as_u64()?);
        Some(Gap { since_unix_nano, until_unix_nano, lost: lost(&gap["lost"])? })
    };
    Memo {
        failing_for: ago("failing_since").zip(ago("failed_at")),
        history: stored["history"].as_array().into_iter().flatten().filter_map(entry).collect(),
        gaps: Gaps { open: open(&stored["gap"]), offer: offer(&stored["offer"]) },
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn memo() -> Memo {
        let error = LastError { status: Some(503), excerpt: "somebody's prompt".into(), at_unix_nano: 6 };
        let change = |from, to, error| Transition { from, to, at_unix_nano: 7, times: 2, error };
        Memo {
            failing_for: Some((Duration::from_secs(7200), Duration::from_secs(60))),
            history: vec![
                change(State::Healthy, State::Open, Some(error)),
                change(State::Open, State::Healthy, None),
            ],
            gaps: Gaps {
                open: Some((5, Lost { dropped: 1, dead_lettered: 2 }, true)),
                offer: Some(Gap {
                    since_unix_nano: 1,
                    until_unix_nano: 2,
                    lost: Lost { dropped: 3, dead_lettered: 4 },
                }),
            },
        }
    }

    #[test]
    fn what_is_written_down_is_read_back_without_the_words_of_the_vendor() {
        let text = text(vec![(Uuid::from_u128(1), memo())], NOW);
        assert!(!text.contains("prompt"), "{text}");
        let stored: Json = serde_json::from_str(&text).unwrap();
        let read = read(&stored["destinations"][Uuid::from_u128(1).to_string()], NOW + 60);
        assert_eq!(read.failing_for, Some((Duration::from_secs(7260), Duration::from_secs(120))));
        let mut expected = memo().history;
        expected[0].error.as_mut().unwrap().excerpt = "not kept over a restart".into();
        assert_eq!(read.history, expected);
        assert_eq!(read.gaps, memo().gaps);
    }

    #[test]
    fn nonsense_is_nothing() {
        for json in
            [json!(null), json!([1]), json!({ "failing_since": "x", "history": [{ "from": "new" }, 3] })]
        {
            assert_eq!(read(&json, NOW), Memo::default(), "{json}");
        }
    }
}
