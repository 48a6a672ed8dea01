//! Client hellos that hide others (RFC 9849 §5 and §7.1): finding what is encrypted, and putting
//! together what it hides. Works on handshake messages, header included.

use std::ops::Range;

use super::config::{Reader, VERSION, opaque16};

/// `ech_outer_extensions` (RFC 9849 §5.1).
const OUTER_EXTENSIONS: u16 = 0xfd00;
/// `supported_versions` and `key_share` (RFC 8446 §4.2).
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;
/// The number of TLS 1.3.
const TLS13: u16 = 0x0304;
/// The handshake message's number.
pub const CLIENT_HELLO: u8 = 1;
/// Length of a handshake message's header.
const HEADER: usize = 4;
/// Length of version and random at the beginning of a hello.
const BEGINNING: usize = 2 + 32;

/// The parts of a hello, without its header.
struct Hello<'a> {
    beginning: &'a [u8],
    session: &'a [u8],
    suites: &'a [u8],
    compressions: &'a [u8],
    extensions: &'a [u8],
    /// What comes after the extensions.
    rest: &'a [u8],
}

impl<'a> Hello<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        Some(Self {
            beginning: reader.take(BEGINNING)?,
            session: reader.opaque8()?,
            suites: reader.opaque16()?,
            compressions: reader.opaque8()?,
            extensions: reader.opaque16()?,
            rest: reader.0,
        })
    }

    /// Number and content of each extension.
    fn extensions(&self) -> Extensions<'a> {
        Extensions(Reader(self.extensions))
    }

    fn extension(&self, wanted: u16) -> Option<&'a [u8]> {
        self.extensions().flatten().find(|(number, _)| *number == wanted).map(|(_, found)| found)
    }
}

/// The extensions of a hello; an error is the last one.
struct Extensions<'a>(Reader<'a>);

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<(u16, &'a [u8]), ()>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.0.is_empty() {
            return None;
        }
        let mut read = || Some((self.0.number()?, self.0.opaque16()?));
        let found = read().ok_or(());
        if found.is_err() {
            self.0 = Reader(&[]);
        }
        Some(found)
    }
}

/// What a hello says of the one that it hides.
#[derive(Debug)]
pub(super) struct Hidden<'a> {
    body: &'a [u8],
    /// Key derivation and cipher of HPKE.
    pub(super) suite: (u16, u16),
    /// Which configuration the client used.
    pub(super) config_id: u8,
    /// The client's part of the key exchange.
    pub(super) enc: &'a [u8],
    /// Where the encrypted hello lies in the body.
    payload: Range<usize>,
}

/// Looks into a hello; `None` where it hides none, or is none, which others will say.
pub(super) fn hidden(message: &[u8]) -> Option<Hidden<'_>> {
    let body = body(message)?;
    let outer = Hello::read(body).filter(|outer| outer.rest.is_empty())?;
    let mut extensions = outer.extensions();
    let (_, extension) = extensions.by_ref().flatten().find(|(number, _)| *number == VERSION)?;
    // Extensions end with the hello, and this one with the payload.
    let end = body.len() - extensions.0.0.len();
    let mut reader = Reader(extension);
    // 0 is the hello that hides, 1 the hidden one.
    let (0, suite, config_id) =
        (reader.byte()?, (reader.number()?, reader.number()?), reader.byte()?)
    else {
        return None;
    };
    let (enc, payload) = (reader.opaque16()?, reader.opaque16()?);
    if payload.is_empty() || !reader.0.is_empty() {
        return None;
    }
    Some(Hidden { body, suite, config_id, enc, payload: end - payload.len()..end })
}

impl Hidden<'_> {
    /// The encrypted hello.
    pub(super) fn payload(&self) -> &[u8] {
        &self.body[self.payload.clone()]
    }

    /// What the encryption vouches for besides: this hello, zeros in the place of the payload (§5.2).
    pub(super) fn associated_data(&self) -> Vec<u8> {
        let mut data = self.body.to_vec();
        data[self.payload.clone()].fill(0);
        data
    }

    /// The hello that was hidden, as its client has it in mind: a handshake message. `None` where
    /// the client does not keep to the rules (§5.1 and §7.1: alert illegal_parameter).
    pub(super) fn reveal(&self, decrypted: &[u8]) -> Option<Vec<u8>> {
        let outer = Hello::read(self.body)?;
        let inner = Hello::read(decrypted)?;
        if !inner.session.is_empty() || inner.rest.iter().any(|pad| *pad != 0) {
            return None;
        }
        let mut extensions = Vec::with_capacity(self.body.len() + inner.extensions.len());
        let mut replaced = false;
        for extension in inner.extensions() {
            let (number, content) = extension.ok()?;
            if number != OUTER_EXTENSIONS {
                write(&mut extensions, number, content);
                continue;
            }
            if std::mem::replace(&mut replaced, true) {
                return None;
            }
            for (number, content) in referred(&outer, content)? {
                write(&mut extensions, number, content);
            }
        }
        let mut body = inner.beginning.to_vec();
        opaque8(&mut body, outer.session)?;
        opaque16(&mut body, inner.suites);
        opaque8(&mut body, inner.compressions)?;
        if extensions.len() > usize::from(u16::MAX) {
            return None;
        }
        opaque16(&mut body, &extensions);
        let whole = Hello::read(&body)?;
        // It says of itself that it is the hidden one, and speaks nothing older than TLS 1.3.
        if whole.extension(VERSION) != Some(&[1])
            || !only_tls13(whole.extension(SUPPORTED_VERSIONS)?)
        {
            return None;
        }
        let length = u32::try_from(body.len()).ok()?.to_be_bytes();
        let mut message = vec![CLIENT_HELLO];
        message.extend(&length[1..]);
        message.append(&mut body);
        Some(message)
    }
}

