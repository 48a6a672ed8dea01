//! Versions and what they have to be (semver.org 2.0.0), with the operators of sprig's library.

use std::{cmp::Ordering, fmt, rc::Rc};

use super::{Args, Res};
use crate::handlers::templates::value::{Object, Val};

pub(super) fn of_versions(args: &Args<'_>) -> Res<Option<Val>> {
    let version = |at: usize| {
        let text = args.text(at)?;
        Version::parse(&text).ok_or_else(|| args.failed("invalid semantic version"))
    };
    Ok(Some(match args.name {
        "semver" => Val::Object(Object::Version(Rc::new(version(0)?))),
        "semverCompare" => {
            let wanted = args.text(0)?;
            let version = version(1)?;
            let met = meets(&version, &wanted)
                .ok_or_else(|| args.failed(format_args!("improper constraint: {wanted}")))?;
            Val::Bool(met)
        }
        _ => return Ok(None),
    }))
}

/// A version.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Version {
    pub(in super::super) major: u64,
    pub(in super::super) minor: u64,
    pub(in super::super) patch: u64,
    pub(in super::super) prerelease: String,
    pub(in super::super) metadata: String,
    pub(in super::super) original: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.prerelease.is_empty() {
            write!(f, "-{}", self.prerelease)?;
        }
        if !self.metadata.is_empty() {
            write!(f, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

impl Version {
    /// Reads one; `v` in front and missing numbers are taken.
    fn parse(text: &str) -> Option<Self> {
        let plain = text.strip_prefix('v').unwrap_or(text);
        let (plain, metadata) = plain.split_once('+').map_or((plain, None), |(a, b)| (a, Some(b)));
        let (numbers, prerelease) =
            plain.split_once('-').map_or((plain, None), |(a, b)| (a, Some(b)));
        let mut parts = numbers.split('.').map(|part| {
            (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| part.parse().ok())
                .flatten()
        });
        let major = parts.next()??;
        let minor = parts.next().map_or(Some(0), |part| part)?;
        let patch = parts.next().map_or(Some(0), |part| part)?;
        let is_name = |text: &str| {
            text.split('.').all(|part| {
                !part.is_empty()
                    && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
        };
        let names = [prerelease, metadata].into_iter().flatten().all(is_name);
        (parts.next().is_none() && names).then(|| Self {
            major,
            minor,
            patch,
            prerelease: prerelease.unwrap_or_default().to_owned(),
            metadata: metadata.unwrap_or_default().to_owned(),
            original: text.to_owned(),
        })
    }

    /// The order of semver.org §11; metadata does not count.
    pub(in super::super) fn order(&self, other: &Self) -> Ordering {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        numbers(self)
            .cmp(&numbers(other))
            .then_with(|| prerelease_order(&self.prerelease, &other.prerelease))
    }
}

fn prerelease_order(one: &str, two: &str) -> Ordering {
    match (one.is_empty(), two.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        _ => {}
    }
    let (mut ones, mut twos) = (one.split('.'), two.split('.'));
    loop {
        let order = match (ones.next(), twos.next()) {
            (None, None) => return Ordering::Equal,
            (None, _) => Ordering::Less,
            (_, None) => Ordering::Greater,
            (Some(one), Some(two)) => match (one.parse::<u64>(), two.parse::<u64>()) {
                (Ok(one), Ok(two)) => one.cmp(&two),
                (Ok(_), _) => Ordering::Less,
                (_, Ok(_)) => Ordering::Greater,
                _ => one.cmp(two),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Whether a version is as wanted; `None` where what is wanted cannot be read.
fn meets(version: &Version, wanted: &str) -> Option<bool> {
    let mut met = false;
    for all in wanted.split("||") {
        let constraints = constraints(all)?;
        met |= constraints.iter().all(|constraint| constraint.holds(version));
    }
    Some(met)
}

struct Constraint {
    operator: String,
    version: Version,
    /// Which numbers are left open.
    any_minor: bool,
    any_patch: bool,
}

/// Constraints between commas or spaces; `1.2 - 2` is a range.
fn constraints(text: &str) -> Option<Vec<Constraint>> {
    let mut found = Vec::new();
    for part in text.split(',') {
        let mut words = part.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let mut word = word.to_owned();
            if word.chars().all(|c| "=!<>~^".contains(c)) {
                word.push_str(words.next()?);
            }
            if words.next_if_eq(&"-").is_some() {
                found.push(Constraint::parse(&format!(">={word}"))?);
                found.push(Constraint::parse(&format!("<={}", words.next()?))?);
            } else {
                found.push(Constraint::parse(&word)?);
            }
        }
    }
    (!found.is_empty()).then_some(found)
}

impl Constraint {
    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c| !"=!<>~^".contains(c)).unwrap_or(text.len());
        let (operator, version) = text.split_at(end);
        let known = ["", "=", "!=", ">", "<", ">=", "=>", "<=", "=<", "~", "~>", "^"];
        if !known.contains(&operator) {
            return None;
        }
        let plain = version.strip_prefix('v').unwrap_or(version);
        let numbers_end = plain.find(['-', '+']).unwrap_or(plain.len());
        let (numbers, names) = plain.split_at(numbers_end);
        let is_any = |part: Option<&str>| matches!(part, None | Some("x" | "X" | "*"));
        let mut parts = numbers.split('.');
        let (major, minor, patch) = (parts.next(), parts.next(), parts.next());
        if parts.next().is_some() {
            return None;
        }
        if is_any(major.filter(|major| !major.is_empty())) {
            // Any at all: from 0.0.0 on.
            return Some(Self {
                operator: ">=".to_owned(),
                version: Version::default(),
                any_minor: true,
                any_patch: true,
            });
        }
        let (any_minor, any_patch) = (is_any(minor), is_any(minor) || is_any(patch));
        let minor = if any_minor { "0" } else { minor? };
        let patch = if any_patch { "0" } else { patch? };
        let version = Version::parse(&format!("{}.{minor}.{patch}{names}", major?))?;
        Some(Self { operator: operator.to_owned(), version, any_minor, any_patch })
    }

    fn holds(&self, version: &Version) -> bool {
        let want = &self.version;
        // Those before a release are wanted only where they are named.
        if !version.prerelease.is_empty() && want.prerelease.is_empty() {
            return false;
        }
        let order = version.order(want);
        let is_open = self.any_patch;
        match self.operator.as_str() {
            "" | "=" if !is_open => order.is_eq(),
            "!=" if !is_open => order.is_ne(),
            "!=" => version.major != want.major || (!self.any_minor && version.minor != want.minor),
            ">" if !is_open => order.is_gt(),
            ">" => {
                version.major > want.major
                    || (version.major == want.major
                        && !self.any_minor
                        && version.minor > want.minor)
            }
            "<" => order.is_lt(),
            ">=" | "=>" => order.is_ge(),
            "<=" | "=<" if !is_open => order.is_le(),
            "<=" | "=<" => {
                version.major < want.major
                    || (version.major == want.major
                        && (self.any_minor || version.minor <= want.minor))
            }
            "^" => order.is_ge() && self.is_compatible(version),
            _ => {
                order.is_ge()
                    && version.major == want.major
                    && (self.any_minor || version.minor == want.minor)
            }
        }
    }

    /// The leftmost number that is not zero is the same.
    fn is_compatible(&self, version: &Version) -> bool {
        let want = &self.version;
        if want.major > 0 || self.any_minor {
            return version.major == want.major;
        }
        if version.major > 0 {
            return false;
        }
        if want.minor > 0 || self.any_patch {
            return version.minor == want.minor;
        }
        version.minor == 0 && version.patch == want.patch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_hold_as_in_sprig() {
        for (wanted, version, met) in [
            ("^1.2.0", "1.3.0", true),
            ("^1.2.0", "2.0.0", false),
            ("^0.2.3", "0.3.0", false),
            ("~1.2", "1.2.9", true),
            ("~1", "1.9.0", true),
            ("1.2.x", "1.2.5", true),
            ("*", "3.4.5", true),
            (">1", "1.5.0", false),
            (">=1.0, <2", "1.5.0", true),
            ("1.2 - 1.4", "1.4.9", true),
            ("<1 || >=3", "3.1.0", true),
            (">=1.0.0", "1.1.0-beta", false),
            (">=1.0.0-0", "1.1.0-beta", true),
            ("!=1.2", "1.2.3", false),
        ] {
            let version = Version::parse(version).expect("a version");
            assert_eq!(meets(&version, wanted), Some(met), "{wanted} {version}");
        }
        let version = Version::default();
        assert!(meets(&version, "foo").is_none());
        assert!(meets(&version, "").is_none());
    }
}
