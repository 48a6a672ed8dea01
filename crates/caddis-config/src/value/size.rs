//! Sizes in bytes: `10MB`, `1.5GiB`, `512`.
//!
//! `kB`, `MB`, … are powers of 1000, `KiB`, `MiB`, … of 1024; case does not matter, the `B` may be
//! left out, a bare number is bytes, and commas in the number are skipped.

use std::fmt;

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl Size {
    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let number = number.replace(',', "");
        let value: f64 = number
            .parse()
            .map_err(|_| format!("strconv.ParseFloat: parsing {number:?}: invalid syntax"))?;
        let unit = unit.trim().to_lowercase();
        let scale = unit_bytes(&unit).ok_or_else(|| format!("unhandled size name: {unit}"))?;
        let bytes = value * scale as f64;
        if bytes >= u64::MAX as f64 {
            return Err(format!("too large: {text}"));
        }
        Ok(Self(bytes as u64))
    }

    /// Bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Bytes for a signed field, at most the largest.
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

fn unit_bytes(unit: &str) -> Option<u64> {
    let (power, base) = match unit {
        "" | "b" => return Some(1),
        "k" | "kb" => (1, 1000_u64),
        "m" | "mb" => (2, 1000),
        "g" | "gb" => (3, 1000),
        "t" | "tb" => (4, 1000),
        "p" | "pb" => (5, 1000),
        "e" | "eb" => (6, 1000),
        "ki" | "kib" => (1, 1024),
        "mi" | "mib" => (2, 1024),
        "gi" | "gib" => (3, 1024),
        "ti" | "tib" => (4, 1024),
        "pi" | "pib" => (5, 1024),
        "ei" | "eib" => (6, 1024),
        _ => return None,
    };
    Some(base.pow(power))
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn units() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1kB", 1000),
            ("1KB", 1000),
            ("1KiB", 1024),
            ("1.5 MB", 1_500_000),
            ("10MiB", 10_485_760),
            ("2g", 2_000_000_000),
            ("1,000", 1000),
            ("3EB", 3_000_000_000_000_000_000),
        ] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn wrong_texts() {
        assert_eq!(Size::parse("1xb").unwrap_err(), "unhandled size name: xb");
        assert!(Size::parse("MB").unwrap_err().contains("ParseFloat"));
        assert!(Size::parse("1.2.3").is_err());
        assert!(Size::parse("-1").is_err());
        assert_eq!(Size::parse("99eb").unwrap_err(), "too large: 99eb");
    }
}
