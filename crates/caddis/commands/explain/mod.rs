//! `caddis explain METHOD URL`: what becomes of a request, without opening a port.
//!
//! The config is compiled as for `run`. Matchers and handlers that do not wait are the real ones, run
//! on a made-up request; of the others (proxies, files) it is told what they would do.

mod describe;
mod listener;
mod output;
mod request;
mod walk;

use std::{process::ExitCode, sync::Arc};

use caddis_caddyfile::{SourceMap, Span};
use caddis_config::Config;
use caddis_core::{CompileCx, Registry, State};
use serde_json::Value as Json;

use super::Outcome;
use crate::{
    args::Explain,
    diagnose::{self, Traced},
    registry, report,
    source::{self, Failure, Text},
};

use listener::Choice;
use request::Asked;
use walk::{Report, Walk};

/// Tells what becomes of a request.
pub(crate) fn explain(flags: &Explain) -> Outcome {
    let registry = registry::standard();
    let asked = Asked::parse(flags)?;
    let text = source::read_text(&flags.config)
        .map_err(|failure| failure.to_string())?
        .ok_or("no config file; name one with --config, or run this where the Caddyfile is")?;
    let (json, traced) = load(&text, &registry)?;
    let written: Config = caddis_config::decode(json).map_err(|error| error.to_string())?;
    let mut config = written.clone();
    caddis_plan::auto_https(&mut config).map_err(|error| error.to_string())?;
    let state = State::default();
    let metrics = Arc::default();
    let plan = caddis_plan::compile(
        written.clone(),
        &registry,
        &state,
        &metrics,
        caddis_plan::DEFAULT_ADMIN,
    )
    .map_err(|errors| errors.first().map_or_else(String::new, ToString::to_string))?;
    let places = Places { traced: traced.as_ref(), written: &written };
    let mut report = Report::default();
    match listener::choose(&plan, &config, &asked) {
        Choice::None(why) => report.end(why),
        Choice::Refused { listener, why } => {
            report.listener = Some(listener);
            report.end(why);
        }
        Choice::Takes { listener, server } => {
            let name = listener.server.clone();
            let tls = listener.tls;
            report.listener = Some(listener);
            let Some(own) = config.apps.http.as_ref().and_then(|http| http.servers.get(&name))
            else {
                return Err(format!("server {name} is gone"));
            };
            let mut cx = CompileCx::new(&registry, &state, metrics.clone());
            cx.begin_server(&name);
            let mut ex = asked.exchange(tls);
            server.trust.apply(&mut ex);
            let mut walk = Walk::new(&name, own, cx, places, report);
            walk.run(&mut ex);
            report = walk.report;
        }
    }
    if flags.json {
        crate::say::say!("{:#}", output::json(&asked, &report));
    } else {
        crate::say::out(output::text(&asked, &report));
    }
    Ok(ExitCode::SUCCESS)
}

/// The config, checked; and its places, if it is a Caddyfile.
fn load(text: &Text, registry: &Registry) -> Result<(Json, Option<Traced>), String> {
    let json = if text.is_json() {
        source::parse_json(text)
    } else {
        source::adapt_caddyfile(&text.name, &text.bytes, registry).map(|(json, ..)| json)
    };
    let json = json.map_err(|failure| super::drawn(&failure))?;
    let mistakes: Vec<_> = diagnose::mistakes(registry, json.clone(), || json.clone())
        .into_iter()
        // What is not there now (certificate files) does not matter here.
        .filter(|mistake| !mistake.path.is_empty())
        .collect();
    if !mistakes.is_empty() {
        let (all, sources) = diagnose::locate_all(text, &mistakes, registry);
        report::draw(&all, &sources);
        return Err(Failure::Diagnostics(all, sources).to_string());
    }
    Ok((json, Traced::new(text, registry)))
}

/// From paths of the running config to places in the Caddyfile.
struct Places<'a> {
    traced: Option<&'a Traced>,
    written: &'a Config,
}

/// Where a route or handler was written, and as what.
struct Written {
    file: String,
    line: u32,
    /// The directive and its matcher, or the address of the site.
    text: String,
    /// Where the named matcher was defined.
    definition: Option<u32>,
}

impl Places<'_> {
    /// Which routes of a server stand in the config as written: `None` for redirects of automatic
    /// HTTPS.
    fn own_routes(&self, server: &str, running: &[caddis_config::Route]) -> Vec<Option<usize>> {
        let written = self.written.apps.http.as_ref().and_then(|http| http.servers.get(server));
        let written = written.map_or(&[][..], |server| &server.routes);
        let mut next = 0;
        let mut number = |route: &caddis_config::Route| {
            let is_own = written.get(next) == Some(route);
            next += usize::from(is_own);
            is_own.then(|| next - 1)
        };
        running.iter().map(&mut number).collect()
    }

    fn of(&self, path: &str) -> Option<Written> {
        let Traced { file, adapted, .. } = self.traced?;
        let exact = adapted.origins.directives().find(|(own, _)| *own == path);
        if let Some((_, place)) = exact {
            let matcher = place.matcher.as_ref().map(|word| format!(" {}", word.text));
            return Some(Written {
                file: place.token.file().to_string(),
                line: place.token.line,
                text: format!("{}{}", place.token.text, matcher.unwrap_or_default()),
                definition: place.definition.as_ref().map(|name| name.line),
            });
        }
        let (_, span) = adapted.origins.iter().find(|(own, _)| *own == path)?;
        key(&file.sources, span)
    }
}

fn key(sources: &SourceMap, span: Span) -> Option<Written> {
    let (line, _) = sources.line_col(span);
    let file = sources.get(span.file)?.name.clone();
    Some(Written { file, line, text: sources.text(span).to_owned(), definition: None })
}
