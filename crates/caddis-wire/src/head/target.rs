//! The four forms of a request target (RFC 9112 §3.2).

use std::ops::Range;

use http::Method;

use super::host::{escapes_are_whole, is_host, is_host_with_port};
use crate::HeadError;

/// Which form a request target has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `host:port`, with `CONNECT` only.
    Authority,
    /// `*`, with `OPTIONS` only.
    Asterisk,
}

/// A target taken apart; ranges are of the target.
pub(crate) struct Target {
    pub(crate) form: TargetForm,
    pub(crate) authority: Option<Range<usize>>,
    pub(crate) origin: Range<usize>,
}

/// Finds out the form of a target and refuses what is none, or not for this method.
pub(crate) fn parse_target(target: &[u8], method: &Method) -> Result<Target, HeadError> {
    // A fragment never travels (RFC 9110 §4.2.5): who sends `#` means to confuse someone.
    if target.iter().any(|&b| b <= b' ' || b == 0x7f || b == b'#') {
        return Err(HeadError::Target);
    }
    let whole = 0..target.len();
    let found = |form, authority, origin| Ok(Target { form, authority, origin });
    if method == Method::CONNECT {
        if !is_host_with_port(target) {
            return Err(HeadError::Target);
        }
        return found(TargetForm::Authority, Some(whole.clone()), whole);
    }
    match target {
        [b'/', ..] => {
            check_path(target)?;
            found(TargetForm::Origin, None, whole)
        }
        b"*" if method == Method::OPTIONS => found(TargetForm::Asterisk, None, whole),
        _ => {
            let start = scheme_end(target).ok_or(HeadError::Target)?;
            let rest = &target[start..];
            let end = start + memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
            if !is_host(&target[start..end]) {
                return Err(HeadError::Target);
            }
            check_path(&target[end..])?;
            found(TargetForm::Absolute, Some(start..end), end..target.len())
        }
    }
}

fn scheme_end(target: &[u8]) -> Option<usize> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(scheme.len())
    })
}

fn check_path(target: &[u8]) -> Result<(), HeadError> {
    let path = memchr::memchr(b'?', target).map_or(target, |query| &target[..query]);
    if escapes_are_whole(path) { Ok(()) } else { Err(HeadError::Target) }
}
