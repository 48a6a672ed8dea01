//! Caddyfile blocks to Caddy's JSON configuration.
//!
//! [`adapt`] is the list of passes, each with a named input and output:
//!
//! | pass | from → to | module |
//! |---|---|---|
//! | options | first block without keys → `Options` | `options` |
//! | shorthand | `{host}` in tokens → `{http.request.host}` | `shorthand` |
//! | named routes | `&(name)` blocks → `NamedRoutes` | `named_routes` |
//! | sites | blocks → `Site` with the values of its directives | `site`, `block`, `matchers` |
//! | pairing | sites → `Pairing` of listeners and sites | `listeners`, `address` |
//! | servers | pairings → servers with sorted routes | `servers`, `routes` |
//! | apps | pairings → `tls`, `pki`, logs | `tls_app`, `pki`, `logs` |
//!
//! Directives of other crates come in through the [`Registry`]; those that shape sites and routes are
//! in [`DIRECTIVES`].

mod address;
mod block;
mod directives;
mod dns;
mod fields;
mod freeze;
mod go_sort;
mod hints;
mod issuer;
pub mod lints;
mod listeners;
mod locate;
mod log_config;
mod logs;
mod matchers;
mod modules;
mod named_routes;
mod options;
mod origins;
mod pki;
mod plugins;
mod recover;
mod repair;
mod routes;
mod servers;
mod shared_storage;
mod shorthand;
mod site;
mod storage;
mod stray;
mod tls_app;
mod trace;
mod usage;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use caddis_caddyfile::{Diagnostic, File, Segment, ServerBlock, Span, Token};
use caddis_config::{Apps, Config, ConfigSettings, HttpApp, Metrics, Server};
use caddis_core::Registry;
use caddis_core::directive::AdaptState;

pub use block::parse_routes;
pub use directives::DIRECTIVES;
pub use locate::locate;
pub use origins::{Origins, Place};
pub use repair::{Gone, Repaired, repair};
pub use stray::reword_stray_brace;

use named_routes::NamedRoutes;
use options::Options;
use site::Site;

/// A configuration out of a Caddyfile.
#[derive(Debug)]
pub struct Adapted {
    /// The configuration.
    pub config: Config,
    /// What is odd about the file.
    pub warnings: Vec<Diagnostic>,
    /// Where parts of the configuration come from.
    pub origins: Origins,
}

/// Makes a configuration out of a parsed Caddyfile.
///
/// # Errors
/// All mistakes: those in options and directives in the order of the file, then those that show when
/// sites are put together.
pub fn adapt(file: &File, registry: &Registry) -> Result<Adapted, Vec<Diagnostic>> {
    run(borrowed(file), registry, AdaptState::default()).map(|(adapted, _)| adapted)
}

/// The JSON of the configuration, compact and as Caddy writes it, with the warnings. Takes less time
/// and memory than [`adapt`] and writing.
///
/// # Errors
/// As [`adapt`].
pub fn adapt_to_text(
    blocks: Vec<ServerBlock>,
    registry: &Registry,
) -> Result<(String, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut shared = AdaptState::default();
    freeze::begin(&mut shared);
    let blocks = blocks.into_iter().map(Cow::Owned).collect();
    let (adapted, frozen) = run(blocks, registry, shared)?;
    let text = caddis_config::json::write::to_string(&adapted.config)
        .map_err(|error| vec![Diagnostic::error(format!("encoding config: {error}"))])?;
    let text = match frozen {
        Some(frozen) => frozen.thaw(&text),
        None => text,
    };
    Ok((text, adapted.warnings))
}

/// [`adapt`] without the handlers of sites: what is left is about a file as a whole. Takes a fraction of
/// the memory.
///
/// # Errors
/// As [`adapt`].
pub fn adapt_outline(file: &File, registry: &Registry) -> Result<Adapted, Vec<Diagnostic>> {
    let mut shared = AdaptState::default();
    freeze::begin_hollow(&mut shared);
    run(borrowed(file), registry, shared).map(|(adapted, _)| adapted)
}

/// [`adapt`], with the place of each handler among the origins.
///
/// # Errors
/// As [`adapt`].
pub fn adapt_traced(file: &File, registry: &Registry) -> Result<Adapted, Vec<Diagnostic>> {
    traced(borrowed(file), registry)
}

