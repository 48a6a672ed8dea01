//! Records as the services of providers keep them: texts, aliases and services alike, their values as
//! a zone file has them, names below a zone, and the zones that a name may lie in.

use std::{fmt, time::Duration};

use crate::{
    Alias, DnsError, DnsFuture, DnsProvider, NameRecords, ServiceBinding, ServiceRecord, TxtRecord,
    full_name, no_services,
};

/// A provider whose service keeps records of all types in the same way.
pub(crate) trait Records: Send + Sync + fmt::Debug {
    /// Whether the service knows HTTPS records.
    const SERVICES: bool = true;

    /// Adds or takes away entries of one zone; what is so already is no error.
    fn change<'a>(
        &'a self,
        zone: &'a str,
        entries: Vec<Entry<'a>>,
        change: Change,
    ) -> DnsFuture<'a>;

    /// Tells what there is at a name, relative to the zone.
    fn look<'a>(&'a self, _zone: &'a str, _name: &'a str) -> DnsFuture<'a, NameRecords> {
        Box::pin(std::future::ready(Err(no_services())))
    }
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

    fn look_up<'a>(&'a self, zone: &'a str, name: &'a str) -> DnsFuture<'a, NameRecords> {
        self.look(zone, name)
    }

    fn set_service<'a>(&'a self, zone: &'a str, record: &'a ServiceRecord) -> DnsFuture<'a> {
        if !T::SERVICES {
            return Box::pin(std::future::ready(Err(no_services())));
        }
        self.change(zone, vec![record.into()], Change::Add)
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
    name: &'a str,
    pub(crate) data: Data<'a>,
    pub(crate) ttl: Duration,
}

/// What a record holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Data<'a> {
    /// The text of a TXT record, without quotes.
    Text(&'a str),
    /// The other name of a CNAME record, without the final dot.
    Alias(&'a str),
    /// An HTTPS record.
    Service(&'a ServiceBinding),
}

impl<'a> From<&'a TxtRecord> for Entry<'a> {
    fn from(record: &'a TxtRecord) -> Self {
        Self { name: &record.name, data: Data::Text(&record.value), ttl: record.ttl }
    }
}

impl<'a> From<&'a Alias> for Entry<'a> {
    fn from(alias: &'a Alias) -> Self {
        let target = alias.target.trim_end_matches('.');
        Self { name: &alias.name, data: Data::Alias(target), ttl: alias.ttl }
    }
}

impl<'a> From<&'a ServiceRecord> for Entry<'a> {
    fn from(record: &'a ServiceRecord) -> Self {
        Self { name: &record.name, data: Data::Service(&record.binding), ttl: record.ttl }
    }
}

impl Entry<'_> {
    /// `TXT`, `CNAME` or `HTTPS`.
    pub(crate) fn kind(&self) -> &'static str {
        match self.data {
            Data::Text(_) => "TXT",
            Data::Alias(_) => "CNAME",
            Data::Service(_) => "HTTPS",
        }
    }

    /// The whole name, without the final dot.
    pub(crate) fn full_name(&self, zone: &str) -> String {
        full_name(self.name, zone)
    }

    /// The value as a zone file has it.
    pub(crate) fn written(&self) -> String {
        match self.data {
            Data::Text(text) => quote(text),
            _ => self.absolute(),
        }
    }

    /// The value with no quotes around texts; names end with a dot, lest they are taken to be below
    /// the zone.
    pub(crate) fn absolute(&self) -> String {
        match self.data {
            Data::Alias(target) => format!("{target}."),
            _ => self.bare(),
        }
    }

    /// The value with neither quotes around texts nor a dot after names.
    pub(crate) fn bare(&self) -> String {
        match self.data {
            Data::Text(value) | Data::Alias(value) => value.to_owned(),
            Data::Service(binding) => binding.to_string(),
        }
    }

    /// Whether this is its value, in whatever way it is written.
    pub(crate) fn is(&self, written: &str) -> bool {
        match self.data {
            Data::Text(text) => unquote(written) == text,
            Data::Alias(target) => written.trim_end_matches('.').eq_ignore_ascii_case(target),
            Data::Service(binding) => written.parse().is_ok_and(|other| *binding == other),
        }
    }

    /// Whether a value of the same name gives way to this one. A name has one alias at most, so
    /// another one is left over from an attempt that was cut off; texts stand beside each other.
    pub(crate) fn replaces(&self, written: &str) -> bool {
        match self.data {
            Data::Text(_) => false,
            Data::Alias(_) => true,
            Data::Service(binding) => binding.replaces(written),
        }
    }

    /// Time to live in whole seconds: its own, else the default, never below the least.
    pub(crate) fn ttl(&self, default: u64, least: u64) -> u64 {
        seconds(self.ttl, default, least)
    }

    /// Time to live of the set that the record is in, now with these values: that of the others,
    /// if there are any; else its own as of [`Self::ttl`].
    pub(crate) fn ttl_among(
        &self,
        values: &[String],
        old: Option<u64>,
        default: u64,
        least: u64,
    ) -> u64 {
        let alone = matches!(self.data, Data::Service(_)) && values.len() == 1;
        old.filter(|_| !alone).unwrap_or_else(|| self.ttl(default, least))
    }
}

/// A change to the values of a name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// Adds the value, and takes away those that it [replaces](Entry::replaces).
    Add,
    /// Takes the value away.
    Remove,
}

impl Change {
    /// Changes values; false where nothing was to be done.
    pub(crate) fn apply(self, values: &mut Vec<String>, entry: &Entry<'_>) -> bool {
        let is_there = values.iter().any(|old| entry.is(old));
        let replaced = values.iter().filter(|old| entry.replaces(old)).count();
        match self {
            Self::Add if !is_there || replaced > 1 => {
                values.retain(|old| !entry.replaces(old));
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

/// What a change to single records comes down to, for APIs that keep them by ids.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Steps<I> {
    /// Whether to add the record.
    pub(crate) add: bool,
    /// The records to take away afterwards.
    pub(crate) remove: Vec<I>,
}

impl<I> Steps<I> {
    /// The steps of a change, given the records of the entry's name and type.
    pub(crate) fn of(
        change: Change,
        entry: &Entry<'_>,
        found: impl IntoIterator<Item = (I, String)>,
    ) -> Self {
        let mut there = false;
        let mut remove = Vec::new();
        for (id, value) in found {
            let is = entry.is(&value);
            let goes = match change {
                // One of those that are the same stays.
                Change::Add => entry.replaces(&value) && (!is || there),
                Change::Remove => is,
            };
            there |= is;
            if goes {
                remove.push(id);
            }
        }
        Self { add: matches!(change, Change::Add) && !there, remove }
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
