//! The exporter of one signal as the environment has it: `OTEL_<SIGNAL>_EXPORTER` and
//! `OTEL_EXPORTER_OTLP_*`, where `OTEL_EXPORTER_OTLP_<SIGNAL>_*` wins.

use std::{path::Path, time::Duration};

use caddis_dns::http::{ClientCertificate, client_certificate};
use http::{HeaderName, HeaderValue, Uri, uri::Scheme};
use percent_encoding::percent_decode_str;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Where settings come from; the process' environment, or what a test has.
pub struct Env<'a>(Lookup<'a>);

type Lookup<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

impl<'a> Env<'a> {
    /// The environment of the process.
    pub fn of_process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    /// Values by a function.
    pub fn new(get: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self(Box::new(get))
    }

    /// A variable that is set and not empty, without the spaces around it.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let value = (self.0)(name)?;
        let trimmed = value.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }

    /// A whole number; what is none is told and not used.
    pub(crate) fn number(&self, name: &str, warnings: &mut Vec<String>) -> Option<i64> {
        let text = self.text(name)?;
        let number = text.parse().ok();
        if number.is_none() {
            warnings.push(format!("{name}: \"{text}\" is no whole number"));
        }
        number
    }

    /// Milliseconds; 0 and what is none leave the default.
    pub(crate) fn millis(
        &self,
        name: &str,
        default: Duration,
        warnings: &mut Vec<String>,
    ) -> Duration {
        match self.number(name, warnings) {
            Some(millis) if millis > 0 => Duration::from_millis(millis.unsigned_abs()),
            _ => default,
        }
    }
}

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    fn word(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

/// Where data goes.
#[derive(Debug)]
pub(crate) enum Exporter {
    /// Nowhere.
    None,
    /// To standard output, as JSON.
    Console,
    /// To a collector.
    Otlp(Otlp),
}

/// How a collector is reached.
#[derive(Debug)]
pub(crate) struct Otlp {
    pub(crate) grpc: bool,
    /// Absolute, with the path to post to.
    pub(crate) uri: Uri,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) gzip: bool,
    /// For one attempt.
    pub(crate) timeout: Duration,
    pub(crate) roots: Option<Vec<CertificateDer<'static>>>,
    pub(crate) certificate: Option<ClientCertificate>,
}

/// For one attempt, if the environment says nothing.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Exporter {
    /// Reads the settings of a signal. What is wrong in a detail is told and left out, as the SDK
    /// does it.
    ///
    /// # Errors
    /// An exporter or a protocol that is unknown, in the SDK's words; the path of an endpoint that
    /// is none.
    pub(crate) fn from_env(
        signal: Signal,
        env: &Env<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, String> {
        let name = format!("OTEL_{}_EXPORTER", signal.word());
        match env.text(&name).as_deref() {
            None | Some("otlp") => Otlp::from_env(signal, env, warnings).map(Self::Otlp),
            Some("console") => Ok(Self::Console),
            Some("none") => Ok(Self::None),
            Some(other) => Err(format!(
                "unknown exporter or metrics producer \"{other}\" in {name}: use otlp, console or none"
            )),
        }
    }
}

