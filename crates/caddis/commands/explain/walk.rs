//! The walk through the routes of a server, with the real matchers and filters.

use std::collections::HashSet;
use std::path::Path;

use caddis_config::{Route, Server};
use caddis_core::{
    CompileCx, Exchange, Flow, Handler, HttpError, Next, Response, ResponseMatcher, RouteList,
    Template, error::status_text, response_matcher::ResponseMatcherConfig,
};
use http::{HeaderMap, StatusCode};
use serde_json::Value as Json;

use super::listener::Listener;
use super::{Places, describe};

/// One line of the report.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) depth: usize,
    /// `site`, `route`, `handler` or `errors`.
    pub(super) kind: &'static str,
    /// The directive with its matcher, or the handler's module.
    pub(super) text: String,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
    /// Whether the request goes through it.
    pub(super) taken: bool,
    /// Why, and what it does.
    pub(super) why: Vec<String>,
}

/// What becomes of the request.
#[derive(Default)]
pub(super) struct Report {
    pub(super) listener: Option<Listener>,
    pub(super) steps: Vec<Step>,
    /// Sites for other hosts.
    pub(super) other_sites: usize,
    pub(super) end: String,
    pub(super) status: Option<u16>,
}

impl Report {
    /// Says how it ends.
    pub(super) fn end(&mut self, why: impl Into<String>) {
        self.end = why.into();
    }
}

/// How a chain went on.
enum Went {
    /// To what comes after it.
    On,
    /// No further: a terminal route matched and nothing answered.
    Terminal,
    Answered(Option<StatusCode>, String),
    Failed(HttpError),
}