fn body(message: &[u8]) -> Option<&[u8]> {
    let (header, body) = message.split_at_checked(HEADER)?;
    (header.first() == Some(&CLIENT_HELLO)).then_some(body)
}

fn write(extensions: &mut Vec<u8>, number: u16, content: &[u8]) {
    extensions.extend(number.to_be_bytes());
    opaque16(extensions, content);
}

/// Writes a length of one octet and the content.
fn opaque8(out: &mut Vec<u8>, content: &[u8]) -> Option<()> {
    out.push(u8::try_from(content.len()).ok()?);
    out.extend(content);
    Some(())
}

/// The extensions that the hidden hello has from the other one: in the order of that one, each at
/// most once, and not the hidden hello itself. Looking at each of them once bounds the work.
fn referred<'a>(outer: &Hello<'a>, list: &[u8]) -> Option<Vec<(u16, &'a [u8])>> {
    let mut list = Reader(list);
    let mut numbers = Reader(list.opaque8()?);
    if numbers.0.is_empty() || !list.0.is_empty() {
        return None;
    }
    let mut there = outer.extensions();
    let mut found = Vec::new();
    while !numbers.0.is_empty() {
        let wanted = numbers.number()?;
        if wanted == VERSION {
            return None;
        }
        found.push(there.by_ref().flatten().find(|(number, _)| *number == wanted)?);
    }
    Some(found)
}

/// Whether TLS 1.3 is among the versions, and nothing older; reserved numbers (RFC 8701) are there
/// to be passed over.
fn only_tls13(versions: &[u8]) -> bool {
    let mut outer = Reader(versions);
    let Some(list) = outer.opaque8() else { return false };
    let (versions, rest) = list.as_chunks::<2>();
    let mut versions = versions.iter().map(|version| u16::from_be_bytes(*version));
    rest.is_empty()
        && versions.clone().any(|version| version == TLS13)
        && !versions.any(|version| (0x0300..TLS13).contains(&version))
}

/// The client's random number, which the answer to a hidden hello depends on.
pub(super) fn random(message: &[u8]) -> Option<&[u8]> {
    body(message)?.get(2..BEGINNING)
}

