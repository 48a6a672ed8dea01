//! Prometheus' formats, and which one a client asks for.

use std::{borrow::Cow, fmt::Write as _, io::Write as _};

use bytes::Bytes;
use caddis_core::metrics::Exposition;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header};

use crate::encoders;

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    form: Form,
    gzip: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// With `escaping=allow-utf-8`; all names are plain, so it is the same text.
    Text {
        utf8: bool,
    },
    OpenMetrics {
        one: bool,
        utf8: bool,
    },
    Protobuf {
        utf8: bool,
    },
}

impl Format {
    /// What `Accept` and `Accept-Encoding` ask for, of equal qualities the first one, as in
    /// Prometheus' own handler; text where nothing is known.
    pub fn wanted(headers: &HeaderMap, open_metrics: bool) -> Self {
        let mut best: (f32, Form) = (-1.0, Form::Text { utf8: false });
        for value in headers.get_all(header::ACCEPT) {
            let value = String::from_utf8_lossy(value.as_bytes());
            for one in value.split(',') {
                if let Some(found) = asked(one, open_metrics).filter(|found| found.0 > best.0) {
                    best = found;
                }
            }
        }
        // What is not compressed counts as well, where it is named.
        let known = ["*", "identity", "gzip"].map(str::to_owned);
        let coding =
            encoders::accepted(headers, &known).into_iter().find(|one| known.contains(one));
        Self { form: best.1, gzip: coding.is_some_and(|coding| coding == "gzip") }
    }

    /// The text in this format.
    pub fn present(self, text: String) -> Exposition {
        let (kind, utf8, body) = match self.form {
            Form::Text { utf8 } => {
                ("text/plain; version=0.0.4; charset=utf-8", utf8, text.into_bytes())
            }
            Form::OpenMetrics { one, utf8 } => {
                let kind = match one {
                    true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    false => "application/openmetrics-text; version=0.0.1; charset=utf-8",
                };
                (kind, utf8, to_open_metrics(&text).into_bytes())
            }
            Form::Protobuf { utf8 } => {
                let kind = "application/vnd.google.protobuf; \
                            proto=io.prometheus.client.MetricFamily; encoding=delimited";
                (kind, utf8, caddis_otel::prometheus::delimited(&text))
            }
        };
        let escaping = if utf8 { "allow-utf-8" } else { "underscores" };
        let packed = self.gzip.then(|| gzip(&body)).flatten();
        Exposition {
            content_type: HeaderValue::try_from(format!("{kind}; escaping={escaping}"))
                .unwrap_or_else(|_| HeaderValue::from_static("text/plain; version=0.0.4")),
            encoding: packed.is_some().then(|| HeaderValue::from_static("gzip")),
            body: Bytes::from(packed.unwrap_or(body)),
        }
    }
}

/// One element of `Accept`: its quality and what it asks for.
fn asked(element: &str, open_metrics: bool) -> Option<(f32, Form)> {
    let mut fields = element.split(';').map(str::trim);
    let kind = fields.next().unwrap_or_default();
    let fields: Vec<(&str, &str)> = fields.filter_map(|field| field.split_once('=')).collect();
    let field = |name: &str| {
        let found = fields.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.trim().trim_matches('"'))
    };
    let quality = field("q").parse().unwrap_or(1.0);
    let utf8 = field("escaping") == "allow-utf-8";
    let form = match (kind, field("version")) {
        ("text/plain", "" | "0.0.4" | "1.0.0") => Form::Text { utf8 },
        ("application/openmetrics-text", version @ ("" | "0.0.1" | "1.0.0")) if open_metrics => {
            Form::OpenMetrics { one: version == "1.0.0", utf8 }
        }
        ("application/vnd.google.protobuf", _)
            if field("proto") == "io.prometheus.client.MetricFamily"
                && field("encoding") == "delimited" =>
        {
            Form::Protobuf { utf8 }
        }
        _ => return None,
    };
    Some((quality, form))
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

/// In OpenMetrics a counter's family is named without `_total`, bounds of buckets have a point, and
/// the text has an end mark.
fn to_open_metrics(text: &str) -> String {
    let counters: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix("_total counter"))
        .collect();
    let mut out = String::with_capacity(text.len() + 8);
    for line in text.lines() {
        let family = ["# HELP ", "# TYPE "].iter().find_map(|mark| {
            let (name, rest) = line.strip_prefix(mark)?.split_once(' ')?;
            let short = name.strip_suffix("_total").filter(|name| counters.contains(name))?;
            Some((mark, short, rest))
        });
        // Writing to a String cannot fail.
        let _ = match family {
            Some((mark, name, rest)) => writeln!(out, "{mark}{name} {rest}"),
            None => writeln!(out, "{}", with_point(line)),
        };
    }
    out.push_str("# EOF\n");
    out
}

