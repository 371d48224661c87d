//! Canonical form: each singular field once, as a decoder would merge it; groups dropped.
//!
//! Only bodies that repeat singular fields come here. Messages are taken apart by their tables and
//! put together again; unknown fields, order and everything that is not repeated stay.

use crate::check::{Checker, is_guarded, is_utf8};
use crate::schema::{Kind, Message, REQUEST, Shape, Spec};
use crate::wire::{Fields, Wire, close, open, put_bytes};

/// The canonical form of a request whose structure was checked. Spans, resources and scopes that
/// a decoder refuses are copied as they are, to be rejected afterwards.
pub(crate) fn request(body: &[u8], depth: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    merge(&REQUEST, &[body], depth, 0, &mut out);
    out
}

/// A field of the merged message, in order of first appearance.
enum Item<'a> {
    /// Tag and content as received.
    Raw(&'a [u8]),
    Message {
        number: u32,
        message: &'static Message,
        pieces: Vec<&'a [u8]>,
    },
}

/// Decoding a message that was sent in pieces equals decoding their concatenation.
fn merge(message: &'static Message, pieces: &[&[u8]], depth: u32, level: u32, out: &mut Vec<u8>) {
    let mut items: Vec<Item<'_>> = Vec::new();
    // Where the singular field of each number stands in `items`; the oneof shares place 0.
    let mut places = [None::<(usize, u32)>; 32];
    for &piece in pieces {
        for field in Fields::new(piece) {
            let raw = piece.get(field.at..field.to).unwrap_or_default();
            let content = piece.get(field.from..field.to).unwrap_or_default();
            let Some(spec) = message.field(field.number) else {
                if field.wire != Wire::Group {
                    items.push(Item::Raw(raw));
                }
                continue;
            };
            let item = match spec.kind {
                Kind::Message(message) => {
                    Item::Message { number: field.number, message, pieces: vec![content] }
                }
                _ => Item::Raw(raw),
            };
            let place = match spec.shape {
                Shape::Many => {
                    items.push(item);
                    continue;
                }
                Shape::One => places.get_mut(field.number as usize),
                Shape::Choice => places.first_mut(),
            };
            let Some(place) = place else { continue };
            match *place {
                None => {
                    *place = Some((items.len(), field.number));
                    items.push(item);
                }
                Some((at, number)) => {
                    *place = Some((at, field.number));
                    let Some(old) = items.get_mut(at) else { continue };
                    replace(old, item, number == field.number, spec);
                }
            }
        }
    }
    for item in items {
        match item {
            Item::Raw(raw) => out.extend_from_slice(raw),
            Item::Message { number, message, pieces } => sub(number, message, &pieces, depth, level + 1, out),
        }
    }
}

fn replace<'a>(old: &mut Item<'a>, new: Item<'a>, same_field: bool, spec: &Spec) {
    match (old, new) {
        (Item::Message { pieces, .. }, Item::Message { pieces: more, .. }) if same_field => {
            pieces.extend(more)
        }
        // A decoder refuses bad text even where it is overridden.
        (Item::Raw(raw), Item::Raw(_)) if same_field && matches!(spec.kind, Kind::Str) && !is_text(raw) => {}
        (old, new) => *old = new,
    }
}

fn is_text(raw: &[u8]) -> bool {
    Fields::new(raw).next().and_then(|f| raw.get(f.from..f.to)).is_some_and(|text| is_utf8(text))
}

fn sub(number: u32, message: &'static Message, pieces: &[&[u8]], depth: u32, level: u32, out: &mut Vec<u8>) {
    if is_guarded(message) {
        let mut odd = pieces.len() > 1;
        let all_good = pieces.iter().all(|piece| {
            let mut check = Checker::new(piece, depth);
            let good = check.message(message, 0, piece.len(), level).is_ok();
            odd |= check.odd;
            good
        });
        if !all_good || !odd {
            return pieces.iter().for_each(|piece| put_bytes(out, number, piece));
        }
    }
    let open = open(out, number, pieces.iter().map(|piece| piece.len()).sum());
    merge(message, pieces, depth, level, out);
    close(out, open);
}
