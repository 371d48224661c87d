//! Texts that are too long for a receiver, cut so that a reader sees it.

/// What stands at the end of a cut text.
const MARK: &str = "... [truncated]";

/// More than so many characters. Cheap for the short texts that most are.
pub(crate) fn is_over(text: &str, chars_max: usize) -> bool {
    text.len() > chars_max && text.chars().nth(chars_max).is_some()
}

/// The first characters and the mark, together at most `chars_max`.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    let kept = chars_max.saturating_sub(MARK.chars().count());
    let end = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
    format!("{}{MARK}", text.get(..end).unwrap_or_default())
}

/// The attribute that says `key` was cut.
pub(crate) fn truncated_key(key: &str) -> String {
    format!("{key}.truncated")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_and_never_split() {
        assert!(!is_over("äöü", 3) && is_over("äöü", 2));
        let text = cut(&"ä".repeat(100), 40);
        assert_eq!(text.chars().count(), 40);
        assert!(text.starts_with("ää") && text.ends_with(MARK));
    }
}
