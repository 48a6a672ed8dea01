//! `lb_policy`.

use caddis_caddyfile::{Dispenser, Result, nearest};
use caddis_config::{Duration, Value};

use super::config::{
    CookieConfig, HeaderConfig, NoConfig, QueryConfig, RandomChooseConfig, WeightedConfig, json,
};
use crate::parse::{argument, no_more, parse_integer, unknown_module};

/// Reads a policy whose name is the current token.
pub(crate) fn parse(d: &mut Dispenser) -> Result<Value> {
    let word = d.token().clone();
    let name = word.text.to_string();
    let mut inner = d.new_from_next_segment();
    inner.next();
    let parsed = match name.as_str() {
        "random" | "least_conn" | "round_robin" | "first" | "ip_hash" | "client_ip_hash"
        | "uri_hash" => {
            no_more(&mut inner)?;
            json(&name, &NoConfig {})
        }
        "random_choose" => {
            let text = argument(&mut inner)?;
            let choose = parse_integer(&text).map_err(|error| {
                inner.err(format_args!("invalid choice value '{text}': {error}"))
            })?;
            json(&name, &RandomChooseConfig { choose })
        }
        "weighted_round_robin" => json(&name, &weighted(&mut inner)?),
        "query" => json(&name, &query(&mut inner)?),
        "header" => json(&name, &header(&mut inner)?),
        "cookie" => json(&name, &cookie(&mut inner)?),
        _ => {
            let names = crate::OTHER_IDS
                .iter()
                .filter(|id| id.starts_with("http.reverse_proxy.selection_policies."))
                .filter_map(|id| id.rsplit('.').next());
            let error = unknown_module(&word, "http.reverse_proxy.selection_policies");
            return Err(match nearest(&name, names) {
                Some(near) => error.meant(near),
                None => error,
            });
        }
    };
    parsed.map_err(|error| d.err(error))
}

fn weighted(d: &mut Dispenser) -> Result<WeightedConfig> {
    let args = d.remaining_args();
    if args.is_empty() {
        return Err(d.arg_err());
    }
    let mut weights = Vec::with_capacity(args.len());
    for text in args {
        let weight = parse_integer(&text)
            .map_err(|error| d.err(format_args!("invalid weight value '{text}': {error}")))?;
        if weight < 0 {
            return Err(d.err(format_args!(
                "invalid weight value '{text}': weight should be non-negative"
            )));
        }
        weights.push(weight);
    }
    Ok(WeightedConfig { weights })
}

fn query(d: &mut Dispenser) -> Result<QueryConfig> {
    let mut config = QueryConfig { key: argument(d)?, ..QueryConfig::default() };
    while d.next_block(0) {
        match d.val() {
            "fallback" => fallback(d, &mut config.fallback)?,
            _ => return Err(d.err(format_args!("unrecognized option '{}'", d.val()))),
        }
    }
    Ok(config)
}

fn header(d: &mut Dispenser) -> Result<HeaderConfig> {
    let mut config = HeaderConfig { field: argument(d)?, ..HeaderConfig::default() };
    while d.next_block(0) {
        match d.val() {
            "fallback" => fallback(d, &mut config.fallback)?,
            _ => return Err(d.err(format_args!("unrecognized option '{}'", d.val()))),
        }
    }
    Ok(config)
}

fn cookie(d: &mut Dispenser) -> Result<CookieConfig> {
    let mut config = CookieConfig::default();
    match d.remaining_args().as_slice() {
        [] => {}
        [name] => config.name.clone_from(name),
        [name, secret] => {
            config.name.clone_from(name);
            config.secret.clone_from(secret);
        }
        _ => return Err(d.arg_err()),
    }
    while d.next_block(0) {
        match d.val() {
            "fallback" => fallback(d, &mut config.fallback)?,
            "max_age" => config.max_age = max_age(d, config.max_age)?,
            _ => return Err(d.err(format_args!("unrecognized option '{}'", d.val()))),
        }
    }
    Ok(config)
}

fn max_age(d: &mut Dispenser, known: Duration) -> Result<Duration> {
    let text = argument(d)?;
    if !known.is_zero() {
        return Err(d.err("cookie max_age already specified"));
    }
    let age =
        Duration::parse(&text).map_err(|_| d.err(format_args!("invalid duration: {text}")))?;
    if age <= Duration::ZERO {
        return Err(d.err(format_args!(
            "invalid duration: {text}, max_age should be non-zero and positive"
        )));
    }
    no_more(d)?;
    Ok(age)
}

fn fallback(d: &mut Dispenser, slot: &mut Value) -> Result<()> {
    argument(d)?;
    if !slot.is_null() {
        return Err(d.err("fallback selection policy already specified"));
    }
    *slot = parse(d)?;
    Ok(())
}
