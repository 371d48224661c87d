//! From a vendor's answer to what becomes of each span: a pure function.

use tracecast_log::{DeadReason, DropReason, Outcome};
use tracecast_sinks::{Answer, Batch, Failure, Item, ItemAnswer};

use crate::health::Signal;
use crate::job::{Part, Piece, Refusal, halve};
use crate::policy;
use crate::stats::Class;

/// Longest excerpt of a vendor's words that is kept, bytes.
const EXCERPT_MAX: usize = 2048;

/// What an answer means.
#[derive(Debug)]
pub(crate) struct Ruling {
    pub(crate) class: Class,
    pub(crate) signal: Signal,
    /// Spans whose fate is sealed.
    pub(crate) settled: Vec<(Piece, Outcome)>,
    /// To be sent again, the same composition if all of it is.
    pub(crate) retry: Option<Part>,
    /// To be sent (or buried) next, in this order.
    pub(crate) next: Vec<Part>,
    /// The batch was refused for its size.
    pub(crate) too_large: bool,
    /// For the destination's last error.
    pub(crate) note: Option<(Option<u16>, String)>,
}

/// What the ruling needs to know of the destination.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Requests it has taken so far.
    pub(crate) taken: u64,
    /// How small a span of so many bytes, which was refused, is to be made.
    pub(crate) shrink_to: &'a dyn Fn(u64) -> u64,
}

/// What becomes of `part`, sent as `batch`.
pub(crate) fn rule(part: Part, batch: &Batch, answer: Answer, context: Context<'_>) -> Ruling {
    match answer {
        Answer::Delivered => {
            let settled = part.pieces.iter().map(|p| (p.clone(), Outcome::Delivered)).collect();
            Ruling { settled, ..Ruling::new(Class::Ok, Signal::Alive) }
        }
        Answer::Partial { refused, message } => partial(&part, refused, message),
        Answer::PerItem(answers) => per_item(part, batch, answers),
        Answer::Isolate { by_size, failure } => isolate(part, batch, by_size, failure, context),
        Answer::Retry(failure) => retry(part, failure, context.taken),
        Answer::Auth(failure) => again(part, Class::Auth, Signal::Auth, failure),
        Answer::Config(failure) => {
            let signal = Signal::Config { status: failure.status };
            again(part, Class::Config, signal, failure)
        }
        Answer::Gone(failure) => again(part, Class::Gone, Signal::Gone, failure),
    }
}

impl Ruling {
    fn new(class: Class, signal: Signal) -> Ruling {
        Ruling {
            class,
            signal,
            settled: Vec::new(),
            retry: None,
            next: Vec::new(),
            too_large: false,
            note: None,
        }
    }
}

fn again(part: Part, class: Class, signal: Signal, failure: Failure) -> Ruling {
    Ruling {
        retry: Some(part),
        note: Some((failure.status, excerpt(&failure.message))),
        ..Ruling::new(class, signal)
    }
}

/// Which spans were refused is not said, so nothing can be resent: the last `refused` are counted as such.
fn partial(part: &Part, refused: u32, message: String) -> Ruling {
    if refused == 0 {
        // A warning of a receiver that kept everything.
        let settled = part.pieces.iter().map(|p| (p.clone(), Outcome::Delivered)).collect();
        return Ruling { settled, ..Ruling::new(Class::Ok, Signal::Alive) };
    }
    let mut stored = part.spans().saturating_sub(refused);
    let mut settled = Vec::with_capacity(part.pieces.len() + 1);
    let lost = Outcome::Dropped(DropReason::RefusedUnattributed);
    for piece in part.pieces.iter() {
        let count = piece.count();
        if stored >= count {
            stored -= count;
            settled.push((piece.clone(), Outcome::Delivered));
        } else if stored == 0 {
            settled.push((piece.clone(), lost));
        } else {
            let (head, tail) = piece.split_at(stored);
            stored = 0;
            settled.push((head, Outcome::Delivered));
            settled.push((tail, lost));
        }
    }
    let note = format!("{refused} spans refused without naming them: {message}");
    Ruling { settled, note: Some((None, excerpt(&note))), ..Ruling::new(Class::Mixed, Signal::Strained) }
}