pub(super) struct Walk<'a> {
    name: String,
    server: &'a Server,
    cx: CompileCx<'a>,
    places: Places<'a>,
    pub(super) report: Report,
    groups: HashSet<String>,
    /// The `intercept` handlers that the request went through, with their paths.
    intercepts: Vec<(Json, Option<String>)>,
    depth: usize,
    /// Why the route of the next handler matched.
    reasons: Vec<String>,
    /// Numbers of the top-level routes in the config as written.
    own: Vec<Option<usize>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        name: &str,
        server: &'a Server,
        cx: CompileCx<'a>,
        places: Places<'a>,
        report: Report,
    ) -> Self {
        let own = places.own_routes(name, &server.routes);
        let (name, groups) = (name.to_owned(), HashSet::new());
        Self {
            name,
            server,
            cx,
            places,
            report,
            groups,
            intercepts: Vec::new(),
            depth: 0,
            reasons: Vec::new(),
            own,
        }
    }

    /// Walks until there is an answer.
    pub(super) fn run(&mut self, ex: &mut Exchange) {
        let base = format!("apps.http.servers.{}", self.name);
        let mut went = self.routes(&self.server.routes, &format!("{base}.routes"), true, ex);
        if matches!(went, Went::On | Went::Terminal) && !self.intercepts.is_empty() {
            let text = "no handler answers: an empty response".to_owned();
            went = Went::Answered(Some(ex.default_status()), text);
        }
        went = self.intercepted(went, ex);
        if let Went::Failed(error) = &went
            && error.kind == caddis_core::ErrorKind::Handler
            && let Some(errors) = &self.server.errors
        {
            let first = error.status;
            went = self.errors(error, &errors.routes, &format!("{base}.errors.routes"), ex);
            // Caddy's way: what happens in error routes does not change the answer.
            if let Went::Failed(second) = &went
                && second.kind == caddis_core::ErrorKind::Handler
            {
                let text = format!(
                    "the error routes fail ({}): an empty response with the first error's status",
                    error_text(second)
                );
                went = Went::Answered(Some(first), text);
            }
        }
        let (status, text) = match went {
            Went::On | Went::Terminal => {
                (Some(ex.default_status()), "no handler answers: an empty response".to_owned())
            }
            Went::Answered(status, text) => (status, text),
            Went::Failed(error) if error.kind == caddis_core::ErrorKind::Abort => {
                (None, "the connection is closed without an answer".to_owned())
            }
            Went::Failed(error) => (Some(error.status), error_text(&error)),
        };
        self.report.status = status.map(|status| status.as_u16());
        self.report.end(text);
    }

    fn errors(
        &mut self,
        error: &HttpError,
        routes: &[Route],
        path: &str,
        ex: &mut Exchange,
    ) -> Went {
        ex.enter_error(error);
        self.groups.clear();
        self.step("errors", format!("error {}", error_text(error)), None, true);
        match self.routes(routes, path, false, ex) {
            Went::On | Went::Terminal => Went::Answered(
                Some(error.status),
                "no error route answers: an empty response with the error's status".into(),
            ),
            other => other,
        }
    }

    fn step(
        &mut self,
        kind: &'static str,
        text: String,
        path: Option<&str>,
        taken: bool,
    ) -> &mut Step {
        let mut step = Step { depth: self.depth, kind, text, taken, ..Step::default() };
        if let Some(written) = path.and_then(|path| self.places.of(path)) {
            step.file = Some(written.file);
            step.line = Some(written.line);
            step.text = written.text;
            if let Some(line) = written.definition.filter(|line| Some(*line) != step.line) {
                step.why.push(format!("the matcher is defined in line {line}"));
            }
        }
        let at = self.report.steps.len();
        self.report.steps.push(step);
        &mut self.report.steps[at]
    }

    fn routes(&mut self, routes: &[Route], path: &str, top: bool, ex: &mut Exchange) -> Went {
        for (at, route) in routes.iter().enumerate() {
            let own = if top { self.own.get(at).copied().flatten() } else { Some(at) };
            let path = own.map(|at| format!("{path}.{at}"));
            if !route.group.is_empty() && self.groups.contains(&route.group) {
                let step = self.step("route", title(route), path.as_deref(), false);
                step.why.push("an earlier route of the same group was taken".into());
                continue;
            }
            let (matched, why) = match self.matches(route, ex) {
                Ok(found) => found,
                Err(error) => return Went::Failed(error),
            };
            let is_site = top && route.terminal && route.handle.len() <= 1;
            if !matched && top && why.iter().any(|why| why.starts_with("host ")) {
                self.report.other_sites += 1;
                continue;
            }
            let kind = if is_site { "site" } else { "route" };
            let text = if path.is_none() {
                "redirect of automatic HTTPS".to_owned()
            } else {
                title(route)
            };
            // A route of plain directives needs no line beside theirs.
            let own_line = !matched || is_site || path.is_none() || holds_routes(route);
            if own_line {
                let step = self.step(kind, text, path.as_deref(), matched);
                step.why.extend(why);
            } else {
                self.reasons = why;
            }
            if !matched {
                continue;
            }
            if !route.group.is_empty() {
                self.groups.insert(route.group.clone());
            }
            self.depth += usize::from(own_line);
            let went = self.handlers(route, path.as_deref(), ex);
            self.depth -= usize::from(own_line);
            match went {
                Went::On if route.terminal => return Went::Terminal,
                Went::On => {}
                other => return other,
            }
        }
        Went::On
    }

    /// Whether a route matches, and why.
    fn matches(
        &mut self,
        route: &Route,
        ex: &mut Exchange,
    ) -> Result<(bool, Vec<String>), HttpError> {
        let mut why = Vec::new();
        for set in &route.matcher_sets {
            let mut all = true;
            let mut held = Vec::new();
            for (name, json) in set {
                let Ok(matcher) = self.cx.matcher(name, json) else { continue };
                let shown = format!("{name} {}", describe::brief(json));
                if matcher.matches(ex)? {
                    held.push(format!("{shown}: matches"));
                    continue;
                }
                let seen = describe::seen(name, json, ex);
                let seen = if seen.is_empty() { seen } else { format!(" ({seen})") };
                why.push(format!("{shown}: does not match{seen}"));
                all = false;
                break;
            }
            if all {
                return Ok((true, held));
            }
        }
        Ok((route.matcher_sets.is_empty(), why))
    }

    fn handlers(&mut self, route: &Route, path: Option<&str>, ex: &mut Exchange) -> Went {
        let single = route.handle.len() == 1;
        let mut went = Went::On;
        for (at, json) in route.handle.iter().enumerate() {
            let path = path.map(|path| format!("{path}.handle.{at}"));
            went = self.handler(json, path.as_deref(), single, ex);
            if !matches!(went, Went::On) {
                break;
            }
        }
        went
    }

    /// Runs one handler.
    fn handler(
        &mut self,
        json: &Json,
        path: Option<&str>,
        single: bool,
        ex: &mut Exchange,
    ) -> Went {
        let name = json.get("handler").and_then(Json::as_str).unwrap_or_default();
        if name == "subroute" {
            if !single {
                self.step("handler", name.to_owned(), path, true);
            }
            return self.subroute(json, path, ex);
        }
        let mut why = std::mem::take(&mut self.reasons);
        why.extend(describe::handler(json, ex));
        let step = self.step("handler", name.to_owned(), path, true);
        step.why.extend(why);
        if name == "invoke" {
            self.depth += 1;
            let went = self.invoke(json, ex);
            self.depth -= 1;
            return went;
        }
        match self.cx.handler(json) {
            Ok(Handler::Filter(filter)) => match filter.apply(ex) {
                Ok(Flow::Continue) => Went::On,
                Ok(Flow::Respond(response)) => {
                    let location = response.headers().get("location");
                    let to = location.and_then(|value| value.to_str().ok());
                    let text =
                        to.map_or("answered here".to_owned(), |to| format!("redirect to {to}"));
                    Went::Answered(Some(response.status()), text)
                }
                Err(error) => Went::Failed(error),
            },
            Ok(Handler::Middleware(_)) if name == "intercept" => {
                self.intercepts.push((json.clone(), path.map(str::to_owned)));
                Went::On
            }
            Ok(Handler::Middleware(_)) => self.waiting(name, json, ex),
            Err(error) => Went::Failed(HttpError::internal(error)),
        }
    }

    fn subroute(&mut self, json: &Json, path: Option<&str>, ex: &mut Exchange) -> Went {
        let list = |pointer: &str| -> Vec<Route> {
            let routes = json.pointer(pointer).cloned().unwrap_or_default();
            caddis_config::decode(routes).unwrap_or_default()
        };
        let base = path.unwrap_or("-");
        let went = self.routes(&list("/routes"), &format!("{base}.routes"), false, ex);
        match went {
            Went::Failed(error) if json.get("errors").is_some() => {
                self.errors(&error, &list("/errors/routes"), &format!("{base}.errors.routes"), ex)
            }
            other => other,
        }
    }

    fn invoke(&mut self, json: &Json, ex: &mut Exchange) -> Went {
        let name = json.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
        let server = self.server;
        let Some(route) = server.named_routes.get(&name) else {
            return Went::Failed(HttpError::internal(format!("no named route {name}")));
        };
        let path = format!("apps.http.servers.{}.named_routes.{name}", self.name);
        self.handlers(route, Some(&path), ex)
    }

    /// A handler that would wait: what it would do.
    fn waiting(&mut self, name: &str, json: &Json, ex: &mut Exchange) -> Went {
        match name {
            "reverse_proxy" => {
                if json.get("handle_response").is_some() {
                    self.note("some answers of the upstream are handled here (handle_response)");
                }
                Went::Answered(None, "answered by an upstream".into())
            }
            "file_server" => self.file(json, ex),
            "authentication" => {
                if ex.request.headers.contains_key(http::header::AUTHORIZATION) {
                    self.note("the password is taken to be right");
                    return Went::On;
                }
                Went::Failed(HttpError::new(StatusCode::UNAUTHORIZED, "not authenticated"))
            }
            "acme_server" => {
                let prefix = json.get("path_prefix").and_then(Json::as_str).unwrap_or("/acme/");
                if !ex.request.target.path().starts_with(prefix) {
                    return Went::On;
                }
                Went::Answered(Some(StatusCode::OK), "answered here".into())
            }
            "metrics" => Went::Answered(Some(StatusCode::OK), "answered here".into()),
            _ => Went::On,
        }
    }

    fn note(&mut self, text: impl Into<String>) {
        if let Some(step) = self.report.steps.last_mut() {
            step.why.push(text.into());
        }
    }

    /// The file that a file server would give.
    fn file(&mut self, json: &Json, ex: &mut Exchange) -> Went {
        let root = json.get("root").and_then(Json::as_str).unwrap_or("{http.vars.root}");
        let root = Template::parse(root).render(ex).into_owned();
        let root = if root.is_empty() { ".".to_owned() } else { root };
        let inside =
            ex.request.target.path().split('/').filter(|part| !matches!(*part, "" | "." | ".."));
        let mut file = inside.fold(Path::new(&root).to_owned(), |path, part| path.join(part));
        if file.is_dir() {
            let names: Vec<String> = json
                .get("index_names")
                .and_then(|names| caddis_config::decode(names.clone()).ok())
                .unwrap_or_else(|| vec!["index.html".to_owned(), "index.txt".to_owned()]);
            if let Some(index) =
                names.iter().map(|name| file.join(name)).find(|path| path.is_file())
            {
                file = index;
            } else if json.get("browse").is_some() {
                let text = format!("the list of the folder {}", file.display());
                return Went::Answered(Some(StatusCode::OK), text);
            }
        }
        self.note(format!("file {}", file.display()));
        let passes = json.get("pass_thru").and_then(Json::as_bool).unwrap_or_default();
        match self.served(json, ex) {
            Ok(response) => {
                let location = response.headers().get("location");
                let to = location.and_then(|value| value.to_str().ok());
                let file = || format!("the file {}", file.display());
                let text = to.map_or_else(file, |to| format!("redirect to {to}"));
                Went::Answered(Some(response.status()), text)
            }
            Err(error) if error.status == StatusCode::NOT_FOUND && passes => {
                self.note("there is no such file; the next handler's turn");
                Went::On
            }
            Err(error) if error.status == StatusCode::NOT_FOUND && error.message.is_empty() => {
                Went::Failed(HttpError::new(StatusCode::NOT_FOUND, "there is no such file"))
            }
            Err(error) => Went::Failed(error),
        }
    }

    /// What the file server itself answers, which only reads.
    fn served(&mut self, json: &Json, ex: &mut Exchange) -> Result<Response, HttpError> {
        let mut alone = json.clone();
        if let Some(object) = alone.as_object_mut() {
            object.remove("pass_thru");
        }
        let handler = self.cx.handler(&alone).map_err(HttpError::internal)?;
        let Handler::Middleware(server) = handler else {
            return Err(HttpError::status(StatusCode::NOT_FOUND));
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(HttpError::internal)?;
        let nothing = RouteList::default();
        runtime.block_on(server.handle(ex, Next::new(&nothing, None)))
    }

    /// What becomes of an answer that `intercept` handlers before it see, the nearest first.
    fn intercepted(&mut self, went: Went, ex: &mut Exchange) -> Went {
        let mut went = went;
        while let Some((list, path)) = self.intercepts.pop() {
            let Went::Answered(Some(status), _) = &went else { break };
            let handlers = list.get("handle_response").and_then(Json::as_array);
            let found = handlers.into_iter().flatten().enumerate().find(|(_, one)| {
                let matcher = one.get("match").cloned().unwrap_or_default();
                // What fields there are is not known.
                caddis_config::decode::<Option<ResponseMatcherConfig>>(matcher).is_ok_and(
                    |matcher| {
                        let matcher = matcher.unwrap_or_default();
                        matcher.headers.is_empty()
                            && ResponseMatcher::compile(&matcher)
                                .is_ok_and(|matcher| matcher.matches(*status, &HeaderMap::new()))
                    },
                )
            });
            let Some((at, one)) = found else { continue };
            if let Some(code) = one.get("status_code") {
                let text = code.as_str().map_or_else(|| code.to_string(), str::to_owned);
                let text = Template::parse(&text).render(ex).into_owned();
                let code = text.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
                if let (Some(code), Went::Answered(status, _)) = (code, &mut went) {
                    *status = Some(code);
                }
                continue;
            }
            let routes = one.get("routes").cloned().unwrap_or_default();
            let routes: Vec<Route> = caddis_config::decode(routes).unwrap_or_default();
            let path = path.map(|path| format!("{path}.handle_response.{at}.routes"));
            self.step("handler", "intercept".to_owned(), None, true)
                .why
                .push("handles this answer".into());
            match self.routes(&routes, path.as_deref().unwrap_or("-"), false, ex) {
                Went::On | Went::Terminal => {}
                other => went = other,
            }
        }
        went
    }
}

/// Whether a route is one handler that holds routes.
fn holds_routes(route: &Route) -> bool {
    let [only] = route.handle.as_slice() else { return false };
    only.get("handler").and_then(Json::as_str) == Some("subroute")
}

/// What a route is called where its place is unknown.
fn title(route: &Route) -> String {
    let names = route.handle.iter().filter_map(|handler| handler.get("handler")?.as_str());
    let names: Vec<_> = names.collect();
    if names.is_empty() { "(nothing)".to_owned() } else { names.join(", ") }
}

fn error_text(error: &HttpError) -> String {
    let phrase = status_text(error.status);
    if error.message.is_empty() {
        format!("{} {phrase}", error.status.as_u16())
    } else {
        format!("{} {phrase}: {}", error.status.as_u16(), error.message)
    }
}
