//! `Accept-Encoding`: the codings a client takes, best first.

use http::{HeaderMap, header};

/// The accepted codings by quality; of equal ones first those that the server prefers. `*` means
/// nothing here, as in Caddy.
pub(crate) fn accepted(headers: &HeaderMap, preferred: &[String]) -> Vec<String> {
    let Some(value) = headers.get(header::ACCEPT_ENCODING) else { return Vec::new() };
    let value = String::from_utf8_lossy(value.as_bytes());
    let mut found: Vec<(f32, usize, String)> = Vec::new();
    for part in value.split(',') {
        let mut fields = part.split(';');
        let name = fields.next().unwrap_or_default().trim().to_lowercase();
        let mut quality = 1.0_f32;
        for field in fields {
            let given = field.trim().strip_prefix("q=").and_then(|q| q.parse().ok());
            if let Some(given) = given.filter(|given| (0.0..=1.0).contains(given)) {
                quality = given;
            }
        }
        if quality < 0.00001 {
            continue;
        }
        let place = preferred.iter().position(|coding| *coding == name).unwrap_or(usize::MAX);
        found.push((quality, place, name));
    }
    found.sort_by(|one, two| two.0.total_cmp(&one.0).then(one.1.cmp(&two.1)));
    found.into_iter().map(|(_, _, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_codings() {
        let preferred = ["zstd".to_owned(), "br".into(), "gzip".into()];
        for (value, want) in [
            ("gzip, br, zstd", "zstd br gzip"),
            ("br;q=0.5, gzip;q=0.9", "gzip br"),
            ("gzip;q=0", ""),
            ("*", "*"),
            ("GZIP;q=2, x", "gzip x"),
            ("", ""),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().expect("value"));
            assert_eq!(accepted(&headers, &preferred).join(" ").trim(), want, "{value}");
        }
    }
}
