//! What a filter cannot do without: the text that one field must have. Told from a span by one comparison, so that the
//! many filters that are about another model, or another user, cost next to nothing.

use tracecast_destination::Field;

use crate::fields::Fields;

/// Fields that may be needed: those that cost little to read. The finish reason may have to be looked for in messages.
const FIELDS: [Field; 5] =
    [Field::Model, Field::Provider, Field::SessionId, Field::UserId, Field::ApiKeyName];

/// A text that a field must have, as its print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// Position in [`FIELDS`]; behind them: nothing is needed.
    field: usize,
    print: u64,
}

impl Needs {
    /// Every span may pass.
    pub(crate) const NOTHING: Needs = Needs { field: FIELDS.len(), print: ABSENT };

    /// `None` for fields that are dear to read.
    pub(crate) fn new(field: Field, text: &str) -> Option<Needs> {
        let field = FIELDS.iter().position(|known| *known == field)?;
        Some(Needs { field, print: print(text) })
    }
}

/// Fields that some needs speak of, a bit each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked(u8);

impl Asked {
    pub(crate) fn by(needs: &[Needs]) -> Asked {
        Asked(needs.iter().fold(0, |asked, needs| asked | 1 << needs.field))
    }
}

/// The prints of a span's fields; a field has up to two readings.
#[derive(Debug)]
pub(crate) struct Prints([[u64; 2]; FIELDS.len() + 1]);

impl Prints {
    pub(crate) fn of(fields: &Fields<'_>, asked: Asked) -> Prints {
        let mut prints = [[ABSENT; 2]; FIELDS.len() + 1];
        for (i, field) in FIELDS.iter().enumerate() {
            if asked.0 & 1 << i != 0 {
                prints[i] = fields.texts(*field).map(|text| text.map_or(ABSENT, print));
            }
        }
        Prints(prints)
    }

    /// False: the field has another text, or none.
    #[inline]
    pub(crate) fn may_have(&self, needs: &Needs) -> bool {
        let [first, second] = self.0[needs.field];
        (first == needs.print) | (second == needs.print)
    }
}

/// No text has this print.
const ABSENT: u64 = 0;

/// Equal for equal texts, and rarely for others: its length, its beginning and its end.
#[inline]
fn print(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let ends = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29),
        _ => bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)),
    };
    // Set, it keeps this apart from `ABSENT`; few texts differ in it alone.
    (ends ^ (bytes.len() as u64).rotate_right(8)) | 1 << 63
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_at_their_ends_or_in_length_have_other_prints() {
        let texts = [
            "",
            "a",
            "b",
            "ab",
            "ba",
            "gpt-4o",
            "gpt-4.1",
            "openai/gpt-4o",
            "openai/gpt-4o-mini",
            "\0",
            "\0\0",
            "nobody/model-1",
            "nobody/model-11",
            "anthropic/claude-opus-4",
            "anthropic/claude-opus-5",
        ];
        for (i, one) in texts.iter().enumerate() {
            for (j, other) in texts.iter().enumerate() {
                assert_eq!(print(one) == print(other), i == j, "{one:?} {other:?}");
            }
        }
    }
}
