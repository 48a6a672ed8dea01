//! Which authorities may issue for a name: CAA records (RFC 8659).

use crate::{
    DnsError,
    query::{self, CAA},
};

/// One property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Whoever does not understand the tag must not issue.
    pub critical: bool,
    /// `issue`, `issuewild`, `iodef`, …, lower case.
    pub tag: String,
    /// The value.
    pub value: String,
}

/// The properties that hold for a name, and where they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relevant {
    /// The domain that has them; empty where there are none.
    pub domain: String,
    /// The properties.
    pub properties: Vec<Property>,
}

/// Looks for the properties of a name: those of its nearest ancestor that has any (RFC 8659 §3).
///
/// # Errors
/// A resolver that does not answer, or answers with a failure: then no authority may issue.
pub async fn relevant(name: &str, resolvers: &[String]) -> Result<Relevant, DnsError> {
    let name = name.trim_end_matches('.').to_lowercase();
    let mut rest = name.strip_prefix("*.").unwrap_or(&name);
    loop {
        let answer = query::ask_any(resolvers, rest, CAA).await?;
        if !matches!(answer.code, 0 | 3) {
            let message = format!("CAA of {rest}: unexpected response code {}", answer.code);
            return Err(DnsError(message));
        }
        let records = answer.answers.iter().filter(|record| record.kind == CAA);
        let properties: Option<Vec<Property>> =
            records.map(|record| Property::parse(&record.data)).collect();
        let properties =
            properties.ok_or_else(|| DnsError(format!("CAA of {rest}: malformed record")))?;
        if !properties.is_empty() {
            return Ok(Relevant { domain: rest.to_owned(), properties });
        }
        match rest.split_once('.') {
            Some((_, parent)) => rest = parent,
            None => return Ok(Relevant::default()),
        }
    }
}

impl Property {
    /// RFC 8659 §4.1.
    fn parse(data: &[u8]) -> Option<Self> {
        let (&[flags, length], rest) = data.split_first_chunk::<2>()?;
        let (tag, value) = rest.split_at_checked(usize::from(length))?;
        Some(Self {
            critical: flags & 0x80 != 0,
            tag: std::str::from_utf8(tag).ok()?.to_ascii_lowercase(),
            value: String::from_utf8_lossy(value).into_owned(),
        })
    }

    /// The authority that a value of `issue` names, and its parameters.
    fn authority(&self) -> (&str, impl Iterator<Item = (&str, &str)>) {
        let mut parts = self.value.split(';').map(str::trim);
        let domain = parts.next().unwrap_or_default();
        let parameters = parts.filter_map(|part| part.split_once('='));
        (domain, parameters.map(|(key, value)| (key.trim(), value.trim())))
    }
}

impl Relevant {
    /// Whether an authority with these domains may issue by one of these methods.
    ///
    /// # Errors
    /// Why it may not, in a sentence.
    pub fn allows(
        &self,
        wildcard: bool,
        authority: &[&str],
        methods: &[&str],
    ) -> Result<(), String> {
        let known = ["issue", "issuewild", "issuemail", "iodef", "contactemail", "contactphone"];
        let unknown = |one: &&Property| one.critical && !known.contains(&one.tag.as_str());
        if let Some(critical) = self.properties.iter().find(unknown) {
            return Err(format!("critical property {:?} is not understood", critical.tag));
        }
        let tagged = |tag: &str| -> Vec<&Property> {
            self.properties.iter().filter(|property| property.tag == tag).collect()
        };
        let (issue, issuewild) = (tagged("issue"), tagged("issuewild"));
        let relevant = if wildcard && !issuewild.is_empty() { issuewild } else { issue };
        if relevant.is_empty() {
            return Ok(());
        }
        let mut by_method = false;
        for property in &relevant {
            let (domain, mut parameters) = property.authority();
            if !authority.iter().any(|own| own.eq_ignore_ascii_case(domain)) {
                continue;
            }
            // RFC 8657 §4.
            let allowed = parameters.find(|(key, _)| *key == "validationmethods");
            match allowed {
                Some((_, allowed))
                    if !allowed.split(',').any(|one| methods.contains(&one.trim())) =>
                {
                    by_method = true;
                }
                _ => return Ok(()),
            }
        }
        let values: Vec<&str> = relevant.iter().map(|property| property.value.as_str()).collect();
        let values = values.join("\", \"");
        Err(if by_method {
            format!("none of the challenge types in use is allowed (\"{values}\")")
        } else {
            format!("only others may issue (\"{values}\")")
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::{Property, Relevant, relevant};

    fn set(properties: &[(bool, &str, &str)]) -> Relevant {
        let one = |(critical, tag, value): &(bool, &str, &str)| Property {
            critical: *critical,
            tag: (*tag).to_owned(),
            value: (*value).to_owned(),
        };
        Relevant { domain: "x".into(), properties: properties.iter().map(one).collect() }
    }

    #[test]
    fn who_may_issue() {
        let ca = ["ca.test"];
        let may = |set: &Relevant, wildcard| set.allows(wildcard, &ca, &["http-01"]).is_ok();
        assert!(may(&Relevant::default(), true));
        assert!(may(&set(&[(false, "iodef", "mailto:x")]), false));
        assert!(may(
            &set(&[(true, "issue", "other.test"), (false, "issue", "CA.test; a=b")]),
            false
        ));
        assert!(!may(&set(&[(false, "issue", ";")]), false));
        let wild = set(&[(false, "issue", "ca.test"), (false, "issuewild", ";")]);
        assert!(may(&wild, false) && !may(&wild, true));
        let wild = set(&[(false, "issue", ";"), (false, "issuewild", "ca.test")]);
        assert!(!may(&wild, false) && may(&wild, true));
        assert!(!may(&set(&[(true, "future", "x")]), false));
        assert!(may(&set(&[(false, "future", "x")]), false));
        let method = set(&[(false, "issue", "ca.test; validationmethods=dns-01")]);
        assert!(!may(&method, false));
        let method = set(&[(false, "issue", "ca.test; validationmethods=dns-01,http-01")]);
        assert!(may(&method, false));
    }

    /// A server that has a record at `a.test` alone.
    async fn server() -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((read, from)) = socket.recv_from(&mut buffer).await {
                let asked = &buffer[..read];
                let end = 12 + asked[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
                let found = asked[12..].starts_with(b"\x01a\x04test\0");
                let broken = asked[12..].starts_with(b"\x06broken");
                let mut out = asked[..2].to_vec();
                out.extend([
                    0x81,
                    0x80 + 2 * u8::from(broken),
                    0,
                    1,
                    0,
                    u8::from(found),
                    0,
                    0,
                    0,
                    0,
                ]);
                out.extend(&asked[12..end]);
                if found {
                    let data = b"\x00\x05issueca.test";
                    out.extend([0xc0, 12, 1, 1, 0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
                    out.extend(data);
                }
                socket.send_to(&out, from).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn the_tree_is_climbed() {
        let servers = [server().await];
        let found = relevant("*.x.y.A.test", &servers).await.unwrap();
        assert_eq!(found.domain, "a.test");
        assert_eq!(found.properties, set(&[(false, "issue", "ca.test")]).properties);
        assert_eq!(relevant("b.test", &servers).await.unwrap(), Relevant::default());
        assert!(relevant("broken", &servers).await.is_err());
        assert!(Property::parse(b"\x00\x09issue").is_none() && Property::parse(b"").is_none());
    }
}
