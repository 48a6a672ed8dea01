//! `health-timeout` and `health-check-off`: checks that overlap, and checks that never happen.

use serde_json::Value as Json;

use super::subject::Subject;
use super::{Findings, Lint, Run};

pub(super) static HEALTH_TIMEOUT: Lint = Lint {
    code: "health-timeout",
    summary: "a health check interval that is shorter than the timeout",
    explanation: "\
A health check is sent each `health_interval` (30s) and given up after `health_timeout` (5s). With an
interval below the timeout, several checks wait for a backend that hangs, and it is found out later
than the interval suggests. Make the timeout smaller than the interval.",
    run: Run::Directives(timeout),
};

pub(super) static HEALTH_CHECK_OFF: Lint = Lint {
    code: "health-check-off",
    summary: "settings of health checks that are off",
    explanation: "\
Active health checks are on where `health_uri` or `health_port` is given, passive ones where
`fail_duration` is; without it, the other settings (`health_interval`, `max_fails`, …) change nothing,
and a backend that is down goes on getting requests. Add what is missing.",
    run: Run::Directives(off),
};

/// Why settings of health checks have no effect.
pub(super) struct Off {
    /// `active` or `passive`.
    pub(super) kind: &'static str,
    /// A setting that changes nothing, as the JSON calls it.
    pub(super) setting: &'static str,
    /// What is missing.
    pub(super) missing: &'static str,
}

/// The health checks of a proxy that are configured and off.
pub(super) fn checks_off(proxy: &Json) -> Vec<Off> {
    let kinds = [
        ("active", ACTIVE, &["uri", "path", "port"][..], "`health_uri`"),
        ("passive", PASSIVE, &["fail_duration"][..], "`fail_duration`"),
    ];
    let mut all = Vec::new();
    for (kind, settings, switches, missing) in kinds {
        let Some(checks) = proxy.get("health_checks").and_then(|all| all.get(kind)) else {
            continue;
        };
        let is_set = |name: &&&str| {
            checks.get(**name).is_some_and(|value| !value.is_null() && *value != 0 && value != "")
        };
        if switches.iter().any(|name| is_set(&name)) {
            continue;
        }
        if let Some(setting) = settings.iter().find(is_set) {
            all.push(Off { kind, setting, missing });
        }
    }
    all
}

const ACTIVE: &[&str] = &[
    "interval",
    "timeout",
    "expect_status",
    "expect_body",
    "passes",
    "fails",
    "headers",
    "method",
    "body",
    "max_size",
    "upstream",
    "follow_redirects",
];
const PASSIVE: &[&str] = &["max_fails", "unhealthy_status", "unhealthy_latency"];

fn off(subject: &Subject<'_>, findings: &mut Findings) {
    let proxies = subject.handlers().iter().filter(|one| one.name == "reverse_proxy");
    for (handler, place) in proxies.filter_map(|one| Some((one, one.place?))) {
        for Off { kind, setting, missing } in checks_off(handler.json) {
            let word = match (kind, setting) {
                ("passive", "max_fails" | "unhealthy_status" | "unhealthy_latency") => {
                    setting.to_owned()
                }
                (_, "expect_status") => "health_status".to_owned(),
                (_, "expect_body") => "health_body".to_owned(),
                (_, "body") => "health_request_body".to_owned(),
                (_, "max_size") => "health_max_size".to_owned(),
                (_, other) => format!("health_{other}"),
            };
            let at = subject.token_in(place, &word);
            let message = format!("{kind} health checks are off without {missing}");
            findings.add(&at, message, "changes nothing").help =
                Some(format!("add {missing}, or remove this"));
        }
    }
}

pub(super) const SECOND: i64 = 1_000_000_000;

fn timeout(subject: &Subject<'_>, findings: &mut Findings) {
    for handler in subject.handlers() {
        let (Some(checks), Some(place)) =
            (handler.json.pointer("/health_checks/active"), handler.place)
        else {
            continue;
        };
        let of = |name: &str, default: i64| {
            checks.get(name).and_then(Json::as_i64).filter(|value| *value > 0).unwrap_or(default)
        };
        let (interval, timeout) = (of("interval", 30 * SECOND), of("timeout", 5 * SECOND));
        if interval >= timeout {
            continue;
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
    }
}
