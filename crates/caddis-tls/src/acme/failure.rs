//! Why an authority gave no certificate, and what follows for the next attempt.

use std::{borrow::Cow, fmt, io, time::Duration};

use caddis_core::error::plain_text;
use instant_acme::Problem;

use super::challenges::Kind;
use crate::storage;

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Failure {
    /// What happened.
    pub(crate) message: String,
    /// The next attempt must not come before this time.
    pub(crate) at_least: Duration,
    /// The storage did not work; nobody outside was asked for the certificate.
    pub(crate) storage: bool,
    /// What somebody may do about it; empty where that is not known.
    pub(crate) remedy: Cow<'static, str>,
    /// The account is not known to the authority.
    pub(super) no_account: bool,
    /// The name was not shown to be ours by this challenge.
    pub(super) refused: bool,
    /// The authority does not want the order to name the certificate that it replaces.
    pub(super) bad_replaces: bool,
}

/// Where an authority limits us without saying for how long.
const RATE_LIMITED: Duration = Duration::from_secs(15 * 60);
/// No authority makes us wait longer than this.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

impl Failure {
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self { message: plain_text(message.to_string()), ..Self::default() }
    }

    /// The storage answered with an error while this was done.
    pub(crate) fn of_storage(what: &str, error: &io::Error) -> Self {
        let remedy = Cow::Borrowed(storage::remedy(error.kind()));
        Self { storage: true, remedy, ..Self::new(format!("{what}: {error}")) }
    }

    /// The same with what may be done about it.
    pub(crate) fn remedied(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = remedy.into();
        self
    }

    pub(super) fn refused(message: impl fmt::Display) -> Self {
        Self { refused: true, ..Self::new(message) }
    }

    /// The name was not shown to be ours by a challenge, for a reason that the authority told.
    pub(super) fn refused_for(problem: &Problem, kind: Kind) -> Self {
        let this = Self { refused: true, ..Self::for_problem(problem, None) };
        let unseen = ["dns", "unauthorized", "incorrectResponse"];
        if kind == Kind::Dns01 && unseen.iter().any(|one| is(problem, one)) {
            return this.remedied(UNSEEN);
        }
        this
    }

    pub(crate) fn while_doing(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// From the client's error; `retry_after` is what the last limiting answer said.
    pub(super) fn of(error: &instant_acme::Error, retry_after: Option<Duration>) -> Self {
        let instant_acme::Error::Api(problem) = error else {
            let remedy = match error {
                _ if is_about_time(&error.to_string()) => WRONG_TIME,
                instant_acme::Error::Other(_) | instant_acme::Error::Http(_) => UNREACHABLE,
                instant_acme::Error::Json(_) | instant_acme::Error::Str(_) => AMISS,
                _ => "",
            };
            let at_least = capped(retry_after);
            return Self { at_least, ..Self::new(error) }.remedied(remedy);
        };
        Self::for_problem(problem, retry_after)
    }

    /// From what an authority told.
    pub(super) fn for_problem(problem: &Problem, retry_after: Option<Duration>) -> Self {
        let limited = is(problem, "rateLimited") || problem.status == Some(429);
        let replaces = problem.detail.as_deref().is_some_and(|text| text.contains("replace"));
        Self {
            message: describe(problem),
            at_least: match (limited, retry_after) {
                (_, Some(_)) => capped(retry_after),
                (true, None) => RATE_LIMITED,
                (false, None) => Duration::ZERO,
            },
            storage: false,
            remedy: remedy(problem).into(),
            no_account: is(problem, "accountDoesNotExist"),
            refused: false,
            bad_replaces: is(problem, "alreadyReplaced") || replaces,
        }
    }
}

/// What may be done where an authority's answers make no sense.
pub(crate) const AMISS: &str = "this is no answer of a sound authority: see whether its URL is \
    right and who may answer in its place (a proxy, a portal); it is asked again by itself";
/// What may be done where an authority does not answer.
pub(super) const UNREACHABLE: &str = "see whether this machine reaches the authority (its DNS, \
    firewall and proxy) and whether the authority is up; it is asked again by itself";

/// What may be done where the authority's own certificate seems to be of another time.
const WRONG_TIME: &str = "see whether the clock of this machine is right (`date`), and let it be set \
    by NTP; else the authority's own certificate is over; it is asked again by itself";
/// What may be done where an authority does not see the record of a DNS challenge.
const UNSEEN: &str = "let the whole world see the record `_acme-challenge` of the name: look at the \
    provider's account and zone, and give the record time by `propagation_delay`";

/// Whether TLS failed by a certificate that is not valid yet, or not any more.
fn is_about_time(text: &str) -> bool {
    ["certificate not valid yet", "certificate expired"].iter().any(|what| text.contains(what))
}

