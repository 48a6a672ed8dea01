//! What the handlers' tests share: adapting one directive, running compiled handlers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use caddis_core::{
    CompileCx, ConfigValue, DirectiveKind, Exchange, Helper, HttpError, Next, Registry, RouteList,
    State, directive::AdaptState, metrics::Metrics,
};
use http::{HeaderMap, StatusCode};
use serde_json::{Value as Json, json};

use super::{DIRECTIVES, HANDLERS};

/// An answer whose body was read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

pub(crate) fn registry() -> Registry {
    Registry {
        directives: DIRECTIVES.to_vec(),
        handlers: HANDLERS.to_vec(),
        matchers: crate::MATCHERS.to_vec(),
        other_ids: Vec::new(),
        parse_routes: |h| {
            // Enough for a block of handler directives.
            let mut routes = Vec::new();
            let nesting = h.d.nesting();
            while h.d.next_block(nesting) {
                let inner = h.d.new_from_next_segment();
                let outer = std::mem::replace(&mut h.d, inner);
                h.d.next();
                let name = h.d.val().to_owned();
                h.d.reset();
                let kind = h.registry.directive(&name).map(|directive| &directive.kind);
                let Some(DirectiveKind::Handler(parse)) = kind else {
                    return Err(h.d.err("unknown"));
                };
                let handler = parse(h)?;
                routes.push(caddis_config::Route { handle: vec![handler], ..Default::default() });
                h.d = outer;
            }
            Ok(routes)
        },
    }
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn parse(text: &str) -> Result<Vec<Json>, String> {
    let registry = registry();
    let tokens = caddis_caddyfile::tokenize("Caddyfile", text).map_err(|e| e.to_string())?;
    let name = tokens[0].text.to_string();
    let mut helper = Helper {
        d: caddis_caddyfile::Dispenser::new(tokens),
        registry: &registry,
        matchers: HashMap::new(),
        options: &BTreeMap::new(),
        shared: &mut AdaptState::default(),
        keys: &[],
    };
    let directive = registry.directive(&name).ok_or("no such directive")?;
    match directive.kind {
        DirectiveKind::Handler(parse) => {
            Ok(vec![json!({"handle": [parse(&mut helper).map_err(|e| e.to_string())?]})])
        }
        DirectiveKind::Values(parse) => parse(&mut helper)
            .map_err(|e| e.to_string())?
            .into_iter()
            .map(|value| match value {
                ConfigValue::Route(route) => serde_json::to_value(route).map_err(|e| e.to_string()),
                _ => Err("no route".to_owned()),
            })
            .collect(),
    }
}

/// The handler of a handler directive.
pub(crate) fn adapt(text: &str) -> Result<Json, String> {
    Ok(parse(text)?[0]["handle"][0].clone())
}

/// The routes of a directive.
pub(crate) fn adapt_values(text: &str) -> Result<Json, String> {
    Ok(Json::Array(parse(text)?))
}

fn compile(named: Option<&Json>, routes: &Json) -> Result<RouteList, String> {
    let (registry, state) = (registry(), State::default());
    let mut cx = CompileCx::new(&registry, &state, Arc::new(Metrics::default()));
    let mut list = |json: &Json| {
        let routes: Vec<caddis_config::Route> =
            serde_json::from_value(json.clone()).map_err(|e| e.to_string())?;
        Ok::<_, String>((cx.routes(&routes).map_err(|e| e.to_string())?, cx.named_routes.clone()))
    };
    let (compiled, _) = list(routes)?;
    if let Some(named) = named {
        let (compiled_named, slots) = list(named)?;
        if let Some(slot) = slots.get("n") {
            assert!(slot.set(compiled_named).is_ok());
        }
    }
    Ok(compiled)
}

pub(crate) fn compile_error(handler: &Json) -> String {
    compile(None, &json!([{"handle": [handler]}])).err().expect("an error")
}

pub(crate) fn compiled(directives: &[&str]) -> RouteList {
    let routes: Vec<_> = directives.iter().flat_map(|text| parse(text).expect("adapts")).collect();
    compile(None, &Json::Array(routes)).expect("compiles")
}

fn run_routes(routes: &RouteList, ex: &mut Exchange) -> Result<Answer, HttpError> {
    block_on(async {
        let mut response = Next::new(routes, None).run(ex).await?;
        while let Some(filter) = ex.response_filters.pop() {
            filter.apply(ex, &mut response);
        }
        let (head, body) = response.into_parts();
        let body = body.collect(usize::MAX).await.expect("a body");
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    })
}

pub(crate) fn run_in(directives: &[&str], ex: &mut Exchange) -> Result<Answer, HttpError> {
    run_routes(&compiled(directives), ex)
}

pub(crate) fn run_all(directives: &[&str], target: &str) -> Result<Answer, HttpError> {
    run_in(directives, &mut Exchange::for_test(target))
}

pub(crate) fn run(directive: &str, target: &str) -> Result<Answer, HttpError> {
    run_all(&[directive], target)
}

pub(crate) fn run_json(routes: &Json, target: &str) -> Result<Answer, HttpError> {
    let routes = compile(None, routes).expect("compiles");
    run_routes(&routes, &mut Exchange::for_test(target))
}

/// With one named route `n`.
pub(crate) fn run_json_named(
    named: &Json,
    routes: &Json,
    target: &str,
) -> Result<Answer, HttpError> {
    let routes = compile(Some(named), routes).expect("compiles");
    run_routes(&routes, &mut Exchange::for_test(target))
}
