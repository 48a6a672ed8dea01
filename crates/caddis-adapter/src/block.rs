//! The directives of a block: segments to config values.

use std::sync::Arc;

use caddis_caddyfile::{
    Diagnostic, Dispenser, ImportChain, Result as ParseResult, Segment, Span, nearest,
};
use caddis_config::Route;
use caddis_core::{ConfigValue, Directive, DirectiveKind, Helper, Registry};
use smol_str::SmolStr;

use crate::{matchers, options, plugins, routes, trace, usage};

/// A config value and the directive that it is from.
#[derive(Debug, Clone)]
pub(crate) struct Yielded {
    /// Name of the directive, `handle` for `handle_path`.
    pub(crate) directive: SmolStr,
    /// Where the directive stands.
    pub(crate) at: Span,
    /// The imports through which it came.
    pub(crate) imports: Option<Arc<ImportChain>>,
    /// The value.
    pub(crate) value: ConfigValue,
}

/// Parses a block as routes: the body of `handle`, `handle_response`, and the like.
///
/// The cursor stands before the directive's name, or on the last token before the block.
///
/// # Errors
/// The first mistake in the block, or a directive that has no place in an ordered block.
pub fn parse_routes(h: &mut Helper<'_>) -> ParseResult<Vec<Route>> {
    let values = evaluate(h)?;
    routes::build_sorted(values, h.registry, h.shared)
}

/// The values of the directives in a block, in file order.
///
/// # Errors
/// The first mistake in the block.
pub(crate) fn evaluate(h: &mut Helper<'_>) -> ParseResult<Vec<Yielded>> {
    if h.d.line() == 0 {
        h.d.next();
    }
    if h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    let mut definitions = Vec::new();
    let mut segments = Vec::new();
    let nesting = h.d.nesting();
    while h.d.next_block(nesting) {
        let segment = h.d.next_segment();
        let list = if is_definition(&segment) { &mut definitions } else { &mut segments };
        list.push(segment);
    }
    if definitions.is_empty() {
        return evaluate_segments(h, &segments);
    }
    let outer = h.matchers.clone();
    let known = trace::definitions(h.shared);
    let result = definitions
        .iter()
        .try_for_each(|segment| {
            trace::defined(h.shared, segment.name());
            matchers::define(segment, h.registry, &mut h.matchers)
        })
        .and_then(|()| evaluate_segments(h, &segments));
    h.matchers = outer;
    trace::forget(h.shared, known);
    result
}

/// Whether a segment defines a matcher.
pub(crate) fn is_definition(segment: &Segment) -> bool {
    segment.directive().starts_with(matchers::PREFIX)
}

fn evaluate_segments(h: &mut Helper<'_>, segments: &[Segment]) -> ParseResult<Vec<Yielded>> {
    let mut all = Vec::new();
    for segment in segments {
        let name = segment.directive();
        let Some(directive) = h.registry.directive(name) else {
            let message = format!(
                "unrecognized directive: {name} - are you sure your Caddyfile structure (nesting and braces) is correct?"
            );
            let mut error = h.d.err(message);
            error.labels.clear();
            return Err(point_at(error, segment, h.registry));
        };
        let outer = std::mem::replace(&mut h.d, Dispenser::from_segment(segment));
        let result = run(h, directive);
        h.d = outer;
        let values = result.map_err(|inner| {
            let message = format!("parsing caddyfile tokens for '{name}': {inner}");
            h.d.err(message).found_by(inner)
        })?;
        all.extend(values.into_iter().map(|value| yielded(segment, value)));
    }
    Ok(all)
}

/// A value with the directive that it is from.
pub(crate) fn yielded(segment: &Segment, value: ConfigValue) -> Yielded {
    let name = segment.name();
    let directive = match segment.directive() {
        // Sorted together.
        "handle_path" => SmolStr::new_static("handle"),
        _ => name.map(|name| name.text.clone()).unwrap_or_default(),
    };
    let imports = name.and_then(|name| name.imports().cloned());
    Yielded { directive, at: name.map_or(Span::NONE, |name| name.span), imports, value }
}

/// Labels an unknown directive and names the nearest known one.
pub(crate) fn point_at(error: Diagnostic, segment: &Segment, registry: &Registry) -> Diagnostic {
    let known = registry.directives.iter().map(|directive| directive.name);
    let name = segment.directive();
    let help = match name {
        // What may be imported was imported before; this one is in a named route.
        "import" => Some("nothing is imported inside a named route; write it out, or import the whole named route".to_owned()),
        _ => unknown_help(segment, registry),
    };
    let error = error.code("adapter::unknown_directive");
    let error = match segment.name() {
        Some(token) => error.labelled(token, "no such directive"),
        None => error,
    };
    match (help, nearest(name, known.chain(["import"]))) {
        (Some(help), _) => error.help(help),
        (None, Some(near)) => error.meant(near),
        (None, None) => error,
    }
}

/// What a word is that stands where a directive should, if it is something else.
fn unknown_help(segment: &Segment, registry: &Registry) -> Option<String> {
    let name = segment.directive();
    if let Some(plain) = name.strip_suffix(';').filter(|plain| !plain.is_empty()) {
        let line = plugins::directive_help(plain);
        return Some(line.unwrap_or_else(|| format!("lines end without `;`: write `{plain}`")));
    }
    if let Some(help) = plugins::directive_help(name) {
        return Some(help);
    }
    if options::is_option(name) {
        return Some(format!(
            "`{name}` is a global option: it belongs into the block `{{ … }}` without an address at the top of the file"
        ));
    }
    if registry.matcher(name).is_some() {
        return Some(format!(
            "`{name}` is a matcher: give it a name (`@name {name} …`), and name that in a directive"
        ));
    }
    if lacks_at(segment, registry) {
        return Some(format!("the name of a matcher begins with `@`: write `@{name} …`"));
    }
    let around = usage::owner_of(name)?;
    Some(format!("`{name}` belongs into the block of `{around}`"))
}

/// Whether a line reads like the definition of a matcher whose name lacks the `@`.
pub(crate) fn lacks_at(segment: &Segment, registry: &Registry) -> bool {
    segment.0.get(1).is_some_and(|kind| {
        registry.matcher(&kind.text).is_some() && !segment.0[0].next_is_on_new_line(kind)
    })
}

/// Runs one directive on the tokens in the helper's dispenser.
///
/// # Errors
/// The directive's mistake.
pub(crate) fn run(h: &mut Helper<'_>, directive: &Directive) -> ParseResult<Vec<ConfigValue>> {
    let place = trace::place(h);
    let mut values = match directive.kind {
        DirectiveKind::Values(parse) => parse(h)?,
        DirectiveKind::Handler(parse) => {
            let set = h.extract_matcher_set()?;
            let handler = parse(h)?;
            h.route(set, handler)
        }
    };
    trace::mark(h.shared, place, &mut values);
    Ok(values)
}
