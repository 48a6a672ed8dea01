//! Directory listings (spec D077–D081): HTML by default, JSON or plain text if the client asks
//! for these.

mod listing;
mod page;

use std::{rc::Rc, sync::Arc, time::SystemTime};

use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Exchange, HttpError, Response, Result, Template, placeholder::cookie,
    target::query_pairs,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use self::listing::{Failure, Listing, Order};
use super::{base, config::BrowseConfig, hide::Rules, lookup::whole_seconds, response::redirect};
use crate::{
    handlers::{
        support::{date_time, field_value},
        templates,
    },
    path::clean,
};

pub(crate) use self::page::human_size;

/// A template that makes the page which there is without one, to start one's own from.
pub const TEMPLATE: &str = include_str!("page.html");

const DEFAULT_LIMIT: usize = 10_000;

/// Compiled settings.
pub(super) struct Browse {
    reveal_symlinks: bool,
    limit: usize,
    order: Order,
    /// Whether criterion and direction are set; what a client chose before does not count then.
    given: (bool, bool),
    /// The file of the page's template, which is read for each listing.
    template: Option<Arc<str>>,
}

impl Browse {
    pub(super) fn compile(
        config: BrowseConfig,
        cx: &mut CompileCx<'_>,
    ) -> std::result::Result<Self, ConfigError> {
        let bad = |message| ConfigError::new("browse.sort", message);
        if config.sort.len() > 2 {
            let count = config.sort.len();
            return Err(bad(format!("only max 2 sort options are allowed, but got {count}")));
        }
        // Templates may ask the server itself.
        cx.asks_own_server |= !config.template_file.is_empty();
        let mut order = Order::default();
        if let Some(by) = config.sort.first()
            && !order.set_by(by)
        {
            return Err(bad(format!(
                "the first option must be one of the following: name, size, time, \
                 namedirfirst, but got {by}"
            )));
        }
        if let Some(direction) = config.sort.get(1)
            && !order.set_direction(direction)
        {
            return Err(bad(format!(
                "the second option must be one of the following: asc, desc, but got {direction}"
            )));
        }
        let limit = usize::try_from(config.file_limit).ok().filter(|limit| *limit > 0);
        Ok(Self {
            reveal_symlinks: config.reveal_symlinks,
            limit: limit.unwrap_or(DEFAULT_LIMIT),
            order,
            given: (!config.sort.is_empty(), config.sort.len() > 1),
            template: (!config.template_file.is_empty()).then(|| config.template_file.into()),
        })
    }

    /// The listing; `None` where the directory is hidden or gone.
    pub(super) async fn serve(
        &self,
        ex: &mut Exchange,
        directory: String,
        hide: Arc<Rules>,
        root: &Template,
    ) -> Result<Option<Response>> {
        if hide.hides(&directory) {
            return Ok(None);
        }
        let original = ex.original.target.path();
        let current = ex.request.target.path();
        if (current.is_empty() || base(original) == base(current)) && !original.ends_with('/') {
            let to = format!("{original}/");
            return Ok(Some(redirect(ex, &to)));
        }
        let (reveal, limit) = (self.reveal_symlinks, self.limit);
        let read =
            tokio::task::spawn_blocking(move || listing::read(&directory, &hide, reveal, limit));
        let listing = match read.await.map_err(HttpError::internal)? {
            Ok(listing) => listing,
            Err(Failure::Gone) => return Ok(None),
            Err(Failure::Forbidden(error)) => {
                return Err(HttpError::new(StatusCode::FORBIDDEN, error));
            }
            Err(Failure::Other(error)) => return Err(HttpError::internal(error)),
        };
        Ok(Some(self.respond(ex, listing, root).await?))
    }

