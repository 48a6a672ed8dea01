//! The request target: path and query as received, with the decoded path at hand.

use bytestring::ByteString;

/// A request target in origin form (`/a%20b?x=1`), `*`, or an authority for CONNECT.
#[derive(Debug, Clone, Default)]
pub struct Target {
    raw: ByteString,
    query_at: Option<usize>,
    /// Present where the decoded path differs from the raw one.
    decoded: Option<Box<str>>,
    /// Present where the client sent it otherwise.
    sent: Option<Box<str>>,
}

impl Target {
    /// Takes a target apart. `None` where a percent escape of the path is malformed.
    ///
    /// A path with characters that are to be escaped (RFC 3986 §3.3) is escaped anew, as by Go's
    /// `URL.EscapedPath`; [`Self::as_sent`] still tells what came.
    pub fn parse(raw: ByteString) -> Option<Self> {
        let query_at = raw.find('?');
        let path = &raw[..query_at.unwrap_or(raw.len())];
        let decoded = if path.contains('%') { Some(decode(path)?.into_boxed_str()) } else { None };
        let is_path = path.starts_with('/');
        if is_path && !path.bytes().all(may_stay) {
            let bytes = decode_bytes(path)?;
            let mut target = Self { sent: Some((&*raw).into()), ..Self::default() };
            let decoded = decoded.as_deref().unwrap_or(path);
            let query = query_at.map(|at| &raw[at + 1..]);
            target.replace(&escape(&bytes, stays_in_path), query, Some(decoded));
            return Some(target);
        }
        Some(Self { raw, query_at, decoded, sent: None })
    }

    /// The same for bytes, of which those that are no ASCII are escaped where they are no UTF-8.
    pub fn parse_bytes(raw: bytes::Bytes) -> Option<Self> {
        if std::str::from_utf8(&raw).is_ok() {
            return Self::parse(ByteString::try_from(raw).ok()?);
        }
        Self::parse(escape(&raw, |byte| byte.is_ascii()).into())
    }

    /// The target as the client sent it (Go's `Request.RequestURI`), unless it was changed since.
    pub fn as_sent(&self) -> &str {
        self.sent.as_deref().unwrap_or(&self.raw)
    }

    /// The decoded path where it is no UTF-8, and [`Self::path`] does not tell all of it.
    pub fn path_bytes(&self) -> Option<Vec<u8>> {
        self.decoded.as_deref()?.contains('\u{fffd}').then_some(())?;
        let bytes = decode_bytes(self.escaped_path())?;
        std::str::from_utf8(&bytes).is_err().then_some(bytes)
    }

    /// Builds a target from a decoded path and a raw query.
    pub fn from_parts(path: &str, query: Option<&str>) -> Self {
        let mut target = Self::default();
        target.replace(&encode_path(path), query, Some(path));
        target
    }

    /// The decoded path (Go's `URL.Path`); bytes that are no UTF-8 are shown as U+FFFD.
    pub fn path(&self) -> &str {
        self.decoded.as_deref().unwrap_or_else(|| self.escaped_path())
    }

    /// The path as it travels (Go's `URL.EscapedPath()`).
    pub fn escaped_path(&self) -> &str {
        &self.raw[..self.query_at.unwrap_or(self.raw.len())]
    }

    /// The raw query, without the question mark; `Some("")` for a lone question mark.
    pub fn query(&self) -> Option<&str> {
        self.query_at.map(|at| &self.raw[at + 1..])
    }

    /// Path and query as they travel (Go's `RequestURI`).
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// Path and query as a shared string.
    pub fn to_byte_string(&self) -> ByteString {
        self.raw.clone()
    }

    /// Path and query for another server: where the path holds bytes that have no place there (`"`,
    /// `|`, letters beyond ASCII, …), it is escaped anew, as Go does; some servers refuse such
    /// requests otherwise.
    pub fn forwarded(&self) -> ByteString {
        let path = self.escaped_path();
        if path.bytes().all(may_stay) {
            return self.raw.clone();
        }
        let mut out = encode_path_bytes(&decode_bytes(path).unwrap_or_else(|| path.into()));
        out.push_str(&self.raw[path.len()..]);
        out.into()
    }

    /// Sets the path, given decoded; it is escaped as Go does. One that says what is there already
    /// stays as it was written: `%2F` is lost by no rewrite to the same path.
    pub fn set_path(&mut self, path: &str) {
        if !path.is_empty() && path == self.path() {
            return;
        }
        let query = self.query().map(str::to_owned);
        self.replace(&encode_path(path), query.as_deref(), Some(path));
    }

    /// Sets the path, given escaped; where its escapes are malformed it is taken literally.
    pub fn set_escaped_path(&mut self, path: &str) {
        let query = self.query().map(str::to_owned);
        match decode(path) {
            Some(decoded) => self.replace(path, query.as_deref(), Some(&decoded)),
            None => self.replace(&encode_path(path), query.as_deref(), Some(path)),
        }
    }

    /// Sets or removes the raw query.
    pub fn set_query(&mut self, query: Option<&str>) {
        let path = self.escaped_path().to_owned();
        let decoded = self.decoded.take();
        self.replace(&path, query, None);
        self.decoded = decoded;
    }

