//! Repair of unpaired surrogate escapes, which JavaScript clients write when they cut text.

/// A copy in which each unpaired `\uD800`-`\uDFFF` is `\uFFFD`; `None` if there is none.
pub(super) fn repair(text: &[u8]) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(offset) = text.get(at..)?.iter().position(|&b| b == b'\\') {
        at += offset;
        let here = text.get(at..)?;
        let step = match escape(here) {
            Some(0xd800..=0xdbff) if matches!(here.get(6..).and_then(escape), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                let copy = out.get_or_insert_with(|| text.to_vec());
                copy.get_mut(at..at + 6)?.copy_from_slice(b"\\uFFFD");
                6
            }
            Some(_) => 6,
            None => 2,
        };
        at += step;
        if at >= text.len() {
            break;
        }
    }
    out
}

/// The code unit of a `\uXXXX` escape at the start.
fn escape(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
}
