//! JSON shapes of the policies, and their compilation.

use std::sync::atomic::AtomicU32;

use caddis_config::{ConfigError, Duration, Value};
use http::HeaderName;
use serde_json::json;

use super::{Policy, cookie::Sticky};

shape! {
    /// `random_choose`.
    pub(crate) struct RandomChooseConfig {
        /// How many to sample.
        pub choose: i64,
    }

    /// `weighted_round_robin`.
    pub(crate) struct WeightedConfig {
        /// One weight per upstream.
        pub weights: Vec<i64>,
    }

    /// `query`.
    pub(crate) struct QueryConfig {
        /// The parameter.
        pub key: String,
        /// Policy without it, key `policy`.
        pub fallback: Value,
    }

    /// `header`.
    pub(crate) struct HeaderConfig {
        /// The field.
        pub field: String,
        /// Policy without it, key `policy`.
        pub fallback: Value,
    }

    /// `cookie`.
    pub(crate) struct CookieConfig {
        /// The cookie's name.
        pub name: String,
        /// The key of its value.
        pub secret: String,
        /// How long the client keeps it.
        pub max_age: Duration,
        /// Policy for the first choice, key `policy`.
        pub fallback: Value,
    }

    /// Policies without options.
    pub(crate) struct NoConfig {}
}

/// Fallbacks of fallbacks deeper than this are refused.
const MAX_DEPTH: usize = 8;

/// Compiles a policy; `null` is `random`.
pub(crate) fn compile(json: &Value) -> Result<Policy, ConfigError> {
    policy(json, 0)
}

fn policy(json: &Value, depth: usize) -> Result<Policy, ConfigError> {
    if json.is_null() {
        return Ok(Policy::Random);
    }
    if depth > MAX_DEPTH {
        return Err(ConfigError::new("", "fallback policies are nested too deeply"));
    }
    let name = json.get("policy").and_then(Value::as_str).unwrap_or_default();
    let mut rest = json.clone();
    if let Some(object) = rest.as_object_mut() {
        object.remove("policy");
    }
    let fallback = |json: &Value| {
        policy(json, depth + 1).map(Box::new).map_err(|error| error.under("fallback"))
    };
    let plain =
        |policy: Policy, rest: Value| caddis_config::decode::<NoConfig>(rest).map(|_| policy);
    match name {
        "random" => plain(Policy::Random, rest),
        "least_conn" => plain(Policy::LeastConn, rest),
        "round_robin" => plain(Policy::RoundRobin(AtomicU32::new(0)), rest),
        "first" => plain(Policy::First, rest),
        "ip_hash" => plain(Policy::IpHash, rest),
        "client_ip_hash" => plain(Policy::ClientIpHash, rest),
        "uri_hash" => plain(Policy::UriHash, rest),
        "random_choose" => random_choose(caddis_config::decode(rest)?),
        "weighted_round_robin" => weighted(caddis_config::decode(rest)?),
        "query" => {
            let config: QueryConfig = caddis_config::decode(rest)?;
            if config.key.is_empty() {
                return Err(ConfigError::new("key", "query key is required"));
            }
            Ok(Policy::Query { fallback: fallback(&config.fallback)?, key: config.key })
        }
        "header" => {
            let config: HeaderConfig = caddis_config::decode(rest)?;
            if config.field.is_empty() {
                return Err(ConfigError::new("field", "header field is required"));
            }
            let field = HeaderName::try_from(config.field.as_str()).map_err(|_| {
                ConfigError::new("field", format!("invalid header field '{}'", config.field))
            })?;
            Ok(Policy::Header { field, fallback: fallback(&config.fallback)? })
        }
        "cookie" => {
            let config: CookieConfig = caddis_config::decode(rest)?;
            Ok(Policy::Cookie(Sticky {
                name: if config.name.is_empty() { "lb".to_owned() } else { config.name },
                secret: config.secret,
                max_age: config.max_age.positive().map_or(0, |age| age.as_secs()),
                fallback: fallback(&config.fallback)?,
            }))
        }
        _ => Err(caddis_core::compile::unknown_module(
            "http.reverse_proxy.selection_policies",
            name,
            "policy",
        )),
    }
}

fn random_choose(config: RandomChooseConfig) -> Result<Policy, ConfigError> {
    let choose = if config.choose == 0 { 2 } else { config.choose };
    match usize::try_from(choose) {
        Ok(choose) if choose >= 2 => Ok(Policy::RandomChoose(choose)),
        _ => Err(ConfigError::new("choose", "choose must be at least 2")),
    }
}

fn weighted(config: WeightedConfig) -> Result<Policy, ConfigError> {
    let wrong = |why: &str| ConfigError::new("weights", why);
    if config.weights.iter().any(|weight| *weight < 0) {
        return Err(wrong("weight of an upstream cannot be negative"));
    }
    let total: i64 = config.weights.iter().fold(0, |sum, weight| sum.saturating_add(*weight));
    if total <= 0 {
        return Err(wrong(
            "weighted_round_robin requires at least one upstream with a positive weight",
        ));
    }
    let total = u32::try_from(total).map_err(|_| wrong("the weights are too large"))?;
    let weights = config.weights.iter().filter_map(|weight| u32::try_from(*weight).ok()).collect();
    Ok(Policy::WeightedRoundRobin { weights, total, counter: AtomicU32::new(0) })
}

/// JSON of a policy.
pub(super) fn json(name: &str, config: &impl serde::Serialize) -> Result<Value, String> {
    let payload = serde_json::to_value(config).map_err(|error| error.to_string())?;
    Ok(caddis_config::module_object(
        if payload.is_null() { json!({}) } else { payload },
        "policy",
        name,
    ))
}
