//! IP addresses and CIDR ranges, with a zone for IPv6.
//!
//! Text: `192.0.2.1`, `10.0.0.0/8`, `fe80::/10%eth0`, and `private_ranges` for the list of them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What `private_ranges` stands for.
pub const fn private_ranges() -> &'static [&'static str] {
    &["192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "127.0.0.1/8", "fd00::/8", "::1"]
}

/// One range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpRange {
    address: IpAddr,
    prefix: u8,
    base: u128,
    mask: u128,
    zone: Option<Box<str>>,
}

impl IpRange {
    /// Reads an address or a CIDR range, with or without `%zone`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (range, zone) = match text.split_once('%') {
            Some((range, zone)) if !zone.contains('/') => (range.to_owned(), Some(zone)),
            // The zone may stand before the prefix length: `fe80::%eth0/10`.
            Some((address, rest)) => {
                let (zone, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                (format!("{address}/{prefix}"), Some(zone))
            }
            None => (text.to_owned(), None),
        };
        let (address, prefix) = match range.split_once('/') {
            Some((address, digits)) => prefix_of(address, digits, &range)
                .map_err(|why| format!("parsing CIDR expression '{text}': {why}"))?,
            None => {
                let address = address_of(&range)
                    .map_err(|why| format!("invalid IP address: '{text}': {why}"))?;
                (address, if address.is_ipv4() { 32 } else { 128 })
            }
        };
        let zone = zone.filter(|zone| !zone.is_empty()).map(Into::into);
        Ok(Self::new(address, prefix, zone))
    }

    fn new(address: IpAddr, prefix: u8, zone: Option<Box<str>>) -> Self {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let ones = u128::MAX >> (128 - bits);
        let mask = match bits - u32::from(prefix) {
            128 => 0,
            host => (ones >> host) << host,
        };
        let base = number(address) & mask;
        Self { address, prefix, base, mask, zone }
    }

    /// Whether the address is in the range; an IPv4-mapped IPv6 address counts as IPv4. The zone
    /// is not looked at.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && number(address) & self.mask == self.base
    }

    /// [`Self::contains`], and the zone agrees if the range has one.
    pub fn contains_zone(&self, address: IpAddr, zone: &str) -> bool {
        self.contains(address) && self.zone.as_deref().is_none_or(|own| own == zone)
    }

    /// The zone, if the range has one.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Bits that are fixed.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }
}

fn address_of(text: &str) -> Result<IpAddr, String> {
    IpAddr::from_str(text).map_err(|_| format!("ParseAddr({text:?}): unable to parse IP"))
}

/// Address and prefix length, with the sentences of Go's `netip`.
fn prefix_of(address: &str, digits: &str, range: &str) -> Result<(IpAddr, u8), String> {
    let wrong = |why: String| format!("netip.ParsePrefix({range:?}): {why}");
    let address = address_of(address).map_err(wrong)?;
    if !is_canonical(digits) {
        return Err(wrong(format!("bad bits after slash: {digits:?}")));
    }
    let bits = if address.is_ipv4() { 32 } else { 128 };
    match digits.parse::<u8>() {
        Ok(prefix) if prefix <= bits => Ok((address, prefix)),
        _ => Err(wrong("prefix length out of range".to_owned())),
    }
}

fn is_canonical(digits: &str) -> bool {
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits.len() == 1 || !digits.starts_with('0'))
}

#[inline]
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl FromStr for IpRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)?;
        match &self.zone {
            Some(zone) => write!(f, "%{zone}"),
            None => Ok(()),
        }
    }
}

/// Several ranges, by family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpRanges {
    v4: Vec<IpRange>,
    v6: Vec<IpRange>,
}

impl IpRanges {
    /// Reads a list; `private_ranges` in it stands for [`private_ranges`].
    pub fn parse<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Result<Self, String> {
        let mut ranges = Self::default();
        for text in texts {
            match text.as_ref() {
                "private_ranges" => {
                    for text in private_ranges() {
                        ranges.push(IpRange::parse(text)?);
                    }
                }
                text => ranges.push(IpRange::parse(text)?),
            }
        }
        Ok(ranges)
    }

    /// Adds a range.
    pub fn push(&mut self, range: IpRange) {
        if range.address.is_ipv4() {
            self.v4.push(range);
        } else {
            self.v6.push(range);
        }
    }

    /// Whether there are no ranges.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether some range has the address; zones are not looked at.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let value = number(address);
        let ranges = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        ranges.iter().any(|range| value & range.mask == range.base)
    }

    /// [`Self::contains`] where a range with a zone asks for that zone.
    pub fn contains_zone(&self, address: IpAddr, zone: &str) -> bool {
        let ranges = if address.to_canonical().is_ipv4() { &self.v4 } else { &self.v6 };
        ranges.iter().any(|range| range.contains_zone(address, zone))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{IpRange, IpRanges, private_ranges};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_hold_addresses() {
        for (range, inside, outside) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::a00:1"),
            ("0.0.0.0/0", "255.1.1.1", "::1"),
            ("::/0", "fe80::1", "1.2.3.4"),
        ] {
            let range = IpRange::parse(range).unwrap();
            assert!(range.contains(ip(inside)), "{range} {inside}");
            assert!(!range.contains(ip(outside)), "{range} {outside}");
        }
    }

    #[test]
    fn zones() {
        for text in ["fe80::/10%eth0", "fe80::%eth0/10"] {
            let range = IpRange::parse(text).unwrap();
            assert_eq!(range.zone(), Some("eth0"));
            assert!(range.contains_zone(ip("fe80::1"), "eth0"));
            assert!(!range.contains_zone(ip("fe80::1"), "eth1"));
        }
        assert!(IpRange::parse("fe80::1").unwrap().contains_zone(ip("fe80::1"), "eth1"));
    }

    #[test]
    fn wrong_texts() {
        for text in [
            "",
            "x",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "1.2.3/8",
            "%",
            "/",
            "1.2.3.4/",
        ] {
            assert!(IpRange::parse(text).is_err(), "{text}");
        }
        assert_eq!(
            IpRange::parse("x").unwrap_err(),
            "invalid IP address: 'x': ParseAddr(\"x\"): unable to parse IP"
        );
        assert_eq!(
            IpRange::parse("10.0.0.0/08").unwrap_err(),
            "parsing CIDR expression '10.0.0.0/08': netip.ParsePrefix(\"10.0.0.0/08\"): bad bits after slash: \"08\""
        );
    }

    #[test]
    fn lists() {
        let ranges = IpRanges::parse(["private_ranges", "203.0.113.0/24"]).unwrap();
        for inside in
            ["127.0.0.1", "192.168.3.4", "203.0.113.9", "::1", "fd12::1", "::ffff:10.0.0.1"]
        {
            assert!(ranges.contains(ip(inside)), "{inside}");
            assert!(ranges.contains_zone(ip(inside), ""), "{inside}");
        }
        assert!(!ranges.contains(ip("8.8.8.8")));
        assert_eq!(private_ranges().len(), 6);
    }
}
