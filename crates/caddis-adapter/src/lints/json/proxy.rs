//! `reverse_proxy` in JSON.

use caddis_config::{Duration, NetworkAddress};
use serde_json::Value as Json;

use super::Findings;
use crate::lints::{health, upstreams};

/// Looks at a `reverse_proxy` handler of a server that listens at some addresses.
pub(super) fn run(
    proxy: &Json,
    listen: &[NetworkAddress],
    path: &str,
    findings: &mut Findings<'_>,
) {
    let upstreams = proxy.get("upstreams").and_then(Json::as_array);
    let upstreams = upstreams.map_or(&[][..], Vec::as_slice);
    let transport = proxy.get("transport");
    let protocol = transport.and_then(|one| one.get("protocol")).and_then(Json::as_str);
    let is_plain = protocol.is_none_or(|name| name == "http")
        && transport.is_none_or(|one| one.get("tls").is_none());
    let names_host = proxy.pointer("/headers/request/set/Host").is_some();
    for (at, upstream) in upstreams.iter().enumerate() {
        let Some(dial) = upstream.get("dial").and_then(Json::as_str) else { continue };
        let path = format!("{path}.upstreams.{at}.dial");
        if !names_host && upstreams::leads_back(dial, listen) {
            let message = format!("{dial} is the address of this very server");
            let help = "name the port of the backend";
            findings.add(&upstreams::UPSTREAM_LOOP, path, message, "leads back here", help);
        } else if let Some(behind) = upstreams::path_of(dial) {
            let (message, help) = (upstreams::path_message(dial), upstreams::path_help(behind));
            let label = "host and port, and nothing else";
            findings.add(&upstreams::UPSTREAM_PATH, path, message, label, help);
        } else if is_plain && dial.ends_with(":443") {
            let message = format!("{dial} is spoken to in plain HTTP");
            let help = "add `\"tls\": {}` to the transport";
            let label = "expects TLS, most likely";
            findings.add(&upstreams::PLAIN_TO_HTTPS_PORT, path, message, label, help);
        }
    }
    let weights = proxy.pointer("/load_balancing/selection_policy/weights");
    if let Some(weights) = weights.and_then(Json::as_array)
        && proxy.get("dynamic_upstreams").is_none()
        && weights.len() != upstreams.len()
    {
        let (weights, count) = (weights.len(), upstreams.len());
        let message = format!("weights: {weights}, upstreams: {count}");
        let help = "give each upstream its weight, in the order of the upstreams";
        let path = format!("{path}.load_balancing.selection_policy.weights");
        let label = "one weight for each upstream";
        findings.add(&upstreams::WEIGHTS_MISMATCH, path, message, label, help);
    }
    checks(proxy, path, findings);
}

fn checks(proxy: &Json, path: &str, findings: &mut Findings<'_>) {
    for health::Off { kind, setting, missing } in health::checks_off(proxy) {
        let message = format!("{kind} health checks are off without {missing}");
        let missing = if kind == "active" { "`uri`" } else { missing };
        let path = format!("{path}.health_checks.{kind}.{setting}");
        let help = format!("add {missing}, or remove this");
        findings.add(&health::HEALTH_CHECK_OFF, path, message, "changes nothing", help);
    }
    let Some(checks) = proxy.pointer("/health_checks/active") else { return };
    let of = |name: &str, default: i64| {
        let given = checks.get(name).cloned();
        let given = given.and_then(|text| serde_json::from_value::<Duration>(text).ok());
        let given = given.filter(|one| !one.is_zero());
        given.unwrap_or_else(|| Duration::from_nanos(default))
    };
    let interval = of("interval", 30 * health::SECOND);
    let timeout = of("timeout", 5 * health::SECOND);
    if interval >= timeout {
        return;
    }
    let message = format!("health checks every {interval}, each given up only after {timeout}");
    let help = format!("set the timeout below {interval}");
    let path = format!("{path}.health_checks.active.interval");
    findings.add(&health::HEALTH_TIMEOUT, path, message, "shorter than the timeout", help);
}