impl Otlp {
    fn from_env(signal: Signal, env: &Env<'_>, warnings: &mut Vec<String>) -> Result<Self, String> {
        let named = |what: &str| {
            let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.word());
            let common = format!("OTEL_EXPORTER_OTLP_{what}");
            let found = |name: String| env.text(&name).map(|value| (name, value));
            found(own).or_else(|| found(common))
        };
        let grpc = match named("PROTOCOL").as_ref().map(|(name, value)| (name, value.as_str())) {
            None | Some((_, "http/protobuf")) => false,
            Some((_, "grpc")) => true,
            Some((name, other)) => {
                return Err(format!(
                    "invalid OTLP protocol \"{other}\" in {name} - should be one of ['grpc', 'http/protobuf']"
                ));
            }
        };
        let insecure = named("INSECURE").map(|(_, value)| value.eq_ignore_ascii_case("true"));
        let uri = endpoint(signal, grpc, insecure, env, warnings)?;
        let mut headers = Vec::new();
        // Those of the signal replace the common ones as a whole.
        if let Some((name, value)) = named("HEADERS") {
            for pair in value.split(',').filter(|pair| !pair.trim().is_empty()) {
                match header(pair, grpc) {
                    Some(header) => headers.push(header),
                    // Values are often secrets.
                    None => {
                        let key = pair.split('=').next().unwrap_or_default();
                        warnings.push(format!("{name}: \"{key}\" is no valid header"));
                    }
                }
            }
        }
        let mut timeout = TIMEOUT;
        if let Some((name, _)) = named("TIMEOUT") {
            timeout = env.millis(&name, TIMEOUT, warnings);
        }
        let mut read = |what: &str| {
            let (name, file) = named(what)?;
            let read = std::fs::read(Path::new(&file));
            let read =
                read.map_err(|error| warnings.push(format!("{name}: {file}: {error}"))).ok()?;
            Some((name, file, read))
        };
        let (authorities, chain, key) =
            (read("CERTIFICATE"), read("CLIENT_CERTIFICATE"), read("CLIENT_KEY"));
        let mut told = |(name, file): (&str, &str), what: &str| {
            warnings.push(format!("{name}: {file} holds no {what}"));
        };
        let roots = authorities.and_then(|(name, file, pem)| {
            let roots = certificates(&pem);
            if roots.is_empty() {
                told((&name, &file), "certificate");
            }
            (!roots.is_empty()).then_some(roots)
        });
        let certificate = chain.zip(key).and_then(|(chain, key)| {
            let certificates = certificates(&chain.2);
            if certificates.is_empty() {
                told((&chain.0, &chain.1), "certificate");
                return None;
            }
            let private = PrivateKeyDer::from_pem_slice(&key.2).ok();
            let found = private.and_then(|key| client_certificate(certificates, key).ok());
            if found.is_none() {
                told((&key.0, &key.1), "private key");
            }
            found
        });
        let gzip = named("COMPRESSION").is_some_and(|(_, value)| value == "gzip");
        Ok(Self { grpc, uri, headers, gzip, timeout, roots, certificate })
    }
}

/// The URL to post to. Without settings it is the collector of this machine, over TLS, as in the
/// SDK.
fn endpoint(
    signal: Signal,
    grpc: bool,
    insecure: Option<bool>,
    env: &Env<'_>,
    warnings: &mut Vec<String>,
) -> Result<Uri, String> {
    let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.word());
    let common = "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned();
    let mut read = |name: &String| {
        let text = env.text(name)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            warnings.push(format!("{name}: \"{text}\" is no URL with http or https"));
        }
        Some((parsed?, text))
    };
    // The signal's own is taken as it is; below the common one each signal has its path.
    let (found, as_it_is) = match read(&own) {
        Some(found) => (Some(found), true),
        None => (read(&common), false),
    };
    let default = if grpc { "localhost:4317" } else { "localhost:4318" };
    let mut tls = true;
    let mut authority = default.to_owned();
    let mut path = if grpc { signal.method() } else { signal.path() }.to_owned();
    if let Some((uri, _)) = found {
        tls = uri.scheme() != Some(&Scheme::HTTP);
        authority = uri.authority().map_or(authority, ToString::to_string);
        if !grpc {
            let given = uri.path();
            path = if as_it_is {
                given.to_owned()
            } else {
                format!("{}{}", given.trim_end_matches('/'), signal.path())
            };
        }
    }
    if let Some(insecure) = insecure {
        tls = !insecure;
    }
    let scheme = if tls { "https" } else { "http" };
    let text = format!("{scheme}://{authority}{path}");
    text.parse().map_err(|error| format!("OTLP endpoint \"{text}\": {error}"))
}

