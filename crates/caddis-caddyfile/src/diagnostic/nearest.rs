//! "Did you mean": the known name closest to a mistyped one.

/// The candidate with the smallest edit distance, if it is near enough to be a typing mistake.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    // Thousands of names in one file, mistyped thousands of times, would cost the product of the two.
    const MOST: usize = 512;
    let name: Vec<char> = name.chars().take(LONGEST + 1).collect();
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    let limit = (name.len() / 3).clamp(1, 3);
    let candidates: Vec<&str> = candidates.into_iter().take(MOST).collect();
    let near = candidates
        .iter()
        .copied()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= limit * 4)
        .map(|candidate| (distance(&name, &candidate.chars().collect::<Vec<_>>()), candidate))
        .filter(|(far, candidate)| *far <= limit && *far < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate);
    near.or_else(|| only_longer(&name.into_iter().collect::<String>(), &candidates))
}

/// The only candidate that begins with the name, as of one that was cut off at a `_`; with at most one
/// typing mistake.
fn only_longer<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    const SHORTEST: usize = 5;
    let letters: Vec<char> = name.chars().collect();
    let goes_on = |candidate: &&&str| {
        candidate.match_indices('_').map(|(at, _)| &candidate[..at]).any(|start| {
            start == name
                || (start.len() >= SHORTEST
                    && start.len().abs_diff(name.len()) <= 1
                    && distance(&letters, &start.chars().collect::<Vec<_>>()) <= 1)
        })
    };
    let mut longer = candidates.iter().filter(goes_on);
    let first = longer.next().filter(|_| name.len() >= SHORTEST)?;
    longer.all(|other| other == first).then_some(first)
}

/// Edit distance in which swapping two neighbours is one step.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let swap = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + swap);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row[j] = best;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const NAMES: [&str; 5] = ["reverse_proxy", "respond", "redir", "root", "file_server"];

    #[test]
    fn finds_typing_mistakes() {
        assert_eq!(nearest("reverse_poxy", NAMES), Some("reverse_proxy"));
        assert_eq!(nearest("repsond", NAMES), Some("respond"));
        assert_eq!(nearest("file-server", NAMES), Some("file_server"));
        assert_eq!(nearest("rot", NAMES), Some("root"));
    }

    #[test]
    fn finds_what_goes_on() {
        let names = ["tls_insecure_skip_verify", "tls_timeout", "tls_timer", "max_size"];
        assert_eq!(nearest("tls_insecure", names), Some("tls_insecure_skip_verify"));
        assert_eq!(nearest("tls_insecur", names), Some("tls_insecure_skip_verify"));
        assert_eq!(nearest("tls", names), None);
    }

    #[test]
    fn leaves_strange_names_alone() {
        assert_eq!(nearest("hello", NAMES), None);
        assert_eq!(nearest("", NAMES), None);
        assert_eq!(nearest(&"x".repeat(100_000), NAMES), None);
    }
}
