//! Look-ups that the system's resolver cannot do: SRV records, and names asked of DNS servers that
//! the config names.

use std::{net::IpAddr, sync::Arc};

use caddis_config::{ConfigError, NetworkAddress};
use caddis_dns::query::{self, A, AAAA, Record};

use crate::transport::http::ResolverConfig;

/// Record type SRV.
const SRV: u16 = 33;
/// The response code for a name that does not exist.
const NO_SUCH_NAME: u8 = 3;

/// DNS servers to ask.
#[derive(Debug, Clone)]
pub(crate) struct Resolver(Arc<[String]>);

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    priority: u16,
    weight: u16,
    /// The port.
    pub(crate) port: u16,
    /// The host.
    pub(crate) target: String,
}

impl Resolver {
    /// The servers of a config.
    ///
    /// # Errors
    /// None, or one that is no address.
    pub(crate) fn compile(config: &ResolverConfig) -> Result<Self, ConfigError> {
        let wrong = |why: String| ConfigError::new("addresses", why);
        if config.addresses.is_empty() {
            return Err(wrong("no upstream addresses configured".to_owned()));
        }
        let mut servers = Vec::with_capacity(config.addresses.len());
        for text in &config.addresses {
            let address = NetworkAddress::parse(text).map_err(wrong)?;
            let port = if address.start_port == 0 { 53 } else { address.start_port };
            servers.push(caddis_config::value::join_host_port(&address.host, &port.to_string()));
        }
        Ok(Self(servers.into()))
    }

    /// The system's servers.
    pub(crate) async fn system() -> Self {
        let read = tokio::task::spawn_blocking(|| query::resolvers(&[])).await;
        Self(read.unwrap_or_default().into())
    }

    /// Starts with any of the servers.
    fn servers(&self) -> Vec<String> {
        let mut servers = self.0.to_vec();
        fastrand::shuffle(&mut servers);
        servers
    }

    /// The addresses of a name.
    pub(crate) async fn addresses(
        &self,
        host: &str,
        v4: bool,
        v6: bool,
    ) -> Result<Vec<IpAddr>, String> {
        let servers = self.servers();
        let ask = async |wanted: bool, kind: u16| match wanted {
            true => query::ask_any(&servers, host, kind).await.map(|answer| answer.answers),
            false => Ok(Vec::new()),
        };
        let (four, six) = tokio::join!(ask(v4, A), ask(v6, AAAA));
        let failed = match (&four, &six) {
            (Err(error), _) | (_, Err(error)) => Some(format!("lookup {host}: {error}")),
            _ => None,
        };
        let records = [four, six].into_iter().filter_map(Result::ok).flatten();
        let found: Vec<IpAddr> = records.filter_map(|record| address(&record)).collect();
        match (found.is_empty(), failed) {
            (false, _) => Ok(found),
            (true, Some(error)) => Err(error),
            (true, None) => Err(format!("lookup {host}: no such host")),
        }
    }

