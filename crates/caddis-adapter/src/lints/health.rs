//! `health-timeout`: checks that begin before the one before has timed out.

use serde_json::Value as Json;

use super::subject::Subject;
use super::{Findings, Lint};

pub(super) static HEALTH_TIMEOUT: Lint = Lint {
    code: "health-timeout",
    summary: "a health check interval that is shorter than the timeout",
    explanation: "\
A health check is sent each `health_interval` (30s) and given up after `health_timeout` (5s). With an
interval below the timeout, several checks wait for a backend that hangs, and it is found out later
than the interval suggests. Make the timeout smaller than the interval.",
    run,
};

pub(super) const SECOND: i64 = 1_000_000_000;

fn run(subject: &Subject<'_>, findings: &mut Findings) {
    subject.each_handler(&mut |handler| {
        let (Some(checks), Some(place)) =
            (handler.json.pointer("/health_checks/active"), handler.place)
        else {
            return;
        };
        let of = |name: &str, default: i64| {
            checks.get(name).and_then(Json::as_i64).filter(|value| *value > 0).unwrap_or(default)
        };
        let (interval, timeout) = (of("interval", 30 * SECOND), of("timeout", 5 * SECOND));
        if interval >= timeout {
            return;
        }
        let shown = |nanos: i64| caddis_config::Duration::from_nanos(nanos).to_string();
        let message = format!(
            "health checks every {}, each given up only after {}",
            shown(interval),
            shown(timeout)
        );
        let at = subject.token_in(place, "health_interval");
        let other = subject.token_in(place, "health_timeout");
        let finding = findings.add(&at, message, "shorter than the timeout");
        if other.span != place.token.span {
            finding.labels.push((other.span, "the timeout".into()));
        }
        finding.help = Some(format!("set `health_timeout` below {}", shown(interval)));
    });
}
