//! Canonical form: each singular field once, as a decoder would merge it; groups dropped.
//!
//! Only bodies that repeat singular fields come here. Messages are read by their tables and written
//! again; unknown fields, order and everything that is not repeated stay.

use crate::check::{Checker, is_guarded, is_utf8};
use crate::schema::{Kind, Message, REQUEST, Shape, Spec};
use crate::wire::{Field, Fields, Wire, close, open, put_bytes};

/// The canonical form of a request whose structure was checked. Spans, resources and scopes that
/// a decoder refuses are copied as they are, to be rejected afterwards.
pub(crate) fn request(body: &[u8], depth: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    merge(&REQUEST, &[body], depth, 0, &mut out);
    out
}

/// What remains of a singular field (or a oneof) after all its occurrences.
struct Single<'a> {
    field: Field,
    spec: &'static Spec,
    /// Of messages all pieces that count, of anything else the one that does.
    contents: Vec<&'a [u8]>,
    raw: &'a [u8],
}

/// Decoding a message that was sent in pieces equals decoding their concatenation.
fn merge(message: &'static Message, pieces: &[&[u8]], depth: u32, level: u32, out: &mut Vec<u8>) {
    // By number; a oneof has place 0.
    let mut singles: [Option<Single<'_>>; 17] = Default::default();
    for (field, raw, content) in fields(pieces) {
        let Some(spec) = message.field(field.number).filter(|spec| spec.shape != Shape::Many) else {
            continue;
        };
        let Some(place) = singles.get_mut(place(&field, spec)) else { continue };
        match place {
            Some(old) => old.override_with(field, spec, raw, content),
            None => *place = Some(Single { field, spec, contents: vec![content], raw }),
        }
    }
    for (field, raw, content) in fields(pieces) {
        match message.field(field.number) {
            None if field.wire == Wire::Group => {}
            None => out.extend_from_slice(raw),
            Some(Spec { shape: Shape::Many, kind: Kind::Message(sub), .. }) => {
                write_message(field.number, sub, &[content], depth, level + 1, out);
            }
            Some(Spec { shape: Shape::Many, .. }) => out.extend_from_slice(raw),
            // Written once, where it occurs first.
            Some(spec) => match singles.get_mut(place(&field, spec)).and_then(Option::take) {
                None => {}
                Some(Single { spec: Spec { kind: Kind::Message(sub), .. }, field, contents, .. }) => {
                    write_message(field.number, sub, &contents, depth, level + 1, out);
                }
                Some(single) => out.extend_from_slice(single.raw),
            },
        }
    }
}

fn place(field: &Field, spec: &Spec) -> usize {
    if spec.shape == Shape::Choice { 0 } else { field.number as usize }
}

/// Fields with their bytes, whole and content.
fn fields<'a>(pieces: &[&'a [u8]]) -> impl Iterator<Item = (Field, &'a [u8], &'a [u8])> {
    pieces.iter().flat_map(|&piece| {
        let bytes = |from, to| piece.get(from..to).unwrap_or_default();
        Fields::new(piece).map(move |field| (field, bytes(field.at, field.to), bytes(field.from, field.to)))
    })
}

impl<'a> Single<'a> {
    fn override_with(&mut self, field: Field, spec: &'static Spec, raw: &'a [u8], content: &'a [u8]) {
        let same = field.number == self.field.number;
        if same && matches!(spec.kind, Kind::Message(_)) {
            self.contents.push(content);
            return;
        }
        // A decoder refuses bad text even where it is overridden.
        let is_bad = |text: &&[u8]| !is_utf8(text);
        if same && matches!(spec.kind, Kind::Str) && self.contents.iter().any(is_bad) {
            return;
        }
        *self = Single { field, spec, contents: vec![content], raw };
    }
}

fn write_message(
    number: u32,
    message: &'static Message,
    pieces: &[&[u8]],
    depth: u32,
    level: u32,
    out: &mut Vec<u8>,
) {
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