    /// The services of a name, in the order in which they are to be used.
    pub(crate) async fn services(&self, name: &str) -> Result<Vec<Service>, String> {
        let answer = query::ask_any(&self.servers(), name, SRV)
            .await
            .map_err(|error| format!("lookup {name}: {error}"))?;
        if answer.code == NO_SUCH_NAME {
            return Err(format!("lookup {name}: no such host"));
        }
        let mut found: Vec<Service> = answer.answers.iter().filter_map(service).collect();
        if found.is_empty() {
            return Err(format!("lookup {name}: no such host"));
        }
        order(&mut found);
        Ok(found)
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    match record.kind {
        A => <[u8; 4]>::try_from(&*record.data).ok().map(IpAddr::from),
        AAAA => <[u8; 16]>::try_from(&*record.data).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The data of an SRV record; its target is never compressed (RFC 2782).
fn service(record: &Record) -> Option<Service> {
    if record.kind != SRV {
        return None;
    }
    let (fixed, mut rest) = record.data.split_first_chunk::<6>()?;
    let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let mut labels = Vec::new();
    loop {
        let (length, after) = rest.split_first()?;
        if *length == 0 {
            break;
        }
        let label = after.get(..usize::from(*length)).filter(|_| *length < 64)?;
        labels.push(std::str::from_utf8(label).ok()?);
        rest = &after[label.len()..];
    }
    // A single dot says that there is no such service.
    let target = Some(labels.join(".")).filter(|target| !target.is_empty())?;
    Some(Service { priority: number(0), weight: number(2), port: number(4), target })
}

/// By priority; among equals at random, heavier ones more often first.
fn order(services: &mut [Service]) {
    services.sort_by_key(|service| service.priority);
    for group in services.chunk_by_mut(|one, other| one.priority == other.priority) {
        for at in 0..group.len() {
            let rest = &mut group[at..];
            let total: u64 = rest.iter().map(|service| u64::from(service.weight)).sum();
            let mut left = fastrand::u64(..=total);
            let chosen = rest.iter().position(|service| {
                let weight = u64::from(service.weight);
                let found = left <= weight;
                left = left.saturating_sub(weight);
                found
            });
            rest.swap(0, chosen.unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_services() {
        let record = |data: &[u8]| Record { kind: SRV, data: data.to_vec(), ..Record::default() };
        let found = service(&record(b"\0\x01\0\x02\x1f\x90\x01a\x04test\0")).expect("a service");
        let want = Service { priority: 1, weight: 2, port: 8080, target: "a.test".into() };
        assert_eq!(found, want);
        for bad in [&b""[..], b"\0\0\0\0\0\0", b"\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\x05ab\0"] {
            assert_eq!(service(&record(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn orders_by_priority_then_weight() {
        let make = |priority, weight, port| Service { priority, weight, port, target: "a".into() };
        let mut first = [0; 2];
        for _ in 0..200 {
            let mut all = [make(2, 0, 3), make(1, 0, 0), make(1, 100, 1)];
            order(&mut all);
            assert_eq!(all[2].port, 3);
            first[usize::from(all[0].port)] += 1;
        }
        assert!(first[1] > first[0], "{first:?}");
    }

    /// A DNS server on loopback that answers one question after the other with these records.
    fn server(records: Vec<(u16, Vec<u8>)>) -> Resolver {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = socket.local_addr().expect("bound").to_string();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                // What comes behind the question (EDNS) is not looked at.
                let name_end = buffer[12..length].iter().position(|byte| *byte == 0);
                let end = 12 + name_end.expect("a name") + 5;
                let question = &buffer[..end];
                let kind = u16::from_be_bytes([question[end - 4], question[end - 3]]);
                let found = records.iter().filter(|(of, _)| *of == kind);
                let mut answer = question.to_vec();
                answer[2..4].copy_from_slice(&[0x81, 0x80]);
                answer[6..12].fill(0);
                for (count, (kind, data)) in found.enumerate() {
                    answer[7] = count as u8 + 1;
                    answer.extend([0xc0, 12]);
                    answer.extend(kind.to_be_bytes());
                    answer.extend([0, 1, 0, 0, 0, 60]);
                    answer.extend((data.len() as u16).to_be_bytes());
                    answer.extend(data);
                }
                if socket.send_to(&answer, peer).is_err() {
                    return;
                }
            }
        });
        Resolver(vec![address].into())
    }

    #[test]
    fn asks_the_servers_it_was_given() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let resolver = server(vec![
                (A, vec![192, 0, 2, 7]),
                (SRV, b"\0\x02\0\0\0\x51\x01b\x04test\0".to_vec()),
                (SRV, b"\0\x01\0\0\0\x50\x01a\x04test\0".to_vec()),
            ]);
            let found = resolver.addresses("a.test", true, true).await.expect("found");
            assert_eq!(found, [IpAddr::from([192, 0, 2, 7])]);
            let error = resolver.addresses("a.test", false, true).await.expect_err("none");
            assert_eq!(error, "lookup a.test: no such host");
            let found = resolver.services("_x._tcp.test").await.expect("found");
            let found: Vec<_> = found.iter().map(|s| (s.target.as_str(), s.port)).collect();
            assert_eq!(found, [("a.test", 80), ("b.test", 81)]);
        });
    }

    #[test]
    fn servers_have_ports() {
        let config = |text: &str| ResolverConfig { addresses: vec![text.to_owned()] };
        let resolver = Resolver::compile(&config("udp/127.0.0.1:5353")).expect("an address");
        assert_eq!(&*resolver.0, ["127.0.0.1:5353"]);
        let resolver = Resolver::compile(&config("9.9.9.9")).expect("an address");
        assert_eq!(&*resolver.0, ["9.9.9.9:53"]);
        Resolver::compile(&ResolverConfig { addresses: Vec::new() }).expect_err("none");
    }
}
