//! Prometheus' text format (version 0.0.4), read back into families of samples.

/// Samples of one name.
pub(crate) struct Family<'a> {
    pub(crate) name: &'a str,
    pub(crate) help: String,
    /// `counter`, `gauge`, `histogram` or `summary`.
    pub(crate) kind: &'a str,
    pub(crate) samples: Vec<Sample<'a>>,
}

/// One line with a value.
pub(crate) struct Sample<'a> {
    pub(crate) name: &'a str,
    pub(crate) labels: Vec<(&'a str, String)>,
    pub(crate) value: f64,
}

impl Sample<'_> {
    /// Takes a label away.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        let at = self.labels.iter().position(|(name, _)| *name == key)?;
        Some(self.labels.remove(at).1)
    }
}

/// The families of a text. A line that is not understood is left out.
pub(crate) fn families(text: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    let mut help = ("", "");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').unwrap_or((rest, ""));
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let help = unescaped(if help.0 == name { help.1 } else { "" });
            families.push(Family { name, help, kind, samples: Vec::new() });
        } else if let (Some(sample), Some(family)) = (sample(line), families.last_mut())
            && sample.name.starts_with(family.name)
        {
            family.samples.push(sample);
        }
    }
    families
}

/// A count; what is none becomes the nearest one.
pub(crate) fn whole(value: f64) -> u64 {
    value as u64
}

/// `name{key="value",…} number`.
fn sample(line: &str) -> Option<Sample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let end = closing_quote(after)?;
            labels.push((key, unescaped(&after[..end])));
            rest = &after[end + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = rest.trim().split(' ').next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        match next {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
    out
}