    async fn respond(
        &self,
        ex: &mut Exchange,
        mut listing: Listing,
        root: &Template,
    ) -> Result<Response> {
        const VARY: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding");
        ex.early_headers.append(header::VARY, VARY);
        let modified = listing.modified.and_then(whole_seconds);
        if is_fresh(&ex.request.headers, modified) {
            return Ok(ex.respond(StatusCode::NOT_MODIFIED));
        }
        let query = Query::read(ex, self.order, self.given);
        listing.sort(query.order);
        listing.cut(query.offset, query.limit);
        for cookie in &query.cookies {
            ex.early_headers.append(header::SET_COOKIE, field_value(cookie));
        }
        let accept = accept(&ex.request.headers);
        let (kind, body) = if accept.contains("application/json") {
            ("application/json; charset=utf-8", listing.json())
        } else if accept.contains("text/plain") {
            ("text/plain; charset=utf-8", page::text(&listing))
        } else if let Some(file) = &self.template {
            let text = read_template(file.clone()).await?;
            let data = template_data(ex, listing, &query);
            let (text, headers) = templates::listing::run(ex, &text, Rc::new(data), root).await?;
            ex.early_headers.extend(headers);
            ("text/html; charset=utf-8", text)
        } else {
            let path = ex.request.target.path();
            ("text/html; charset=utf-8", page::html(&listing, path, query.order, query.grid))
        };
        let mut response = ex.respond(StatusCode::OK);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(modified) = modified {
            headers.insert(header::LAST_MODIFIED, field_value(&httpdate::fmt_http_date(modified)));
        }
        *response.body_mut() = body.into();
        Ok(response)
    }
}

async fn read_template(file: Arc<str>) -> Result<String> {
    let read = tokio::task::spawn_blocking(move || std::fs::read(&*file));
    let bytes = read.await.map_err(HttpError::internal)?;
    let bytes = bytes.map_err(|error| {
        HttpError::internal(format_args!(
            "parsing browse template: parsing browse template file: {error}"
        ))
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn template_data(ex: &Exchange, listing: Listing, query: &Query) -> templates::listing::Listing {
    let path = ex.request.target.path();
    let name = base(path);
    let items = listing.items.into_iter().map(|item| templates::listing::Item {
        name: item.name,
        size: item.size,
        url: item.url,
        modified: date_time(item.modified),
        mode: item.mode,
        is_dir: item.is_dir,
        is_symlink: item.is_symlink,
        symlink_path: item.symlink_path,
    });
    templates::listing::Listing {
        name: if name.is_empty() { "/" } else { name }.to_owned(),
        path: clean(ex.request.target.escaped_path()).into_owned(),
        can_go_up: !path.trim_matches('/').is_empty(),
        items: items.collect(),
        directories: listing.directories,
        files: listing.files,
        total_size: listing.size,
        total_size_followed: listing.size_followed,
        offset: query.offset,
        limit: query.limit,
        sort: query.order.by.name(),
        order: query.order.direction(),
        layout: query.layout.clone(),
    }
}

fn is_fresh(headers: &HeaderMap, modified: Option<SystemTime>) -> bool {
    let since = headers.get(header::IF_MODIFIED_SINCE).and_then(|since| since.to_str().ok());
    let since = since.and_then(|since| httpdate::parse_http_date(since).ok());
    since.zip(modified).is_some_and(|(since, modified)| modified <= since)
}

fn accept(headers: &HeaderMap) -> String {
    let all = headers.get_all(header::ACCEPT).iter();
    let all: Vec<_> = all.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    all.join(",").to_lowercase()
}

/// What the client asks of the listing.
struct Query {
    order: Order,
    grid: bool,
    layout: String,
    offset: usize,
    limit: usize,
    /// The choice is remembered.
    cookies: Vec<String>,
}

impl Query {
    fn read(ex: &Exchange, mut order: Order, given: (bool, bool)) -> Self {
        let pairs: Vec<_> = query_pairs(ex.request.target.query().unwrap_or_default()).collect();
        let first = |name: &str| {
            let found = pairs.iter().find(|(key, _)| key == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let secure = match ex.connection.tls {
            Some(_) => "; Secure",
            None => "",
        };
        let mut cookies = Vec::new();
        let remembered = |name: &str| cookie(&ex.request.headers, name).unwrap_or_default();
        match first("sort") {
            "" if given.0 => cookies.push(format!("sort={}{secure}", order.by.name())),
            "" => {
                order.set_by(&remembered("sort"));
            }
            by => {
                if order.set_by(by) {
                    cookies.push(format!("sort={by}{secure}"));
                }
            }
        }
        match first("order") {
            "" if given.1 => cookies.push(format!("order={}{secure}", order.direction())),
            "" => {
                order.set_direction(&remembered("order"));
            }
            direction => {
                if order.set_direction(direction) {
                    cookies.push(format!("order={direction}{secure}"));
                }
            }
        }
        Self {
            order,
            grid: first("layout") == "grid",
            layout: match first("layout") {
                layout @ ("" | "list" | "grid") => layout.to_owned(),
                _ => "list".to_owned(),
            },
            offset: first("offset").parse().unwrap_or(0),
            limit: first("limit").parse().unwrap_or(0),
            cookies,
        }
    }
}