fn per_item(part: Part, batch: &Batch, answers: Vec<ItemAnswer>) -> Ruling {
    let mut ruling = Ruling::new(Class::Mixed, Signal::Alive);
    let mut retry = Vec::new();
    let mut answers = answers.into_iter();
    for (i, piece) in part.pieces.iter().enumerate() {
        // An item without a verdict was not said to be stored.
        match answers.next().unwrap_or(ItemAnswer::Retry) {
            ItemAnswer::Delivered => ruling.settled.push((piece.clone(), Outcome::Delivered)),
            ItemAnswer::Retry => retry.push(piece.clone()),
            ItemAnswer::Refused(message) => {
                ruling.note.get_or_insert_with(|| (None, excerpt(&message)));
                let one = part.with_pieces(vec![piece.clone()]);
                match halve(&one.pieces, |_, _| 1) {
                    Some(halves) => push_halves(&one, halves, &mut ruling.next),
                    None => {
                        let private = batch.items.get(i).is_some_and(|item| item.private);
                        ruling.next.push(refused(one, DeadReason::Rejected, None, &message, private));
                    }
                }
            }
        }
    }
    if ruling.settled.is_empty() && ruling.next.is_empty() {
        let note = "no item of the batch was accepted".to_owned();
        return again(part, Class::Retry, Signal::Failed { status: None, retry_after: None }, failure(note));
    }
    if !retry.is_empty() {
        let left = part.with_pieces(retry);
        ruling.retry = Some(Part { tries: part.tries, ..left });
    } else if ruling.next.is_empty() {
        ruling.class = Class::Ok;
    }
    ruling
}

fn isolate(part: Part, batch: &Batch, by_size: bool, failure: Failure, context: Context<'_>) -> Ruling {
    let mut ruling = Ruling::new(Class::Isolate, Signal::Refused);
    ruling.note = Some((failure.status, excerpt(&failure.message)));
    ruling.too_large = by_size;
    let halves = if by_size {
        let lengths = lengths(batch);
        halve(&part.pieces, |item, rank| lengths.get(item).and_then(|l| l.get(rank)).copied().unwrap_or(1))
    } else {
        halve(&part.pieces, |_, _| 1)
    };
    match halves {
        Some(halves) => {
            push_halves(&part, halves, &mut ruling.next);
        }
        // A single span is made smaller, once.
        None if by_size && part.shrink_to.is_none() => {
            let shrink_to = Some((context.shrink_to)(encoded_bytes(batch)));
            ruling.next.push(Part { shrink_to, ..part.with_pieces(part.pieces.to_vec()) });
        }
        None => {
            let reason = if by_size { DeadReason::TooLarge } else { DeadReason::Rejected };
            let private = batch.items.first().is_some_and(|item| item.private);
            ruling.next.push(refused(part, reason, failure.status, &failure.message, private));
        }
    }
    ruling
}

fn retry(part: Part, failure: Failure, taken: u64) -> Ruling {
    let signal = Signal::Failed { status: failure.status, retry_after: failure.retry_after };
    let suspect = failure.status == Some(500)
        && part.tries >= policy::SUSPECT_AFTER
        && part.suspected.is_none_or(|before| taken > before);
    if let Some(halves) = suspect.then(|| halve(&part.pieces, |_, _| 1)).flatten() {
        // A receiver that fails on one span fails on every batch with it: find out. One that fails on all is
        // not helped by halves.
        let mut ruling = Ruling::new(Class::Retry, signal);
        ruling.note = Some((failure.status, excerpt(&failure.message)));
        push_halves(&Part { suspected: Some(taken), ..part }, halves, &mut ruling.next);
        return ruling;
    }
    again(part, Class::Retry, signal, failure)
}

fn push_halves(whole: &Part, (first, second): (Vec<Piece>, Vec<Piece>), next: &mut Vec<Part>) {
    next.push(whole.with_pieces(first));
    next.push(whole.with_pieces(second));
}

fn refused(part: Part, reason: DeadReason, status: Option<u16>, message: &str, private: bool) -> Part {
    Part { refusal: Some(Refusal { reason, status, excerpt: excerpt(message), private }), ..part }
}

fn failure(message: String) -> Failure {
    Failure { status: None, message, retry_after: None }
}

/// The encoded length of each span, by item, where the payload can be read, else all alike.
fn lengths(batch: &Batch) -> Vec<Vec<u64>> {
    let of = |item: &Item| {
        let traces = item.payload.traces().ok();
        let length = |position: u32| {
            let position = position as usize;
            traces.filter(|t| position < t.len()).map_or(1, |t| t.span(position).encoded_len() as u64)
        };
        item.spans.iter().map(length).collect()
    };
    batch.items.iter().map(of).collect()
}

/// The spans' length as they were received.
pub(crate) fn encoded_bytes(batch: &Batch) -> u64 {
    lengths(batch).into_iter().flatten().sum()
}

/// At most [`EXCERPT_MAX`] bytes on one line, without control characters.
pub(crate) fn excerpt(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(EXCERPT_MAX));
    for c in text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if out.len() + c.len_utf8() > EXCERPT_MAX {
            break;
        }
        out.push(c);
    }
    out
}

/// The pieces at `positions` taken out of `part`, and what is left of it.
pub(crate) fn take_out(part: &Part, positions: &[usize]) -> (Vec<Piece>, Option<Part>) {
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    for (i, piece) in part.pieces.iter().enumerate() {
        if positions.contains(&i) { gone.push(piece.clone()) } else { kept.push(piece.clone()) }
    }
    let left = (!kept.is_empty()).then(|| part.with_pieces(kept));
    (gone, left)
}
