//! DNS look-ups as the challenge needs them: the zone of a name, and whether a TXT record is there
//! yet, asked of given resolvers or of the zone's own servers.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use crate::DnsError;

/// Record type A.
pub const A: u16 = 1;
/// Record type NS.
pub const NS: u16 = 2;
/// Record type CNAME.
pub const CNAME: u16 = 5;
/// Record type SOA.
pub const SOA: u16 = 6;
/// Record type TXT.
pub const TXT: u16 = 16;
/// Record type AAAA.
pub const AAAA: u16 = 28;
/// Record type HTTPS (RFC 9460).
pub const HTTPS: u16 = 65;
/// Record type CAA.
pub const CAA: u16 = 257;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Where the system names no resolver.
const PUBLIC: [&str; 2] = ["8.8.8.8:53", "1.1.1.1:53"];

/// One record of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The owner, lower case, without the final dot.
    pub name: String,
    /// The type.
    pub kind: u16,
    /// Time to live in seconds.
    pub ttl: u32,
    /// TXT: the joined strings. NS, CNAME: the name. Others: the data as it came.
    pub data: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The response code: 0 fine, 3 no such name.
    pub code: u8,
    truncated: bool,
    /// The answers.
    pub answers: Vec<Record>,
    /// The authority section.
    pub authority: Vec<Record>,
}

/// The resolvers to ask: those given (port 53 if they have none), else the system's.
pub fn resolvers(given: &[String]) -> Vec<String> {
    let with_port = |text: &str| {
        let bare = text.trim_matches(['[', ']']);
        match bare.parse::<std::net::IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, 53).to_string(),
            Err(_) if text.contains(':') => text.to_owned(),
            Err(_) => format!("{text}:53"),
        }
    };
    if !given.is_empty() {
        return given.iter().map(|text| with_port(text)).collect();
    }
    let file = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let system: Vec<String> = file
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .map(|rest| with_port(rest.trim()))
        .collect();
    if system.is_empty() { PUBLIC.map(str::to_owned).to_vec() } else { system }
}

/// The zone that a name lies in: the nearest ancestor with a SOA record.
///
/// # Errors
/// Nobody answers, or there is none.
pub async fn zone_of(name: &str, resolvers: &[String]) -> Result<String, DnsError> {
    let name = name.trim_end_matches('.').to_lowercase();
    let mut rest = name.as_str();
    let mut last = DnsError(format!("could not find the start of authority for {name}"));
    loop {
        match ask_any(resolvers, rest, SOA).await {
            Ok(answer) if matches!(answer.code, 0 | 3) => {
                // A resolver that answers "no such record" names the zone's SOA beside.
                let soa = answer.answers.iter().chain(&answer.authority);
                let soa = soa.filter(|record| record.kind == SOA);
                if let Some(soa) = soa.into_iter().find(|record| {
                    record.name == rest || rest.ends_with(&format!(".{}", record.name))
                }) && !soa.name.is_empty()
                {
                    return Ok(soa.name.clone());
                }
            }
            Ok(answer) => last = DnsError(format!("unexpected response code {}", answer.code)),
            Err(error) => last = error,
        }
        match rest.split_once('.') {
            Some((_, parent)) if parent.contains('.') => rest = parent,
            _ => return Err(last),
        }
    }
}

