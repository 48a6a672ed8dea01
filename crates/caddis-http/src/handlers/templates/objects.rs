//! Fields and methods: what a template finds behind a point.

use std::{collections::BTreeMap, rc::Rc};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    eval::{Res, Run, Stop},
    functions::{self, Version},
    listing,
    value::{FileStat, Object, ServerData, Val},
};
use crate::handlers::support::canonical;

impl Run<'_> {
    /// A field, a key of a map, or a method with its arguments.
    pub(super) fn field(&mut self, value: &Val, name: &str, args: &[Val]) -> Res {
        match value {
            Val::Map(_) if !args.is_empty() => {
                Err(Stop::text(format!("{name} is not a method but has arguments")))
            }
            Val::Map(items) => Ok(items.borrow().get(name).cloned().unwrap_or(Val::Nil)),
            Val::Duration(nanos) => functions::duration_method(*nanos, name),
            Val::Named(_, _, text) if name == "String" => Ok(Val::str(text)),
            Val::Time(time) => functions::time_method(time, name, args),
            Val::Object(object) => self.object(object, name, args),
            Val::Nil => Err(Stop::text(format!("nil pointer evaluating interface {{}}.{name}"))),
            other => {
                Err(Stop::text(format!("can't evaluate field {name} in type {}", other.kind())))
            }
        }
    }

    /// Header fields and queries as the dictionaries they are in Go.
    pub(super) fn as_map(&self, value: &Val) -> Option<Val> {
        let items = match value {
            Val::Object(Object::RequestHeader) => header_lists(&self.ex.request.headers),
            Val::Object(Object::ResponseHeader) => header_lists(&self.headers.borrow()),
            Val::Object(Object::Query(original)) => {
                let mut items: BTreeMap<String, Vec<Val>> = BTreeMap::new();
                let query = self.target(*original).query().unwrap_or_default();
                for (name, value) in caddis_core::target::query_pairs(query) {
                    items.entry(name).or_default().push(Val::str(&value));
                }
                items
            }
            _ => return None,
        };
        Some(Val::map(items.into_iter().map(|(key, values)| (key, Val::list(values))).collect()))
    }

    /// What is asked for; before rewrites if `original`.
    pub(super) fn target(&self, original: bool) -> &caddis_core::Target {
        if original { &self.ex.original.target } else { &self.ex.request.target }
    }

    fn object(&mut self, object: &Object, name: &str, args: &[Val]) -> Res {
        match object {
            Object::Listing(listing) => {
                return match listing::field(listing, name) {
                    Some(value) => Ok(value),
                    None => self.object(&Object::Context(Rc::default()), name, args),
                };
            }
            Object::Item(listing, at) => return listing::item_field(listing, *at, name, args),
            Object::Server(server) => return server_field(server, name),
            _ => {}
        }
        let wanted = match name {
            "Cookie" | "Get" | "Has" | "Values" | "Del" | "FormValue" | "PathValue" => 1,
            "Compare" | "LessThan" | "GreaterThan" | "Equal" => 1,
            "Set" | "Add" => 2,
            _ => 0,
        };
        if args.len() != wanted {
            let got = args.len();
            return Err(Stop::text(format!(
                "wrong number of args for {name}: want {wanted} got {got}"
            )));
        }
        self.charge(args, name)?;
        let found = match object {
            Object::Context(given) => self.of_context(given, name, args),
            Object::Request(original) => self.of_request(*original, name, args),
            Object::Url(original) => self.of_url(*original, name),
            Object::Query(original) => match name {
                "Get" => Some(Val::str(&self.query(*original, args).unwrap_or_default())),
                "Has" => Some(Val::Bool(self.query(*original, args).is_some())),
                _ => None,
            },
            Object::RequestHeader => of_header(&self.ex.request.headers, name, args),
            Object::ResponseHeader => match name {
                "Set" | "Add" | "Del" => {
                    change_header(&mut self.headers.borrow_mut(), name, args)?;
                    Some(Val::str(""))
                }
                _ => of_header(&self.headers.borrow(), name, args),
            },
            Object::File(stat) => of_file(stat, name),
            Object::Version(version) => of_version(version, name, args)?,
            Object::Listing(_) | Object::Item(..) | Object::Server(_) => None,
        };
        found.ok_or_else(|| Stop::text(format!("can't evaluate field {name}")))
    }

    /// The data of every template.
    fn of_context(&self, given: &Rc<Vec<Val>>, name: &str, args: &[Val]) -> Option<Val> {
        let ex = self.ex;
        Some(match name {
            "Args" => Val::List(given.clone()),
            "Req" => Val::Object(Object::Request(false)),
            "OriginalReq" => Val::Object(Object::Request(true)),
            "RespHeader" => Val::Object(Object::ResponseHeader),
            "Cookie" => {
                let found = caddis_core::placeholder::cookie(&ex.request.headers, &text(args, 0));
                Val::str(&found.unwrap_or_default())
            }
            "Host" => Val::str(ex.host()),
            "RemoteIP" => {
                let remote = ex.connection.remote.map(|remote| remote.ip().to_canonical());
                Val::str(&remote.map_or(String::new(), |ip| ip.to_string()))
            }
            "ClientIP" => Val::str(&ex.client_ip.map_or(String::new(), |ip| ip.to_string())),
            _ => return None,
        })
    }

    fn of_request(&self, original: bool, name: &str, args: &[Val]) -> Option<Val> {
        let ex = self.ex;
        let request = &ex.request;
        Some(match name {
            "URL" => Val::Object(Object::Url(original)),
            "Method" if original => Val::str(ex.original.method.as_str()),
            "Method" => Val::str(request.method.as_str()),
            "Host" => Val::str(&request.host),
            "Header" => Val::Object(Object::RequestHeader),
            "Proto" => {
                let (major, minor) = version(request.version);
                Val::str(&format!("HTTP/{major}.{minor}"))
            }
            "ProtoMajor" => Val::Int(version(request.version).0),
            "ProtoMinor" => Val::Int(version(request.version).1),
            "UserAgent" => header(&request.headers, "user-agent"),
            "Referer" => header(&request.headers, "referer"),
            "ContentLength" => {
                let length = header(&request.headers, "content-length").shown();
                let unknown = if request.chunked { -1 } else { 0 };
                Val::Int64(length.parse().unwrap_or(unknown))
            }
            "FormValue" => Val::str(&self.query(original, args).unwrap_or_default()),
            "TLS" => match &ex.connection.tls {
                None => Val::Nil,
                Some(tls) => Val::map_of([
                    ("Version", Val::Int(i64::from(tls.version))),
                    ("CipherSuite", Val::Int(i64::from(tls.cipher_suite))),
                    ("NegotiatedProtocol", Val::str(&tls.alpn)),
                    ("ServerName", Val::str(&tls.server_name)),
                    ("DidResume", Val::Bool(tls.resumed)),
                    ("HandshakeComplete", Val::Bool(true)),
                ]),
            },
            "TransferEncoding" if request.chunked => Val::strings(["chunked"]),
            "TransferEncoding" => Val::list(Vec::new()),
            "Form" | "PostForm" | "Trailer" => Val::map(BTreeMap::new()),
            "PathValue" | "Pattern" => Val::str(""),
            "RequestURI" => Val::str(ex.original.target.as_str()),
            "RemoteAddr" => {
                let remote = ex.connection.remote;
                Val::str(&remote.map_or(String::new(), |remote| remote.to_string()))
            }
            _ => return None,
        })
    }

    fn of_url(&self, original: bool, name: &str) -> Option<Val> {
        let target = self.target(original);
        Some(match name {
            "Path" => Val::str(target.path()),
            "RawQuery" => Val::str(target.query().unwrap_or_default()),
            "String" | "RequestURI" => Val::str(target.as_str()),
            "EscapedPath" => Val::str(target.escaped_path()),
            "Query" => Val::Object(Object::Query(original)),
            "IsAbs" | "ForceQuery" | "OmitHost" => Val::Bool(false),
            "RawPath" => {
                let (path, escaped) = (target.path(), target.escaped_path());
                let plain = caddis_core::target::encode_path(path) == escaped;
                Val::str(if plain { "" } else { escaped })
            }
            "User" | "Scheme" | "Host" | "Fragment" | "Hostname" | "Port" | "Opaque"
            | "RawFragment" => Val::str(""),
            _ => return None,
        })
    }

    /// The first value of a key of the query.
    fn query(&self, original: bool, args: &[Val]) -> Option<String> {
        let query = self.target(original).query().unwrap_or_default();
        let key = text(args, 0);
        let found = caddis_core::target::query_pairs(query).find(|(name, _)| *name == key);
        found.map(|(_, value)| value)
    }
}

