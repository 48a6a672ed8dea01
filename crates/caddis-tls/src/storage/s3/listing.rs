//! The few elements of S3's XML that matter here.

use std::borrow::Cow;

/// One page of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Keys, and common prefixes with their slash.
    pub(super) keys: Vec<String>,
    /// Where the next page begins.
    pub(super) next: Option<String>,
}

impl Listing {
    /// `None` where the text is no listing.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let inner = element(text, "ListBucketResult")?;
        let encoded = element(inner, "EncodingType") == Some("url");
        let plain = |text: &str| {
            let text = unescaped(text);
            if encoded { decoded(&text) } else { text.into_owned() }
        };
        let contents = elements(inner, "Contents").filter_map(|one| element(one, "Key"));
        let folders = elements(inner, "CommonPrefixes").filter_map(|one| element(one, "Prefix"));
        let keys = contents.chain(folders).map(plain).collect();
        let next = element(inner, "NextContinuationToken").map(|text| unescaped(text).into_owned());
        Some(Self { keys, next: next.filter(|next| !next.is_empty()) })
    }
}

/// The text of the first element of a name.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    elements(text, name).next()
}

fn elements<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let mut rest = text;
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    std::iter::from_fn(move || {
        loop {
            let at = rest.find(&open)?;
            let after = rest.get(at + open.len()..)?;
            let end_of_tag = after.find('>')?;
            let attributes = after.get(..end_of_tag)?;
            // A longer name that begins with this one.
            if !attributes.is_empty() && !attributes.starts_with([' ', '\n', '\t', '\r', '/']) {
                rest = after;
                continue;
            }
            let inner = after.get(end_of_tag + 1..)?;
            if attributes.ends_with('/') {
                rest = inner;
                return Some("");
            }
            let end = inner.find(&close)?;
            rest = inner.get(end + close.len()..)?;
            return inner.get(..end);
        }
    })
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let entity = &rest[at + 1..];
        let Some((name, after)) = entity.split_once(';') else {
            out.push_str(&rest[at..]);
            return Cow::Owned(out);
        };
        let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        });
        let known = match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => number.and_then(char::from_u32),
        };
        out.extend(known);
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// As in the query of a URL: `+` is a space.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::Listing;

    #[test]
    fn pages_are_read() {
        let page = br#"<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
            <Name>b</Name><Prefix>p/</Prefix><KeyCount>2</KeyCount><EncodingType>url</EncodingType>
            <NextContinuationToken>a&amp;b</NextContinuationToken>
            <Contents><Key>p/a%40b.test</Key><ETag>&quot;x&quot;</ETag></Contents>
            <Contents><KeyMarker/><Key>p/c+d</Key></Contents>
            <CommonPrefixes><Prefix>p/e/</Prefix></CommonPrefixes></ListBucketResult>"#;
        let listing = Listing::parse(page).unwrap();
        assert_eq!(listing.keys, ["p/a@b.test", "p/c d", "p/e/"]);
        assert_eq!(listing.next.as_deref(), Some("a&b"));
        let plain = b"<ListBucketResult><Contents><Key>a+&lt;&#x41;&#66;&amp;</Key></Contents></ListBucketResult>";
        assert_eq!(Listing::parse(plain).unwrap().keys, ["a+<AB&"]);
        for odd in
            ["", "<", "<ListBucketResult>", "<html></html>", "<ListBucketResult", "&", "\u{fffd}"]
        {
            assert_eq!(Listing::parse(odd.as_bytes()), None);
        }
        let odd =
            b"<ListBucketResult><Contents><Key>a&b;&#xffffff;</Key><Contents></ListBucketResult>";
        assert!(Listing::parse(odd).is_some());
    }
}