/// A line with the bound of its bucket or its quantile, if it has one, written as a number with a
/// point.
fn with_point(line: &str) -> Cow<'_, str> {
    // Ours is the last label; both names end alike.
    let Some((before, rest)) = line.rsplit_once("le=\"") else { return line.into() };
    let bound = rest.split('"').next().unwrap_or_default();
    if bound.is_empty() || !bound.bytes().all(|byte| byte.is_ascii_digit()) {
        return line.into();
    }
    format!("{before}le=\"{bound}.0{}", &rest[bound.len()..]).into()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn wanted(accept: &str, encoding: &str) -> Format {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::ACCEPT, accept), (header::ACCEPT_ENCODING, encoding)] {
            if !value.is_empty() {
                headers.insert(name, value.parse().expect("a value"));
            }
        }
        Format::wanted(&headers, true)
    }

    #[test]
    fn formats_by_accept() {
        let text = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
        let proto = "application/vnd.google.protobuf; \
                     proto=io.prometheus.client.MetricFamily; encoding=delimited; \
                     escaping=underscores";
        let open = |version: &str, escaping: &str| {
            format!(
                "application/openmetrics-text; version={version}; charset=utf-8; escaping={escaping}"
            )
        };
        // What Prometheus asks for, without and with native histograms.
        let usual = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,\
            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
            encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
        for (accept, want) in [
            ("", text.to_owned()),
            ("*/*", text.to_owned()),
            ("application/json", text.to_owned()),
            (usual, open("1.0.0", "allow-utf-8")),
            (native, proto.to_owned()),
            ("application/openmetrics-text", open("0.0.1", "underscores")),
            ("application/openmetrics-text;version=9, text/plain", text.to_owned()),
            ("text/plain;q=0.9, application/openmetrics-text;q=0.2", text.to_owned()),
            ("application/openmetrics-text;q=0.5, text/plain;q=0.5", open("0.0.1", "underscores")),
            ("text/plain;q=0.5,application/openmetrics-text;q=0.5", text.to_owned()),
            ("application/vnd.google.protobuf", text.to_owned()),
        ] {
            let got = wanted(accept, "").present(String::new()).content_type;
            assert_eq!(got.to_str().expect("text"), want, "{accept}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/openmetrics-text"));
        assert_eq!(Format::wanted(&headers, false).form, Form::Text { utf8: false });
    }

    #[test]
    fn codings() {
        for (encoding, want) in [
            ("", false),
            ("gzip", true),
            ("gzip, deflate", true),
            ("zstd, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("identity, gzip", false),
            ("gzip;q=0.1, identity;q=0.5", false),
            ("*", false),
        ] {
            assert_eq!(wanted("", encoding).gzip, want, "{encoding}");
        }
        let packed = wanted("", "gzip").present("# HELP a\n".repeat(100));
        assert_eq!(packed.encoding.expect("a coding"), "gzip");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed.body[..]).read_to_string(&mut text).expect("gzip");
        assert_eq!(text, "# HELP a\n".repeat(100));
    }

    #[test]
    fn open_metrics_names() {
        let text = "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n# TYPE b gauge\nb 2\n";
        let want = "# HELP a A.\n# TYPE a counter\na_total 1\n# TYPE b gauge\nb 2\n# EOF\n";
        assert_eq!(to_open_metrics(text), want);
        let text =
            "a_bucket{x=\"1\",le=\"5\"} 1\na_bucket{le=\"0.5\"} 1\na_bucket{le=\"+Inf\"} 1\n";
        let want = "a_bucket{x=\"1\",le=\"5.0\"} 1\na_bucket{le=\"0.5\"} 1\na_bucket{le=\"+Inf\"} 1\n# EOF\n";
        assert_eq!(to_open_metrics(text), want);
        let text = "s{quantile=\"0\"} 1\ns{quantile=\"0.5\"} 2\n";
        let want = "s{quantile=\"0.0\"} 1\ns{quantile=\"0.5\"} 2\n# EOF\n";
        assert_eq!(to_open_metrics(text), want);
    }
}
