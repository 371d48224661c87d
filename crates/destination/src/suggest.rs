//! "Did you mean": the known name a mistyped one most likely stands for.

/// The entry of `known` closest to `found`, if one is close enough to suggest.
///
/// Spelling variants (`secret_key`, `SecretKey`, `secretkey` for `secretKey`) count as equal;
/// otherwise one edit per three characters is allowed.
pub fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const FOUND_CHARS_MAX: usize = 64;
    let found = plain(found.chars().take(FOUND_CHARS_MAX));
    let allowed = found.len() / 3;
    known
        .into_iter()
        .map(|name| (distance(&found, &plain(name.chars())), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `did you mean "x"?`, or the list of what is known.
pub(crate) fn advice(found: &str, known: &[&str]) -> String {
    match did_you_mean(found, known.iter().copied()) {
        Some(name) => format!("did you mean {name:?}?"),
        None => format!("known: {}", known.join(", ")),
    }
}

fn plain(text: impl Iterator<Item = char>) -> Vec<char> {
    text.filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Levenshtein distance, one row at a time.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_spelling_variants_and_near_misses_only() {
        let known = ["secretKey", "publicKey", "baseUrl"];
        let mean = |found| did_you_mean(found, known);
        assert_eq!(mean("secret_key"), Some("secretKey"));
        assert_eq!(mean("SECRETKEY"), Some("secretKey"));
        assert_eq!(mean("publicKye"), Some("publicKey"));
        assert_eq!(mean("baseURL"), Some("baseUrl"));
        assert_eq!(mean("baseUri"), Some("baseUrl"));
        assert_eq!(mean("password"), None);
        assert_eq!(mean(""), None);
    }

    #[test]
    fn distance_is_levenshtein() {
        let of = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(of("kitten", "sitting"), 3);
        assert_eq!(of("", "abc"), 3);
        assert_eq!(of("abc", ""), 3);
        assert_eq!(of("flaw", "lawn"), 2);
        assert_eq!(of("same", "same"), 0);
    }
}