fn text(args: &[Val], at: usize) -> String {
    args.get(at).map(Val::shown).unwrap_or_default()
}

fn of_header(headers: &HeaderMap, name: &str, args: &[Val]) -> Option<Val> {
    match name {
        "Get" => Some(header(headers, &text(args, 0))),
        "Values" => {
            let values = headers.get_all(&*text(args, 0)).iter();
            Some(Val::list(values.map(header_text).collect()))
        }
        _ => None,
    }
}

fn of_file(stat: &FileStat, name: &str) -> Option<Val> {
    Some(match name {
        "Mode" => {
            let text = listing::mode(stat.mode);
            Val::Named("fs.FileMode", i64::from(stat.mode), text.into())
        }
        "Name" => Val::str(&stat.name),
        "Size" => Val::Int64(i64::try_from(stat.size).unwrap_or(i64::MAX)),
        "IsDir" => Val::Bool(stat.is_dir),
        "ModTime" => stat.modified.map_or(Val::Nil, Val::Time),
        _ => return None,
    })
}

fn of_version(version: &Version, name: &str, args: &[Val]) -> Res<Option<Val>> {
    Ok(Some(match name {
        "Major" => Val::Int64(version.major.cast_signed()),
        "Minor" => Val::Int64(version.minor.cast_signed()),
        "Patch" => Val::Int64(version.patch.cast_signed()),
        "Prerelease" => Val::str(&version.prerelease),
        "Metadata" => Val::str(&version.metadata),
        "Original" => Val::str(&version.original),
        "String" => Val::str(&version.to_string()),
        "Compare" | "LessThan" | "GreaterThan" | "Equal" => {
            let Some(Val::Object(Object::Version(other))) = args.first() else {
                return Err(Stop::text(format!("wrong type for value of {name}")));
            };
            let order = version.order(other);
            match name {
                "Compare" => Val::Int(order as i64),
                "LessThan" => Val::Bool(order.is_lt()),
                "GreaterThan" => Val::Bool(order.is_gt()),
                _ => Val::Bool(order.is_eq()),
            }
        }
        _ => return Ok(None),
    }))
}

