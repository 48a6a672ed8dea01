//! `method` and `rewrite`: changes the request that goes to the upstream, not the client's.

use caddis_config::{ConfigError, Value};
use caddis_core::{Exchange, Target, Template};
use http::Method;

shape! {
    /// What is rewritten.
    struct RewriteConfig {
        /// Another method.
        pub method: String,
        /// Another path, query, or both.
        pub uri: String,
    }
}

/// Compiled rewriting.
#[derive(Debug, Default)]
pub(crate) struct Rewriting {
    method: Option<Template>,
    path: Option<Template>,
    query: Option<Template>,
}

impl Rewriting {
    /// Compiles it; `None` where there is nothing to do.
    pub(crate) fn compile(json: &Value) -> Result<Option<Self>, ConfigError> {
        if json.is_null() {
            return Ok(None);
        }
        let config: RewriteConfig = caddis_config::decode(json.clone())?;
        let template = |text: &str| (!text.is_empty()).then(|| Template::parse(text));
        let (path, query) =
            config.uri.split_once('?').map_or((config.uri.as_str(), None), |(p, q)| (p, Some(q)));
        Ok(Some(Self {
            method: template(&config.method),
            path: template(path),
            query: query.map(Template::parse),
        }))
    }

    /// The method and target for the upstream.
    pub(crate) fn apply(&self, ex: &mut Exchange) -> (Method, Target) {
        let method = self
            .method
            .as_ref()
            .and_then(|method| Method::from_bytes(method.render(ex).to_uppercase().as_bytes()).ok())
            .unwrap_or_else(|| ex.request.method.clone());
        let mut target = ex.request.target.clone();
        if let Some(path) = &self.path {
            let rendered = path.render(ex);
            let (path, query) =
                rendered.split_once('?').map_or((&*rendered, None), |(p, q)| (p, Some(q)));
            target.set_escaped_path(path);
            if query.is_some() {
                target.set_query(query);
            }
        }
        if let Some(query) = &self.query {
            target.set_query(Some(&query.render(ex)));
        }
        (method, target)
    }
}