/// What may be done about a problem, by its type (RFC 8555 §6.7).
fn remedy(problem: &Problem) -> &'static str {
    let kind = problem.r#type.as_deref().and_then(|text| text.rsplit(':').next());
    match kind.unwrap_or_default() {
        "dns" => {
            "let DNS records of the name lead to this server; `caddis certs check NAME` looks at them"
        }
        "connection" | "tls" | "unauthorized" | "incorrectResponse" => {
            "the authority has to reach this server by that name on ports 80 and 443, past \
             firewalls, routers and proxies in front; `caddis certs check NAME` looks at DNS and ports"
        }
        "caa" => "let a CAA record of the name allow this authority",
        "rateLimited" => {
            "wait: it is tried again by itself when the authority allows it; see its rate limits"
        }
        "rejectedIdentifier" | "unsupportedIdentifier" => {
            "this authority gives nothing for such names: use another issuer, or `tls internal`"
        }
        "externalAccountRequired" => "set the authority's key by the option `acme_eab`",
        "invalidContact" | "unsupportedContact" => {
            "set the option `email` to an address that exists"
        }
        "userActionRequired" => "agree to the authority's terms where it says so",
        "badCSR" | "badPublicKey" => "the authority wants another kind of key: set `key_type`",
        "" | "badNonce" | "serverInternal" | "orderNotReady" => {
            "this is the authority's own trouble; it is asked again by itself"
        }
        _ => "",
    }
}

fn capped(wait: Option<Duration>) -> Duration {
    wait.unwrap_or_default().min(MAX_WAIT)
}

/// Whether a problem is of an ACME type.
pub(super) fn is(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|text| text.rsplit(':').next()) == Some(kind)
}

/// A problem as one line: `HTTP 400 urn:… - detail`.
pub(super) fn describe(problem: &Problem) -> String {
    let mut out = String::new();
    if let Some(status) = problem.status {
        out.push_str(&format!("HTTP {status} "));
    }
    out.push_str(problem.r#type.as_deref().unwrap_or("unknown problem"));
    if let Some(detail) = &problem.detail {
        out.push_str(" - ");
        out.push_str(detail);
    }
    for sub in &problem.subproblems {
        out.push_str("; ");
        out.push_str(sub.detail.as_deref().unwrap_or_default());
    }
    out
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Self {
        Self::new(error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::challenges::Kind, Failure};

    fn failure(json: &str, retry_after: Option<u64>) -> Failure {
        let problem = serde_json::from_str::<instant_acme::Problem>(json).unwrap();
        let retry_after = retry_after.map(Duration::from_secs);
        Failure::of(&instant_acme::Error::Api(problem), retry_after)
    }

    #[test]
    fn limits_are_kept() {
        let limited = r#"{"type":"urn:ietf:params:acme:error:rateLimited","status":429}"#;
        assert_eq!(failure(limited, None).at_least, Duration::from_secs(900));
        assert_eq!(failure(limited, Some(3_600)).at_least, Duration::from_secs(3_600));
        assert_eq!(failure(limited, Some(u64::MAX)).at_least, Duration::from_secs(86_400));
        let other = r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"no","status":400}"#;
        let other = failure(other, None);
        assert_eq!(other.message, "HTTP 400 urn:ietf:params:acme:error:malformed - no");
        assert_eq!(other.at_least, Duration::ZERO);
        let gone = r#"{"type":"urn:ietf:params:acme:error:accountDoesNotExist"}"#;
        assert!(failure(gone, None).no_account);
        let caa = failure(r#"{"type":"urn:ietf:params:acme:error:caa","status":403}"#, None);
        assert!(caa.remedy.contains("CAA record"), "{}", caa.remedy);
    }

    #[test]
    fn remedies_are_of_the_challenge() {
        let json = r#"{"type":"urn:ietf:params:acme:error:unauthorized","status":403}"#;
        let problem = serde_json::from_str::<instant_acme::Problem>(json).unwrap();
        let dns = Failure::refused_for(&problem, Kind::Dns01);
        assert!(dns.remedy.contains("_acme-challenge"), "{}", dns.remedy);
        let http = Failure::refused_for(&problem, Kind::Http01);
        assert!(http.remedy.contains("ports 80 and 443"), "{}", http.remedy);
    }

    #[test]
    fn a_clock_that_is_wrong_is_told() {
        for (text, remedy) in [
            ("invalid peer certificate: certificate not valid yet: verification time 1", "`date`"),
            ("invalid peer certificate: certificate expired: verification time 1", "`date`"),
            ("invalid peer certificate: UnknownIssuer", "reaches the authority"),
        ] {
            let failure = Failure::of(&instant_acme::Error::Other(text.into()), None);
            assert!(failure.remedy.contains(remedy), "{text}: {}", failure.remedy);
        }
    }
}