/// [`adapt_traced`] for some blocks of a file.
fn adapt_blocks(blocks: &[&ServerBlock], registry: &Registry) -> Result<Adapted, Vec<Diagnostic>> {
    traced(blocks.iter().map(|block| Cow::Borrowed(*block)).collect(), registry)
}

fn traced(
    blocks: Vec<Cow<'_, ServerBlock>>,
    registry: &Registry,
) -> Result<Adapted, Vec<Diagnostic>> {
    let mut shared = AdaptState::default();
    trace::begin(&mut shared);
    run(blocks, registry, shared).map(|(adapted, _)| adapted)
}

fn borrowed(file: &File) -> Vec<Cow<'_, ServerBlock>> {
    file.blocks.iter().map(Cow::Borrowed).collect()
}

fn run(
    mut blocks: Vec<Cow<'_, ServerBlock>>,
    registry: &Registry,
    mut shared: AdaptState,
) -> Result<(Adapted, Option<freeze::Frozen>), Vec<Diagnostic>> {
    let mut errors = check_keys(&blocks, registry);
    // What is in a block of such a key is none of a site.
    blocks.retain(|block| !block.keys.iter().any(|key| is_misplaced(key, registry)));
    let has_options = blocks.first().is_some_and(|first| first.keys.is_empty());
    let option_block = has_options.then(|| blocks.remove(0));
    let segments = option_block.as_ref().map_or(&[][..], |block| &block.segments);
    let before = errors.len();
    let options = options::evaluate(segments, registry, &mut shared, &mut errors);
    let options_fine = before == 0 && errors.iter().all(|error| !is_about_sites(error, segments));
    errors = errors.into_iter().map(|error| at_option(error, segments)).collect();
    let (named, sites): (Vec<_>, Vec<_>) =
        blocks.into_iter().partition(|block| block.is_named_route);
    let named: Vec<ServerBlock> =
        named.iter().map(|block| shorthand::expanded(block).into_owned()).collect();
    let key = |block: &ServerBlock| block.keys.first().map(|key| key.text.to_string());
    shared.named_routes = named.iter().filter_map(key).collect();
    let named = named_routes::extract(&named, registry, &options, &mut shared, &mut errors);
    let mut sites = site::evaluate(sites, registry, &options, &mut shared, &mut errors);
    if !errors.is_empty() {
        // What follows from a mistake is none of its own.
        sites.retain(|site| options_fine && !site.pile.uncertain);
    }
    let mut found = Vec::new();
    let assembled = assemble(&mut sites, &named, &options, registry, &mut shared, &mut found);
    for error in found {
        let error = hints::improve(at_option(error, segments), None, registry);
        let same =
            |other: &Diagnostic| other.message == error.message && other.labels == error.labels;
        // A site may be in several servers.
        if options_fine && !errors.iter().any(same) {
            errors.push(error);
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut adapted = assembled;
    let servers = adapted.config.apps.http.iter().flat_map(|http| http.servers.keys());
    adapted.origins.add_options(segments, servers);
    Ok((adapted, freeze::finish(&mut shared)))
}

/// Whether sites may be other ones without the option that has this mistake: what they listen on and
/// how they are ordered hangs on some.
fn is_about_sites(error: &Diagnostic, segments: &[Segment]) -> bool {
    let Some((span, _)) = error.labels.first() else { return true };
    let holds = |segment: &&Segment| segment.0.iter().any(|token| token.span == *span);
    segments.iter().find(holds).is_none_or(|segment| options::shapes_sites(segment.directive()))
}

/// Labels the option that a mistake is about, if it has no place otherwise.
fn at_option(error: Diagnostic, segments: &[Segment]) -> Diagnostic {
    const SENTENCES: &[(&str, &str)] = &[
        ("acme_dns specified without", "acme_dns"),
        ("local_certs is confusing", "local_certs"),
        ("applying global server options", "servers"),
        ("options with duplicate listener addresses", "servers"),
    ];
    if !error.labels.is_empty() {
        return error;
    }
    let Some((_, option)) = SENTENCES.iter().find(|(part, _)| error.message.contains(part)) else {
        return error;
    };
    let mut tokens = segments.iter().rev().filter_map(Segment::name);
    match tokens.find(|name| name.text == *option) {
        Some(token) => error.labelled(token, "this option"),
        None => error,
    }
}

/// Keys that are probably directives or matchers outside of a site.
fn check_keys(blocks: &[Cow<'_, ServerBlock>], registry: &Registry) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    // Where the block before is such a one, this one goes with it.
    let mut follows = false;
    for (number, block) in blocks.iter().enumerate() {
        let goes_with = std::mem::replace(
            &mut follows,
            block.keys.first().is_some_and(|key| is_misplaced(key, registry)),
        );
        if goes_with && follows {
            continue;
        }
        for (at, key) in block.keys.iter().enumerate() {
            let message = if at == 0 && key.text.starts_with(matchers::PREFIX) {
                format!("cannot define a matcher outside of a site block: '{}'", key.text)
            } else if is_misplaced(key, registry) {
                format!(
                    "parsed '{}' as a site address, but it is a known directive; directives must appear in a site block",
                    key.text
                )
            } else {
                continue;
            };
            let error = Diagnostic::error(format!("{}:{}: {message}", key.file(), key.line));
            let error = error.code("adapter::key").labelled(key, "not inside a site block");
            let before = number.checked_sub(1).and_then(|before| blocks.get(before));
            errors.push(match before.and_then(|before| unopened(before)).filter(|_| at == 0) {
                Some(line) => error
                    .label(line, "no block opens here, so the `}` below closed the site")
                    .help("end this line with ` {`"),
                None => error,
            });
        }
    }
    errors
}

/// Whether a key is a directive.
fn is_misplaced(key: &Token, registry: &Registry) -> bool {
    registry.directive(&key.text).is_some()
}

/// The last directive of a block that should have a block of its own and has none.
fn unopened(block: &ServerBlock) -> Option<Span> {
    const WITH_BLOCK: [&str; 4] = ["handle", "handle_errors", "handle_path", "route"];
    let lacks = |segment: &&Segment| {
        WITH_BLOCK.contains(&segment.directive()) && !segment.0.iter().any(Token::is_open_brace)
    };
    let segment = block.segments.iter().rev().find(lacks)?;
    Some(segment.0.first()?.span.to(segment.0.last()?.span))
}

/// Puts sites and options together.
fn assemble(
    sites: &mut [Site],
    named_routes: &NamedRoutes,
    options: &Options,
    registry: &Registry,
    shared: &mut AdaptState,
    errors: &mut Vec<Diagnostic>,
) -> Adapted {
    let mut pairings = listeners::pair(sites, options, errors);
    let inputs = servers::Inputs { sites, named_routes, options, registry };
    let (mut servers, places) = servers::build(&mut pairings, &inputs, shared, errors);
    // Who wants the text alone asks for no places.
    let mut origins = if freeze::is_on(shared) {
        Origins::default()
    } else {
        origins::of_servers(&pairings, sites, places, &servers)
    };
    trace::collect(shared, &mut servers, &mut origins);
    let tls = tls_app::build(&pairings, sites, options, errors);
    if let Some(tls) = &tls {
        origins.add_policies(&pairings, sites, tls);
    }
    let apps = Apps {
        filesystems: options.filesystems.clone(),
        events: options.events.clone(),
        http: http_app(servers, options),
        tls,
        pki: pki::build(&pairings, sites, options),
        ..Apps::default()
    };
    let config = Config {
        admin: admin(options),
        logging: logs::build(&pairings, sites, options),
        storage: options.values.get("storage").cloned(),
        apps,
    };
    Adapted { config, warnings: std::mem::take(&mut shared.warnings), origins }
}

fn http_app(
    mut servers: std::collections::BTreeMap<String, Server>,
    options: &Options,
) -> Option<HttpApp> {
    if servers.is_empty() {
        return None;
    }
    let mut metrics = options.metrics.clone();
    for own in servers.values_mut().filter_map(|server| server.metrics.take()) {
        let per_host = own.per_host || metrics.is_some_and(|metrics| metrics.per_host);
        metrics = Some(Metrics { per_host, ..Metrics::default() });
    }
    Some(HttpApp {
        http_port: options.integer("http_port").unwrap_or_default(),
        https_port: options.integer("https_port").unwrap_or_default(),
        grace_period: options.duration("grace_period").unwrap_or_default(),
        shutdown_delay: options.duration("shutdown_delay").unwrap_or_default(),
        servers,
        metrics,
    })
}

fn admin(options: &Options) -> Option<caddis_config::AdminConfig> {
    let mut admin = options.admin.clone();
    if options.is_set("persist_config") {
        let config: &mut ConfigSettings =
            admin.get_or_insert_default().config.get_or_insert_default();
        config.persist = Some(false);
    }
    admin
}