/// Whether all these servers have a TXT record with this value.
///
/// # Errors
/// One of them does not answer.
pub async fn has_txt(name: &str, value: &str, servers: &[String]) -> Result<bool, DnsError> {
    for server in servers {
        let answer = ask(server, name, TXT).await?;
        let found = answer
            .answers
            .iter()
            .any(|record| record.kind == TXT && record.data == value.as_bytes());
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether all these servers have a name as an alias of another.
///
/// # Errors
/// One of them does not answer.
pub async fn has_cname(name: &str, target: &str, servers: &[String]) -> Result<bool, DnsError> {
    for server in servers {
        let answer = ask(server, name, CNAME).await?;
        let is_it = |data: &[u8]| data.eq_ignore_ascii_case(target.as_bytes());
        if !answer.answers.iter().any(|record| record.kind == CNAME && is_it(&record.data)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The addresses of a zone's own servers, with port 53.
///
/// # Errors
/// There are none that can be found.
pub async fn zone_servers(zone: &str, resolvers: &[String]) -> Result<Vec<String>, DnsError> {
    let answer = ask_any(resolvers, zone, NS).await?;
    let mut servers = Vec::new();
    for record in answer.answers.iter().filter(|record| record.kind == NS) {
        let host = String::from_utf8_lossy(&record.data).into_owned();
        if let Ok(mut found) = tokio::net::lookup_host((host.as_str(), 53)).await
            && let Some(address) = found.next()
        {
            servers.push(address.to_string());
        }
    }
    if servers.is_empty() {
        return Err(DnsError(format!("could not determine authoritative nameservers of {zone}")));
    }
    Ok(servers)
}

/// Asks one after the other until one answers.
///
/// # Errors
/// What the last one said.
pub async fn ask_any(servers: &[String], name: &str, kind: u16) -> Result<Answer, DnsError> {
    let mut last = DnsError("no resolver".into());
    for server in servers {
        match ask(server, name, kind).await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks a server, over UDP, or TCP where the answer is long.
///
/// # Errors
/// No answer in time, or one that is none.
pub async fn ask(server: &str, name: &str, kind: u16) -> Result<Answer, DnsError> {
    let id = fastrand::u16(..);
    let question = question(id, name, kind)?;
    let fail = |error: &dyn std::fmt::Display| DnsError(format!("{server}: {error}"));
    for _ in 0..2 {
        let asked = tokio::time::timeout(TIMEOUT, over_udp(server, &question)).await;
        let Ok(asked) = asked else { continue };
        let answer = parse(&asked.map_err(|error| fail(&error))?, id);
        let answer = answer.ok_or_else(|| fail(&"malformed answer"))?;
        if !answer.truncated {
            return Ok(answer);
        }
        let asked = tokio::time::timeout(TIMEOUT, over_tcp(server, &question)).await;
        let asked = asked.map_err(|_| fail(&"timeout"))?.map_err(|error| fail(&error))?;
        return parse(&asked, id).ok_or_else(|| fail(&"malformed answer"));
    }
    Err(fail(&"i/o timeout"))
}

pub(crate) async fn over_udp(server: &str, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let address = first_address(server).await?;
    let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(address).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let read = socket.recv(&mut buffer).await?;
        // Anything else is not the answer to this question.
        if buffer.get(..2) == question.get(..2) {
            buffer.truncate(read);
            return Ok(buffer);
        }
    }
}

pub(crate) async fn over_tcp(server: &str, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(first_address(server).await?).await?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    Ok(buffer)
}

async fn first_address(server: &str) -> std::io::Result<SocketAddr> {
    let mut found = tokio::net::lookup_host(server).await?;
    found.next().ok_or_else(|| std::io::Error::other("no address"))
}

pub(crate) fn question(id: u16, name: &str, kind: u16) -> Result<Vec<u8>, DnsError> {
    let mut out = Vec::with_capacity(64);
    out.extend(id.to_be_bytes());
    // Recursion desired; one question, one additional record (EDNS, 1232 bytes).
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    write_name(&mut out, name)?;
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    Ok(out)
}

/// Appends a name as its labels, uncompressed.
///
/// # Errors
/// A label or the name is too long (RFC 1035 §3.1).
pub(crate) fn write_name(out: &mut Vec<u8>, name: &str) -> Result<(), DnsError> {
    let start = out.len();
    for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        let length = u8::try_from(label.len()).ok().filter(|length| *length < 64);
        out.push(length.ok_or_else(|| DnsError(format!("{name}: label too long")))?);
        out.extend(label.as_bytes());
    }
    out.push(0);
    if out.len() - start > 255 {
        return Err(DnsError(format!("{name}: name too long")));
    }
    Ok(())
}

pub(crate) fn parse(message: &[u8], id: u16) -> Option<Answer> {
    let mut reader = Reader { message, at: 0 };
    if reader.u16()? != id {
        return None;
    }
    let flags = reader.u16()?;
    if flags & 0x8000 == 0 {
        return None;
    }
    let mut counts = [0; 4];
    for count in &mut counts {
        *count = reader.u16()?;
    }
    for _ in 0..counts[0] {
        reader.name()?;
        reader.at += 4;
    }
    let mut answer =
        Answer { code: (flags & 15) as u8, truncated: flags & 0x0200 != 0, ..Answer::default() };
    if answer.truncated {
        return Some(answer);
    }
    for _ in 0..counts[1] {
        answer.answers.push(reader.record()?);
    }
    for _ in 0..counts[2] {
        answer.authority.push(reader.record()?);
    }
    Some(answer)
}

/// Reads the parts of a message one after the other.
pub(crate) struct Reader<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) at: usize,
}

impl Reader<'_> {
    pub(crate) fn u16(&mut self) -> Option<u16> {
        let bytes = self.message.get(self.at..self.at + 2)?;
        self.at += 2;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name, whose pointers only ever lead backwards.
    pub(crate) fn name(&mut self) -> Option<String> {
        let mut out = String::new();
        let mut at = self.at;
        let mut limit = usize::MAX;
        loop {
            let length = usize::from(*self.message.get(at)?);
            match length {
                0 => {
                    at += 1;
                    break;
                }
                1..=63 => {
                    let label = self.message.get(at + 1..at + 1 + length)?;
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(&String::from_utf8_lossy(label).to_lowercase());
                    at += 1 + length;
                }
                192.. => {
                    let target = (length & 63) << 8 | usize::from(*self.message.get(at + 1)?);
                    if limit == usize::MAX {
                        self.at = at + 2;
                    }
                    if target >= limit.min(at) {
                        return None;
                    }
                    limit = target;
                    at = target;
                }
                _ => return None,
            }
            if out.len() > 255 {
                return None;
            }
        }
        if limit == usize::MAX {
            self.at = at;
        }
        Some(out)
    }

    fn record(&mut self) -> Option<Record> {
        let name = self.name()?;
        let kind = self.u16()?;
        self.at += 2;
        let ttl = u32::from(self.u16()?) << 16 | u32::from(self.u16()?);
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        let raw = self.message.get(self.at..end)?;
        let data = match kind {
            NS | CNAME => self.name()?.into_bytes(),
            TXT => {
                let mut text = Vec::new();
                let mut rest = raw;
                while let Some((&length, after)) = rest.split_first() {
                    let (part, after) = after.split_at_checked(usize::from(length))?;
                    text.extend(part);
                    rest = after;
                }
                text
            }
            _ => raw.to_vec(),
        };
        self.at = end;
        Some(Record { name, kind, ttl, data })
    }
}

#[cfg(test)]
mod tests {
    use super::{SOA, TXT, has_txt, parse, question, resolvers, zone_of};
    use crate::testing::name_server;

    #[tokio::test]
    async fn zones_and_texts_are_found() {
        let server = name_server(|name, kind| match kind {
            TXT => Some(b"\x02he\x03llo".to_vec()),
            SOA if name == "a.test" => Some(vec![0; 22]),
            _ => None,
        });
        let servers = [server.await];
        assert_eq!(zone_of("_acme-challenge.x.a.test.", &servers).await.unwrap(), "a.test");
        assert!(zone_of("b.other.test", &servers).await.is_err());
        assert!(has_txt("x.a.test", "hello", &servers).await.unwrap());
        assert!(!has_txt("x.a.test", "other", &servers).await.unwrap());
    }

    #[test]
    fn resolvers_have_ports() {
        let given = ["9.9.9.9", "::1", "dns.test", "1.1.1.1:5353"].map(str::to_owned);
        let want = ["9.9.9.9:53", "[::1]:53", "dns.test:53", "1.1.1.1:5353"];
        assert_eq!(resolvers(&given), want);
        assert!(!resolvers(&[]).is_empty());
    }

    #[test]
    fn broken_messages_are_refused() {
        let good = question(7, "a.test", TXT).unwrap();
        assert_eq!(parse(&good, 7), None, "a question is no answer");
        let mut looped = vec![0, 7, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xc0, 12];
        assert_eq!(parse(&looped, 7), None);
        looped.truncate(11);
        assert_eq!(parse(&looped, 7), None);
        assert!(question(1, &"a".repeat(64), TXT).is_err());
    }
}