    fn replace(&mut self, escaped: &str, query: Option<&str>, decoded: Option<&str>) {
        if !self.raw.is_empty() {
            self.sent = None;
        }
        // An empty path travels as a slash (Go's `URL.RequestURI`), but stays empty decoded.
        let escaped = if escaped.is_empty() { "/" } else { escaped };
        let mut raw = String::with_capacity(escaped.len() + query.map_or(0, |q| q.len() + 1));
        raw.push_str(escaped);
        self.query_at = query.map(|query| {
            raw.push('?');
            raw.push_str(query);
            escaped.len()
        });
        self.decoded = decoded.filter(|decoded| *decoded != escaped).map(Into::into);
        self.raw = raw.into();
    }
}

/// What a path that travels may consist of.
static PATH_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    let others = b"-_.~$&+,/:;=@!'()*[]%";
    while at < 128 {
        table[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// Decodes percent escapes of a path; `+` stays. `None` where an escape is malformed.
pub fn decode(text: &str) -> Option<String> {
    Some(match String::from_utf8(decode_bytes(text)?) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// The same, whatever the bytes are.
pub fn decode_bytes(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let high = hex(*bytes.get(at + 1)?)?;
            let low = hex(*bytes.get(at + 2)?)?;
            out.push(high << 4 | low);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    Some(out)
}

/// Decodes a query component: `+` is a space. Malformed escapes give `None`.
pub fn decode_query(text: &str) -> Option<String> {
    if text.contains('+') { decode(&text.replace('+', " ")) } else { decode(text) }
}

/// Escapes a path as Go's `URL.EscapedPath` does.
pub fn encode_path(path: &str) -> String {
    encode_path_bytes(path.as_bytes())
}

/// The same for a path that may be no UTF-8.
pub fn encode_path_bytes(path: &[u8]) -> String {
    escape(path, stays_in_path)
}

fn stays_in_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte)
}

/// Whether an escaped path may hold this byte; one that holds others is escaped anew.
fn may_stay(byte: u8) -> bool {
    PATH_BYTES[usize::from(byte)]
}

/// Escapes a query component as Go's `url.QueryEscape` does (space becomes `+`).
pub fn encode_query(text: &str) -> String {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~ ".contains(&byte);
    escape(text.as_bytes(), stays).replace(' ', "+")
}

fn escape(text: &[u8], keep: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for &byte in text {
        if keep(byte) {
            out.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The pairs of a raw query in order, decoded; malformed pairs are left out (as Go's
/// `url.Query()` does). A pair with a semicolon is malformed.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')).filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode_query(key)?, decode_query(value)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_received() {
        let target = Target::parse("/a%20b/%2Fc?x=1&y".into()).expect("valid");
        assert_eq!(target.path(), "/a b//c");
        assert_eq!(target.escaped_path(), "/a%20b/%2Fc");
        assert_eq!(target.query(), Some("x=1&y"));
        assert!(Target::parse("/%zz".into()).is_none());
        assert!(Target::parse("/%".into()).is_none());
    }

    #[test]
    fn what_has_no_place_in_a_path_is_escaped() {
        for (from, to) in [
            ("/a%2Fb'()*![x]?q=\"|", "/a%2Fb'()*![x]?q=\"|"),
            ("/a\"b|c", "/a%22b%7Cc"),
            ("/a^`{}\\<>", "/a%5E%60%7B%7D%5C%3C%3E"),
            ("/ü%FF?ü", "/%C3%BC%FF?ü"),
            ("*", "*"),
        ] {
            let target = Target::parse(from.into()).expect("valid");
            assert_eq!(target.forwarded(), to, "{from}");
            assert_eq!((target.as_str(), target.as_sent()), (to, from));
        }
    }

    #[test]
    fn escapes_what_was_sent_bare() {
        let target = Target::parse("/a\"b|é%20!?q=\"".into()).expect("valid");
        assert_eq!(target.as_str(), "/a%22b%7C%C3%A9%20%21?q=\"");
        assert_eq!(target.path(), "/a\"b|é !");
        assert_eq!(target.as_sent(), "/a\"b|é%20!?q=\"");
        let target = Target::parse_bytes(b"/caf\xe9?\xff"[..].into()).expect("valid");
        assert_eq!(target.as_str(), "/caf%E9?%FF");
        assert_eq!(
            (target.path(), target.path_bytes()),
            ("/caf\u{fffd}", Some(b"/caf\xe9".into()))
        );
        let mut target = Target::parse("/é".into()).expect("valid");
        assert_eq!(target.path_bytes(), None);
        target.set_path("/b");
        assert_eq!(target.as_sent(), "/b");
    }

    #[test]
    fn sets_parts() {
        let mut target = Target::parse("/old?q=1".into()).expect("valid");
        target.set_path("/new path");
        assert_eq!(target.as_str(), "/new%20path?q=1");
        target.set_query(None);
        assert_eq!((target.as_str(), target.path()), ("/new%20path", "/new path"));
        target.set_escaped_path("/a%2Fb");
        assert_eq!((target.as_str(), target.path()), ("/a%2Fb", "/a/b"));
        target.set_path("/a/b");
        assert_eq!((target.as_str(), target.path()), ("/a%2Fb", "/a/b"), "it is the same");
        target.set_path("/a/c");
        assert_eq!(target.as_str(), "/a/c");
        target.set_path("");
        assert_eq!((target.as_str(), target.path()), ("/", ""));
    }
}