/// The groups that a hello has key shares of.
pub(super) fn key_shares(message: &[u8]) -> Vec<u16> {
    let mut groups = Vec::new();
    let hello = body(message).and_then(Hello::read);
    let shares = hello.and_then(|hello| Reader(hello.extension(KEY_SHARE)?).opaque16());
    let mut shares = Reader(shares.unwrap_or_default());
    while let (Some(group), Some(_)) = (shares.number(), shares.opaque16()) {
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello with these extensions.
    fn hello(session: &[u8], extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        opaque8(&mut body, session).unwrap();
        opaque16(&mut body, &[0x13, 1]);
        opaque8(&mut body, &[0]).unwrap();
        let mut all = Vec::new();
        for (number, content) in extensions {
            write(&mut all, *number, content);
        }
        opaque16(&mut body, &all);
        body
    }

    fn message(body: &[u8]) -> Vec<u8> {
        [&[CLIENT_HELLO, 0, 0, u8::try_from(body.len()).unwrap()], body].concat()
    }

    /// Extension content for a payload of four octets.
    const ENCRYPTED: &[u8] = &[0, 0, 1, 0, 2, 9, 0, 2, 0xaa, 0xbb, 0, 4, 1, 2, 3, 4];
    const VERSIONS: (u16, &[u8]) = (SUPPORTED_VERSIONS, &[2, 3, 4]);
    const INNER: (u16, &[u8]) = (VERSION, &[1]);

    fn outer() -> Vec<u8> {
        message(&hello(
            &[5; 32],
            &[(0, b"outer"), (10, b"groups"), (VERSION, ENCRYPTED), (13, b"s")],
        ))
    }

    #[test]
    fn what_is_hidden_is_found() {
        let outer = outer();
        let found = hidden(&outer).unwrap();
        assert_eq!((found.suite, found.config_id, found.enc), ((1, 2), 9, &[0xaa, 0xbb][..]));
        assert_eq!(found.payload(), [1, 2, 3, 4]);
        let data = found.associated_data();
        assert_eq!(data.len() + HEADER, outer.len());
        let place = data.windows(8).position(|part| part == [0xaa, 0xbb, 0, 4, 0, 0, 0, 0]);
        assert!(place.is_some());
    }

    #[test]
    fn other_hellos_hide_nothing() {
        let plain = |extension: &[u8]| message(&hello(&[], &[(VERSION, extension)]));
        for extension in [&[1][..], &[], &ENCRYPTED[..15], &[2, 0, 1, 0, 2, 9, 0, 0, 0, 1, 1]] {
            assert!(hidden(&plain(extension)).is_none(), "{extension:?}");
        }
        assert!(hidden(&message(&hello(&[], &[]))).is_none());
        let outer = outer();
        for end in 0..outer.len() {
            assert!(hidden(&outer[..end]).is_none(), "{end}");
        }
    }

    #[test]
    fn a_hidden_hello_is_put_together() {
        let outer = outer();
        let found = hidden(&outer).unwrap();
        let mut inner =
            hello(&[], &[(0, b"inner"), (OUTER_EXTENSIONS, &[4, 0, 10, 0, 13]), INNER, VERSIONS]);
        inner.extend([0; 9]);
        let revealed = found.reveal(&inner).unwrap();
        let want = message(&hello(
            &[5; 32],
            &[(0, b"inner"), (10, b"groups"), (13, b"s"), INNER, VERSIONS],
        ));
        assert_eq!(revealed, want);
        assert_eq!(random(&revealed).unwrap(), [7; 32]);
    }

    #[test]
    fn hidden_hellos_keep_to_the_rules() {
        let outer = outer();
        let found = hidden(&outer).unwrap();
        let refused: &[&[(u16, &[u8])]] = &[
            // Without the mark, or with that of the other one.
            &[VERSIONS],
            &[VERSIONS, (VERSION, ENCRYPTED)],
            // Older versions.
            &[INNER],
            &[INNER, (SUPPORTED_VERSIONS, &[4, 3, 4, 3, 3])],
            &[INNER, (SUPPORTED_VERSIONS, &[2, 3, 3])],
            &[INNER, (SUPPORTED_VERSIONS, &[3, 3, 4])],
            // What is not there, out of order, twice, the hidden hello, an odd list, two lists.
            &[INNER, VERSIONS, (OUTER_EXTENSIONS, &[2, 0, 99])],
            &[INNER, VERSIONS, (OUTER_EXTENSIONS, &[4, 0, 13, 0, 10])],
            &[INNER, VERSIONS, (OUTER_EXTENSIONS, &[4, 0, 10, 0, 10])],
            &[INNER, VERSIONS, (OUTER_EXTENSIONS, &[2, 0xfe, 0x0d])],
            &[INNER, VERSIONS, (OUTER_EXTENSIONS, &[1, 0])],
            &[INNER, VERSIONS, (OUTER_EXTENSIONS, &[0])],
            &[INNER, VERSIONS, (OUTER_EXTENSIONS, &[2, 0, 10, 0])],
            &[INNER, VERSIONS, (OUTER_EXTENSIONS, &[2, 0, 10]), (OUTER_EXTENSIONS, &[2, 0, 13])],
        ];
        for extensions in refused {
            assert!(found.reveal(&hello(&[], extensions)).is_none(), "{extensions:?}");
        }
        let good = hello(&[], &[INNER, VERSIONS]);
        assert!(found.reveal(&good).is_some());
        assert!(found.reveal(&[&good[..], &[0, 1]].concat()).is_none(), "padding");
        assert!(found.reveal(&hello(&[1], &[INNER, VERSIONS])).is_none(), "session");
        for end in 0..good.len() {
            assert!(found.reveal(&good[..end]).is_none(), "{end}");
        }
    }

    /// Broken in many ways, always the same ones.
    #[test]
    fn garbage_is_survived() {
        let mut chance = fastrand::Rng::with_seed(1);
        let (outer, mut inner) = (
            outer(),
            hello(&[], &[(0, b"in"), (OUTER_EXTENSIONS, &[4, 0, 10, 0, 13]), INNER, VERSIONS]),
        );
        inner.extend([0; 3]);
        let mut break_some = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for _ in 0..chance.usize(0..4) {
                let at = chance.usize(..bytes.len());
                match chance.u8(..4) {
                    0 => bytes[at] = chance.u8(..),
                    1 => bytes[at] = bytes[at].wrapping_add(1),
                    2 => bytes.insert(at, chance.u8(..)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            bytes
        };
        let mut revealed = 0;
        for _ in 0..100_000 {
            let (outer, inner) = (break_some(&outer), break_some(&inner));
            key_shares(&outer);
            random(&outer);
            let Some(found) = hidden(&outer) else { continue };
            found.associated_data();
            revealed += u32::from(found.reveal(&inner).is_some());
        }
        assert!(revealed > 1000, "{revealed}");
    }

    #[test]
    fn groups_of_key_shares() {
        let shares = [0, 11, 0, 29, 0, 2, 1, 1, 0x11, 0xec, 0, 1, 9];
        assert_eq!(key_shares(&message(&hello(&[], &[(KEY_SHARE, &shares)]))), [29, 0x11ec]);
        assert!(key_shares(&message(&hello(&[], &[]))).is_empty());
    }
}
