//! `{http.response.header.*}`: what is known of the response's fields at that moment.

use std::rc::Rc;

use caddis_core::{
    Exchange, Template, Value, exchange::PlaceholderSource, placeholder::header_value,
};
use http::{HeaderMap, HeaderName};

const PREFIX: &str = "http.response.header.";

struct Source(HeaderMap);

impl PlaceholderSource for Source {
    fn value(&self, key: &str, _: &Exchange) -> Option<Value<'static>> {
        let name = HeaderName::try_from(key.strip_prefix(PREFIX)?).ok()?;
        Some(header_value(&self.0, &name).into_owned())
    }
}

/// Whether one of the templates asks for a response field.
pub fn mentioned(templates: &[&Template]) -> bool {
    templates.iter().any(|template| template.keys().any(|key| key.starts_with(PREFIX)))
}

/// Offers these fields.
pub fn offer(ex: &mut Exchange, headers: &HeaderMap) {
    ex.add_source(PREFIX, Rc::new(Source(headers.clone())));
}

/// Offers the fields that were set before there is an answer.
pub(crate) fn offer_early(ex: &mut Exchange) {
    let headers = ex.early_headers.clone();
    ex.add_source(PREFIX, Rc::new(Source(headers)));
}
