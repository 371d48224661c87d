//! The masked form in which secrets are shown, and how it is recognised when it comes back.

const SHOWN_CHARS: usize = 4;
const MASKABLE_CHARS_MIN: usize = 12;
/// What stands for a secret too short to show a part of.
pub(crate) const HIDDEN: &str = "***";

/// `first 4...last 4` (always 11 characters), or `***` under 12 characters. What was given in masked form,
/// as in the documented create example, is shown as it was given.
pub fn mask(secret: &str) -> String {
    let count = secret.chars().count();
    if count < MASKABLE_CHARS_MIN {
        return if is_masked(secret) { secret.to_owned() } else { HIDDEN.to_owned() };
    }
    let first: String = secret.chars().take(SHOWN_CHARS).collect();
    let last: String = secret.chars().skip(count - SHOWN_CHARS).collect();
    format!("{first}...{last}")
}

/// Whether the text has a form that [`mask`] produces. A PATCH ignores such a value even if it is
/// not the mask of the current secret: it may have been copied from an older answer.
pub(crate) fn is_masked(text: &str) -> bool {
    if text == HIDDEN {
        return true;
    }
    let chars: Vec<char> = text.chars().collect();
    chars.len() == 2 * SHOWN_CHARS + 3 && chars.iter().skip(SHOWN_CHARS).take(3).all(|c| *c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_shows_four_and_four_from_twelve_characters_on() {
        assert_eq!(mask("pk-lf-0123456789abcdEfGh"), "pk-l...EfGh");
        assert_eq!(mask("abcdefghijkl"), "abcd...ijkl");
        assert_eq!(mask("abcdefghijk"), "***");
        assert_eq!(mask(""), "***");
        assert_eq!(mask("pk-l...EfGh"), "pk-l...EfGh");
        assert_eq!(mask("pk-l..EfGh"), "***");
        assert_eq!(mask("ééééxxxxüüüü"), "éééé...üüüü");
    }

    #[test]
    fn masked_forms_are_recognised() {
        for masked in ["pk-l...EfGh", "***", "éééé...üüüü", "..........."] {
            assert!(is_masked(masked), "{masked}");
        }
        for secret in ["", "pk-l..EfGh", "pk-l...EfGhi", "pk-lf-1234567", "****"] {
            assert!(!is_masked(secret), "{secret}");
        }
    }
}
