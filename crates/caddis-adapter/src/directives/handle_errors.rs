//! `handle_errors`: routes for failed requests.
//!
//! ```text
//! handle_errors [<status…>] {         404, 4xx
//!     <directives…>
//! }
//! ```

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::Route;
use caddis_core::{ConfigValue, Directive, DirectiveKind, Helper};

use crate::{block, routes};

/// The directive.
pub(super) static DIRECTIVE: Directive =
    Directive { name: "handle_errors", kind: DirectiveKind::Values(parse), ordered: false };

fn parse(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    h.d.next();
    let statuses = h.d.remaining_args();
    let condition = condition(&h.d, &statuses)?;
    let handle = vec![routes::subroute(&block::parse_routes(h)?)];
    let mut route = Route { handle, ..Route::default() };
    if !condition.is_empty() {
        let set = [("expression".to_owned(), condition.into())];
        route.matcher_sets.push(set.into());
    }
    Ok(vec![ConfigValue::ErrorRoute(route)])
}

/// The expression for these statuses; empty for none.
fn condition(d: &Dispenser, statuses: &[String]) -> ParseResult<String> {
    const STATUS: &str = "{http.error.status_code}";
    let mut parts = Vec::new();
    let mut codes = Vec::new();
    for status in statuses {
        if status.len() != 3 {
            return Err(d.err(format_args!("bad status value '{status}'")));
        }
        let digits = status.strip_suffix("xx").unwrap_or(status);
        if digits.parse::<i64>().is_err() {
            return Err(d.err(format_args!(
                "bad status value '{digits}': strconv.Atoi: parsing {digits:?}: invalid syntax"
            )));
        }
        if digits.len() == 1 {
            parts.push(format!("{STATUS} >= {digits}00 && {STATUS} <= {digits}99"));
        } else {
            codes.push(digits);
        }
    }
    if !codes.is_empty() {
        parts.push(format!("{STATUS} in [{}]", codes.join(", ")));
    }
    Ok(parts.join(" || "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            condition(&Dispenser::default(), &words)
        };
        assert_eq!(of(&[]).unwrap(), "");
        assert_eq!(
            of(&["404", "5xx", "410"]).unwrap(),
            "{http.error.status_code} >= 500 && {http.error.status_code} <= 599 || {http.error.status_code} in [404, 410]"
        );
        assert!(of(&["40"]).is_err() && of(&["4x4"]).is_err() && of(&["axx"]).is_err());
    }
}