/// A URL with a scheme that is spoken here; a bare `host:port` is one over TLS.
fn parse(text: &str) -> Option<Uri> {
    let lower = text.to_ascii_lowercase();
    let text = if lower.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let uri: Uri = text.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    (known && uri.host().is_some_and(|host| !host.is_empty())).then_some(uri)
}

/// `name=value`, the value percent-encoded. Over gRPC names are in lower case, which they are here
/// anyway, and `-bin` values would be binary, which a text cannot give.
fn header(pair: &str, grpc: bool) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = pair.split_once('=')?;
    let name: HeaderName = name.trim().parse().ok()?;
    if grpc && name.as_str().ends_with("-bin") {
        return None;
    }
    let mut value = HeaderValue::try_from(percent_decoded(value)?.trim()).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// A text without its percent-encoding; `None` where that is broken.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    parts.next();
    let two_digits = |part: &str| {
        let digits = part.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !parts.all(two_digits) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned())
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::{Exporter, Otlp, Signal};
    use crate::testing::env;

    fn read(vars: &[(&str, &str)]) -> (Result<Exporter, String>, Vec<String>) {
        let vars = env(vars);
        let mut warnings = Vec::new();
        (Exporter::from_env(Signal::Traces, &vars.env(), &mut warnings), warnings)
    }

    fn otlp(vars: &[(&str, &str)]) -> Otlp {
        match read(vars) {
            (Ok(Exporter::Otlp(otlp)), warnings) if warnings.is_empty() => otlp,
            other => panic!("{other:?}"),
        }
    }

    const END: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

    #[test]
    fn endpoints() {
        let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        for (vars, want) in [
            (&[][..], "https://localhost:4318/v1/traces".to_owned()),
            (&[GRPC], format!("https://localhost:4317{METHOD}")),
            (&[(END, "http://h:1")], "http://h:1/v1/traces".to_owned()),
            (&[(END, "https://h/base/")], "https://h/base/v1/traces".to_owned()),
            (&[(END, "http://h:1"), (own, "http://o:2")], "http://o:2/".to_owned()),
            (&[(own, "http://o:2/x?y=1")], "http://o:2/x".to_owned()),
            (&[(END, "http://h:1/path"), GRPC], format!("http://h:1{METHOD}")),
            (&[(END, "h:1"), GRPC], format!("https://h:1{METHOD}")),
            (
                &[(END, "h:1"), GRPC, ("OTEL_EXPORTER_OTLP_INSECURE", "TRUE")],
                format!("http://h:1{METHOD}"),
            ),
            (
                &[("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true")],
                "http://localhost:4318/v1/traces".into(),
            ),
        ] {
            assert_eq!(otlp(vars).uri.to_string(), want, "{vars:?}");
        }
    }

    #[test]
    fn details() {
        let otlp = otlp(&[
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "Authorization=Basic%20xyz, b = c=d"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ]);
        let text = |(name, value): &(http::HeaderName, http::HeaderValue)| {
            format!("{name}={}", value.to_str().unwrap())
        };
        let headers: Vec<_> = otlp.headers.iter().map(text).collect();
        assert_eq!(headers, ["authorization=Basic xyz", "b=c=d"]);
        assert!(otlp.gzip);
        assert_eq!(otlp.timeout.as_millis(), 2500);
    }

    #[test]
    fn what_is_wrong() {
        assert!(
            read(&[("OTEL_TRACES_EXPORTER", "zipkin")]).0.unwrap_err().contains("unknown exporter")
        );
        let bad = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
        assert!(read(&[bad]).0.unwrap_err().starts_with("invalid OTLP protocol"));
        assert!(matches!(read(&[("OTEL_TRACES_EXPORTER", "none")]).0, Ok(Exporter::None)));
        let (_, warnings) = read(&[
            (END, "ftp://x"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "bad name=secret,x=%zz"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/does/not/exist"),
        ]);
        assert_eq!(warnings.len(), 5, "{warnings:?}");
        assert!(warnings.iter().all(|text| !text.contains("secret")), "{warnings:?}");
    }
}
