//! The few elements of S3's XML that matter here.

use roxmltree::{Document, Node};

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
        let document = Document::parse(std::str::from_utf8(body).ok()?).ok()?;
        let root = document.root_element();
        if root.tag_name().name() != "ListBucketResult" {
            return None;
        }
        let encoded = child(root, "EncodingType") == Some("url");
        let keys = root.children().filter_map(|node| match node.tag_name().name() {
            "Contents" => child(node, "Key"),
            "CommonPrefixes" => child(node, "Prefix"),
            _ => None,
        });
        let keys = keys.map(|key| if encoded { decoded(key) } else { key.to_owned() }).collect();
        let next = child(root, "NextContinuationToken").filter(|next| !next.is_empty());
        Some(Self { keys, next: next.map(str::to_owned) })
    }
}

/// The text of an element anywhere in an answer; `None` where there is none, or no XML.
pub(super) fn element(body: &[u8], name: &str) -> Option<String> {
    let document = Document::parse(std::str::from_utf8(body).ok()?).ok()?;
    let found = document.descendants().find(|node| node.tag_name().name() == name)?;
    found.text().map(str::to_owned)
}

fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.children().find(|node| node.tag_name().name() == name)?.text()
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
        let odd = b"<ListBucketResult><Contents><Key/></Contents><Contents/></ListBucketResult>";
        assert!(Listing::parse(odd).unwrap().keys.is_empty());
    }
}
