//! Signatures of messages with a shared key (TSIG, RFC 8945).

use aws_lc_rs::hmac;

use super::ANY;
use crate::{
    DnsError,
    query::{Reader, write_name},
};

/// Seconds that the clocks may differ (§10).
const FUDGE: u16 = 300;
const TSIG: u16 = 250;
/// What a message is for, in its flags.
const OPCODE: u16 = 0x7800;

/// A key that signs messages and checks their answers (RFC 8945).
pub(super) struct Signer<'a> {
    pub(super) name: &'a str,
    pub(super) algorithm: &'a str,
    pub(super) key: &'a hmac::Key,
}

/// What an answer is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The answer's code, and that of its signature.
    Code(u16, u16),
    /// It did not fit.
    Truncated,
}

/// The record that carries a signature (RFC 8945 §4.2).
pub(super) struct Signature {
    /// Where it begins in the message.
    pub(super) start: usize,
    key_name: String,
    algorithm: String,
    pub(super) time: u64,
    fudge: u16,
    pub(super) mac: Vec<u8>,
    original_id: u16,
    error: u16,
    other: Vec<u8>,
}

impl Signer<'_> {
    /// What is signed beside the message (§4.3.3).
    pub(super) fn variables(
        &self,
        time: u64,
        fudge: u16,
        error: u16,
        other: &[u8],
    ) -> Result<Vec<u8>, DnsError> {
        let mut out = Vec::with_capacity(64 + other.len());
        write_name(&mut out, self.name)?;
        out.extend(ANY.to_be_bytes());
        out.extend(0_u32.to_be_bytes());
        write_name(&mut out, self.algorithm)?;
        out.extend(time.to_be_bytes().into_iter().skip(2));
        out.extend(fudge.to_be_bytes());
        out.extend(error.to_be_bytes());
        out.extend(u16::try_from(other.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend(other);
        Ok(out)
    }

    /// A message with its signature, and the signature's code.
    pub(super) fn sign(&self, message: &[u8], time: u64) -> Result<(Vec<u8>, Vec<u8>), DnsError> {
        let mut context = hmac::Context::with_key(self.key);
        context.update(message);
        context.update(&self.variables(time, FUDGE, 0, &[])?);
        let mac = context.sign().as_ref().to_vec();
        let id = message.get(..2).unwrap_or_default();
        let mut out = message.to_vec();
        // One additional record more.
        let additional = Reader { message, at: 10 }.u16().unwrap_or(0) + 1;
        out.splice(10..12, additional.to_be_bytes());
        write_name(&mut out, self.name)?;
        out.extend([TSIG.to_be_bytes(), ANY.to_be_bytes()].concat());
        out.extend(0_u32.to_be_bytes());
        let mut data = Vec::with_capacity(128);
        write_name(&mut data, self.algorithm)?;
        data.extend(time.to_be_bytes().into_iter().skip(2));
        data.extend(FUDGE.to_be_bytes());
        data.extend(u16::try_from(mac.len()).unwrap_or(0).to_be_bytes());
        data.extend(&mac);
        data.extend(id);
        data.extend([0; 4]);
        out.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
        out.extend(data);
        Ok((out, mac))
    }

    /// Checks an answer to `asked`, whose signature had the code `mac`.
    ///
    /// Only a refusal may come without a signature: a server that does not know the key cannot make
    /// one (§5.3.2).
    pub(super) fn verify(
        &self,
        answer: &[u8],
        asked: &[u8],
        mac: &[u8],
        time: u64,
    ) -> Result<Verdict, DnsError> {
        let malformed = || DnsError::new("malformed answer");
        let mut head = Reader { message: answer, at: 0 };
        let id = head.u16().ok_or_else(malformed)?;
        let flags = head.u16().ok_or_else(malformed)?;
        let mut ours = Reader { message: asked, at: 0 };
        let (ours, purpose) = (ours.u16(), ours.u16().unwrap_or_default() & OPCODE);
        if Some(id) != ours || flags & 0x8000 == 0 || flags & OPCODE != purpose {
            return Err(DnsError::new("an answer to something else"));
        }
        if flags & 0x0200 != 0 {
            return Ok(Verdict::Truncated);
        }
        let code = flags & 15;
        let signature = signature(answer).ok_or_else(malformed)?;
        let unsigned = |signature: Option<Signature>| match code {
            0 => Err(DnsError::new("the answer is not signed")),
            code => Ok(Verdict::Code(code, signature.map_or(0, |signature| signature.error))),
        };
        let Some(found) = signature else { return unsigned(None) };
        if found.mac.is_empty() {
            return unsigned(Some(found));
        }
        if found.key_name != self.name || found.algorithm != self.algorithm {
            return Err(DnsError::new("the answer is signed with another key"));
        }
        // As it was before it was signed: its own id, one record less (§5.3).
        let mut bare = answer.get(..found.start).ok_or_else(malformed)?.to_vec();
        let additional = Reader { message: answer, at: 10 }.u16().unwrap_or(0);
        bare.splice(..2, found.original_id.to_be_bytes());
        bare.splice(10..12, additional.saturating_sub(1).to_be_bytes());
        let mut signed = Vec::with_capacity(bare.len() + 256);
        signed.extend(u16::try_from(mac.len()).unwrap_or(0).to_be_bytes());
        signed.extend(mac);
        signed.extend(bare);
        signed.extend(self.variables(found.time, found.fudge, found.error, &found.other)?);
        hmac::verify(self.key, &signed, &found.mac)
            .map_err(|_| DnsError::new("the answer's signature is wrong"))?;
        // A server whose clock differs says so with its own time in the other data.
        if found.error == 0 && found.time.abs_diff(time) > u64::from(found.fudge) {
            return Err(DnsError::new("the answer's signature is too old or too new"));
        }
        Ok(Verdict::Code(code, found.error))
    }
}

/// The signature of a message; it is the last record. The outer `None`: the message is broken.
pub(super) fn signature(message: &[u8]) -> Option<Option<Signature>> {
    let mut reader = Reader { message, at: 4 };
    let mut counts = [0; 4];
    for count in &mut counts {
        *count = reader.u16()?;
    }
    for _ in 0..counts[0] {
        reader.name()?;
        reader.at += 4;
    }
    let records = counts[1..].iter().map(|count| u32::from(*count)).sum::<u32>();
    for left in (0..records).rev() {
        let start = reader.at;
        let key_name = reader.name()?;
        let kind = reader.u16()?;
        reader.at += 6;
        let length = usize::from(reader.u16()?);
        let end = reader.at + length;
        message.get(reader.at..end)?;
        if kind == TSIG {
            // Anywhere but at the end it is an error (§5.1).
            if left > 0 {
                return None;
            }
            let algorithm = reader.name()?;
            let time = [reader.u16()?, reader.u16()?, reader.u16()?];
            let time = time.into_iter().fold(0, |time, word| time << 16 | u64::from(word));
            let fudge = reader.u16()?;
            let mac = take(&mut reader)?;
            let original_id = reader.u16()?;
            let error = reader.u16()?;
            let other = take(&mut reader)?;
            if reader.at != end {
                return None;
            }
            return Some(Some(Signature {
                start,
                key_name,
                algorithm,
                time,
                fudge,
                mac,
                original_id,
                error,
                other,
            }));
        }
        reader.at = end;
    }
    Some(None)
}

/// Bytes behind their length.
fn take(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let length = usize::from(reader.u16()?);
    let bytes = reader.message.get(reader.at..reader.at + length)?.to_vec();
    reader.at += length;
    Some(bytes)
}
