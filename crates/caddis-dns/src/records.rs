//! Records as the services of providers keep them: texts and aliases alike, their values as a zone
//! file has them, names below a zone, and the zones that a name may lie in.

use std::{fmt, time::Duration};

use crate::{Alias, DnsError, DnsFuture, DnsProvider, TxtRecord, full_name};

const TXT: &str = "TXT";
const CNAME: &str = "CNAME";

/// A provider whose service keeps texts and aliases in the same way.
pub(crate) trait Records: Send + Sync + fmt::Debug {
    /// Adds or takes away entries of one zone; what is so already is no error.
    fn change<'a>(
        &'a self,
        zone: &'a str,
        entries: Vec<Entry<'a>>,
        change: Change,
    ) -> DnsFuture<'a>;
}

impl<T: Records> DnsProvider for T {
    fn append<'a>(&'a self, zone: &'a str, records: &'a [TxtRecord]) -> DnsFuture<'a> {
        self.change(zone, records.iter().map(Entry::from).collect(), Change::Add)
    }

    fn delete<'a>(&'a self, zone: &'a str, records: &'a [TxtRecord]) -> DnsFuture<'a> {
        self.change(zone, records.iter().map(Entry::from).collect(), Change::Remove)
    }

    fn append_alias<'a>(&'a self, zone: &'a str, alias: &'a Alias) -> DnsFuture<'a> {
        self.change(zone, vec![alias.into()], Change::Add)
    }

    fn delete_alias<'a>(&'a self, zone: &'a str, alias: &'a Alias) -> DnsFuture<'a> {
        self.change(zone, vec![alias.into()], Change::Remove)
    }
}

/// Makes a change for each entry, one after the other.
pub(crate) fn each<'a, F>(
    entries: Vec<Entry<'a>>,
    change: impl Fn(Entry<'a>) -> F + Send + 'a,
) -> DnsFuture<'a>
where
    F: Future<Output = Result<(), DnsError>> + Send,
{
    Box::pin(async move {
        for entry in entries {
            change(entry).await?;
        }
        Ok(())
    })
}

/// A record, for APIs that keep those of all types in the same way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// `TXT` or `CNAME`.
    pub(crate) kind: &'static str,
    name: &'a str,
    /// The text without quotes; the other name without the final dot.
    pub(crate) value: &'a str,
    pub(crate) ttl: Duration,
}

impl<'a> From<&'a TxtRecord> for Entry<'a> {
    fn from(record: &'a TxtRecord) -> Self {
        Self { kind: TXT, name: &record.name, value: &record.value, ttl: record.ttl }
    }
}

impl<'a> From<&'a Alias> for Entry<'a> {
    fn from(alias: &'a Alias) -> Self {
        let value = alias.target.trim_end_matches('.');
        Self { kind: CNAME, name: &alias.name, value, ttl: alias.ttl }
    }
}

impl Entry<'_> {
    /// Whether it is a name that stands for another one, and no text.
    pub(crate) fn is_alias(&self) -> bool {
        self.kind == CNAME
    }

    /// The whole name, without the final dot.
    pub(crate) fn full_name(&self, zone: &str) -> String {
        full_name(self.name, zone)
    }

    /// The value as a zone file has it.
    pub(crate) fn written(&self) -> String {
        if self.is_alias() { self.absolute() } else { quote(self.value) }
    }

    /// The value with no quotes around texts; names end with a dot, lest they are taken to be below
    /// the zone.
    pub(crate) fn absolute(&self) -> String {
        if self.is_alias() { format!("{}.", self.value) } else { self.value.to_owned() }
    }

    /// Whether this is its value, in whatever way it is written.
    pub(crate) fn is(&self, written: &str) -> bool {
        if self.is_alias() {
            written.trim_end_matches('.').eq_ignore_ascii_case(self.value)
        } else {
            unquote(written) == self.value
        }
    }

    /// Time to live in whole seconds: its own, else the default, never below the least.
    pub(crate) fn ttl(&self, default: u64, least: u64) -> u64 {
        seconds(self.ttl, default, least)
    }
}

/// A change to the values of a name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// Adds the value. An alias takes the place of another one: a name has one at most, which is
    /// left over from an attempt that was cut off.
    Add,
    /// Takes the value away.
    Remove,
}

impl Change {
    /// Changes values; false where nothing was to be done.
    pub(crate) fn apply(self, values: &mut Vec<String>, entry: &Entry<'_>) -> bool {
        let is_there = values.iter().any(|old| entry.is(old));
        match self {
            Self::Add if !is_there => {
                if entry.is_alias() {
                    values.clear();
                }
                values.push(entry.written());
                true
            }
            Self::Remove if is_there => {
                values.retain(|old| !entry.is(old));
                true
            }
            Self::Add | Self::Remove => false,
        }
    }
}

/// A text as one or more quoted strings of a zone file, 255 bytes each.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    let mut length = 0;
    for c in text.chars() {
        if length + c.len_utf8() > 255 {
            out.push_str("\" \"");
            length = 0;
        }
        length += c.len_utf8();
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// The text of quoted strings; a text without quotes is itself.
pub(crate) fn unquote(text: &str) -> String {
    let text = text.trim();
    if text.len() < 2 || !text.starts_with('"') || !text.ends_with('"') {
        return text.to_owned();
    }
    let (mut out, mut inside) = (String::new(), false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => inside = !inside,
            '\\' if inside => out.extend(chars.next()),
            c if inside => out.push(c),
            _ => {}
        }
    }
    out
}

/// Time to live in whole seconds: one that is given, else the default, never below the least.
pub(crate) fn seconds(ttl: Duration, default: u64, least: u64) -> u64 {
    match ttl.as_secs() {
        0 => default,
        seconds => seconds,
    }
    .max(least)
}

/// A name relative to a zone, both without the final dot; `@` for the zone itself, none if it lies
/// outside.
pub fn relative(full: &str, zone: &str) -> Option<String> {
    match full.strip_suffix(zone)? {
        "" => Some("@".to_owned()),
        rest => Some(rest.strip_suffix('.')?.to_owned()),
    }
}

/// A zone and its parents down to two labels: where an account may keep the names.
pub(crate) fn zones(zone: &str) -> impl Iterator<Item = &str> {
    let zone = zone.trim_end_matches('.');
    std::iter::successors(Some(zone), |zone| {
        zone.split_once('.').map(|(_, parent)| parent).filter(|parent| parent.contains('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::{quote, relative, unquote, zones};

    #[test]
    fn texts_are_quoted_and_unquoted() {
        for text in ["plain", "a\"b\\c", "", &"x".repeat(300)] {
            assert_eq!(unquote(&quote(text)), text);
        }
        assert_eq!(quote("a\"b"), r#""a\"b""#);
        assert_eq!(quote(&"x".repeat(256)).matches("\" \"").count(), 1);
        assert_eq!(unquote("bare"), "bare");
        assert_eq!(unquote("\""), "\"");
    }

    #[test]
    fn names_and_zones() {
        assert_eq!(relative("a.b.test", "b.test").as_deref(), Some("a"));
        assert_eq!(relative("b.test", "b.test").as_deref(), Some("@"));
        assert_eq!(relative("ab.test", "b.test"), None);
        assert_eq!(zones("x.y.z.test.").collect::<Vec<_>>(), ["x.y.z.test", "y.z.test", "z.test"]);
        assert_eq!(zones("test").collect::<Vec<_>>(), ["test"]);
    }
}