/// Changes the answer's fields; what is no name or no value changes nothing, as in Caddy, which
/// then sends nothing of it.
fn change_header(headers: &mut HeaderMap, how: &str, args: &[Val]) -> Res<()> {
    let Ok(name) = HeaderName::try_from(text(args, 0)) else { return Ok(()) };
    let Ok(value) = HeaderValue::try_from(text(args, 1)) else { return Ok(()) };
    let full = |_| Stop::text("too many header fields");
    match how {
        "Add" => drop(headers.try_append(name, value).map_err(full)?),
        "Set" => drop(headers.try_insert(name, value).map_err(full)?),
        _ => drop(headers.remove(name)),
    }
    Ok(())
}

fn version(version: http::Version) -> (i64, i64) {
    match version {
        http::Version::HTTP_10 => (1, 0),
        http::Version::HTTP_2 => (2, 0),
        http::Version::HTTP_3 => (3, 0),
        _ => (1, 1),
    }
}

fn header(headers: &HeaderMap, name: &str) -> Val {
    headers.get(name).map_or_else(|| Val::str(""), header_text)
}

fn header_text(value: &HeaderValue) -> Val {
    Val::str(&String::from_utf8_lossy(value.as_bytes()))
}

/// What the body of `caddis respond` may ask its server for.
fn server_field(server: &ServerData, name: &str) -> Res {
    Ok(match name {
        "N" => Val::Int(i64::try_from(server.number).unwrap_or(i64::MAX)),
        "Port" => Val::Int(server.port.into()),
        "Address" => Val::str(&server.address),
        _ => {
            let kind = "struct { N int; Port uint; Address string }";
            return Err(Stop::text(format!("can't evaluate field {name} in type {kind}")));
        }
    })
}

fn header_lists(headers: &HeaderMap) -> BTreeMap<String, Vec<Val>> {
    let mut items: BTreeMap<String, Vec<Val>> = BTreeMap::new();
    for (name, value) in headers {
        items.entry(canonical(name.as_str()).into_owned()).or_default().push(header_text(value));
    }
    items
}
