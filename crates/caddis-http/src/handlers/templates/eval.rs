//! Runs nodes. Nothing here waits: a file that is not loaded yet stops the run, and it begins anew
//! once the file is there.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use caddis_core::Exchange;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    functions, listing,
    parser::{Arg, List, Node, Pipe, parse},
    value::{FileStat, Object, Val},
};

/// Why a run ended.
#[derive(Debug)]
pub(super) enum Stop {
    /// A mistake in the template, or a function that failed.
    Text(String),
    /// `httpError`.
    Status(StatusCode),
    /// A file is to be loaded first.
    Need(Need),
    Break,
    Continue,
}

impl Stop {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

/// What is wanted: of the disk by path below the root, of the own server, of DNS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Need {
    Read(String),
    List(String),
    Stat(String),
    /// What the own server answers at a URI.
    Http(String),
    /// An address of a host.
    Host(String),
}

/// What the disk said.
#[derive(Debug, Clone)]
pub(super) enum Loaded {
    Text(Result<String, String>),
    Names(Result<Vec<String>, String>),
    Stat(Result<FileStat, String>),
}

/// Steps that a template may take.
const MAX_STEPS: u64 = 5_000_000;
/// The most that a template may print.
const MAX_OUTPUT: usize = 64 << 20;
/// Includes, templates and calls within each other.
const MAX_DEPTH: usize = 60;
/// Blocks and pipelines within each other, over all templates.
const MAX_NESTING: usize = 250;

/// One run.
pub(super) struct Run<'a> {
    pub(super) ex: &'a Exchange,
    pub(super) files: &'a HashMap<Need, Loaded>,
    pub(super) headers: RefCell<HeaderMap>,
    pub(super) delimiters: (&'a str, &'a str),
    defined: HashMap<String, Rc<List>>,
    variables: Vec<(String, Val)>,
    pub(super) steps: u64,
    depth: usize,
    nesting: usize,
    printed: usize,
    /// The name of the text that runs, and its arguments.
    name: String,
    arguments: Rc<Vec<Val>>,
    /// The dictionaries that were changed.
    changed: Vec<Rc<RefCell<BTreeMap<String, Val>>>>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        for map in &self.changed {
            drop(map.take());
        }
    }
}

type Res<T = Val> = Result<T, Stop>;

impl<'a> Run<'a> {
    pub(super) fn new(
        ex: &'a Exchange,
        files: &'a HashMap<Need, Loaded>,
        headers: HeaderMap,
        delimiters: (&'a str, &'a str),
    ) -> Self {
        Self {
            ex,
            files,
            headers: RefCell::new(headers),
            delimiters,
            defined: HashMap::new(),
            variables: Vec::new(),
            steps: 0,
            depth: 0,
            nesting: 0,
            printed: 0,
            name: String::new(),
            arguments: Rc::default(),
            changed: Vec::new(),
        }
    }

    /// Runs a text of this name with arguments; gives what it prints.
    pub(super) fn text(&mut self, name: &str, text: &str, args: Vec<Val>) -> Res<String> {
        let args = Rc::new(args);
        let outer = std::mem::replace(&mut self.arguments, args.clone());
        let result = self.data(name, text, Val::Object(Object::Context(args)));
        self.arguments = outer;
        result
    }

    /// The arguments of the text that runs.
    pub(super) fn given(&self) -> Vec<Val> {
        self.arguments.to_vec()
    }

    /// Runs a text with other data; gives what it prints.
    pub(super) fn data(&mut self, name: &str, text: &str, dot: Val) -> Res<String> {
        let mut parsed = parse(text, self.delimiters.0, self.delimiters.1)?;
        let main = Rc::new(parsed.main);
        // A text is a template, too, by its own name.
        parsed.defined.entry(name.to_owned()).or_insert_with(|| main.clone());
        let outer = std::mem::replace(&mut self.defined, parsed.defined);
        let outer_name = std::mem::replace(&mut self.name, name.to_owned());
        let result = self.body(&main, dot);
        self.defined = outer;
        self.name = outer_name;
        result
    }

    /// Adds the templates that a text defines; what is outside of those replaces the template that
    /// runs, for later calls of it.
    pub(super) fn import(&mut self, text: &str) -> Res<()> {
        let parsed = parse(text, self.delimiters.0, self.delimiters.1)?;
        let is_empty = parsed.main.iter().all(|node| match node {
            Node::Text(text) => text.trim().is_empty(),
            _ => false,
        });
        if !is_empty {
            self.defined.insert(self.name.clone(), Rc::new(parsed.main));
        }
        self.defined.extend(parsed.defined);
        Ok(())
    }

    /// Runs a list with variables of its own.
    fn body(&mut self, list: &List, dot: Val) -> Res<String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Stop::text("exceeded maximum template depth"));
        }
        let outer = std::mem::take(&mut self.variables);
        self.variables.push((String::new(), dot.clone()));
        let mut out = String::new();
        let result = self.list(list, &dot, &mut out);
        self.variables = outer;
        self.depth -= 1;
        result.map(|()| out)
    }

    /// Counts what functions work on, so that few calls with much to do are bounded, too.
    pub(super) fn charge(&mut self, values: &[Val], name: &str) -> Res<()> {
        let mut sum = 0;
        for value in values {
            sum += match value {
                Val::Str(text) => text.len() / 32,
                Val::List(_) | Val::Map(_) => {
                    let count = value.nested();
                    count.ok_or_else(|| Stop::text("values nest too deeply, or are too many"))? / 4
                }
                _ => 0,
            };
        }
        // Hashes of passwords take long by design.
        let slow = if matches!(name, "bcrypt" | "htpasswd") { MAX_STEPS / 20 } else { 0 };
        self.steps = self.steps.saturating_add(sum as u64).saturating_add(slow);
        self.step()
    }

    /// Keeps a dictionary that is changed until the run is over. Those nest as deep as they wish,
    /// as each may come into another one later, and are then taken apart one by one: dropping them
    /// within each other would take the stack.
    pub(super) fn will_change(&mut self, value: &Val) {
        if let Val::Map(map) = value {
            self.changed.push(map.clone());
        }
    }

    fn list(&mut self, list: &List, dot: &Val, out: &mut String) -> Res<()> {
        self.nested(|run| {
            for node in list {
                run.step()?;
                run.node(node, dot, out)?;
            }
            Ok(())
        })
    }

    /// Keeps the stack within bounds.
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(Stop::text("the template nests too deeply"));
        }
        let result = inner(self);
        self.nesting -= 1;
        result
    }

    fn step(&mut self) -> Res<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            Err(Stop::text("the template takes too many steps"))
        } else {
            Ok(())
        }
    }

    fn print(&mut self, text: &str, out: &mut String) -> Res<()> {
        self.printed += text.len();
        if self.printed > MAX_OUTPUT {
            return Err(Stop::text("the template prints too much"));
        }
        out.push_str(text);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Val, out: &mut String) -> Res<()> {
        match node {
            Node::Text(text) => self.print(text, out),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    let text = match &value {
                        Val::Object(Object::Url(original)) => {
                            self.target(*original).as_str().to_owned()
                        }
                        value => self.as_map(value).unwrap_or_else(|| value.clone()).text(),
                    };
                    self.print(&text, out)?;
                }
                Ok(())
            }
            Node::If(pipe, then, otherwise) => self.scoped(|run| {
                let chosen = if run.pipe(pipe, dot)?.truth() { then } else { otherwise };
                run.list(chosen, dot, out)
            }),
            Node::With(pipe, then, otherwise) => self.scoped(|run| {
                let value = run.pipe(pipe, dot)?;
                if value.truth() {
                    run.list(then, &value, out)
                } else {
                    run.list(otherwise, dot, out)
                }
            }),
            Node::Range(pipe, then, otherwise) => {
                self.scoped(|run| run.range(pipe, then, otherwise, dot, out))
            }
            Node::Template(name, pipe) => {
                let found = self.defined.get(name).cloned();
                let body =
                    found.ok_or_else(|| Stop::text(format!("template {name:?} not defined")))?;
                let value = match pipe {
                    Some(pipe) => self.pipe(pipe, dot)?,
                    None => Val::Nil,
                };
                let text = self.body(&body, value)?;
                self.print(&text, out)
            }
            Node::Break => Err(Stop::Break),
            Node::Continue => Err(Stop::Continue),
        }
    }

    /// Forgets the variables that are set inside.
    fn scoped<T>(&mut self, run: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        let mark = self.variables.len();
        let result = run(self);
        self.variables.truncate(mark);
        result
    }

    fn range(
        &mut self,
        pipe: &Pipe,
        then: &List,
        otherwise: &List,
        dot: &Val,
        out: &mut String,
    ) -> Res<()> {
        let value = self.commands(&pipe.commands, dot)?;
        let value = self.as_map(&value).unwrap_or(value);
        let items: Vec<(Val, Val)> = match &value {
            Val::Nil => Vec::new(),
            Val::List(items) => items
                .iter()
                .enumerate()
                .map(|(at, item)| (Val::Int(at as i64), item.clone()))
                .collect(),
            Val::Map(items) => {
                items.borrow().iter().map(|(key, item)| (Val::str(key), item.clone())).collect()
            }
            Val::Int(count) => {
                let count = (*count).clamp(0, MAX_STEPS as i64);
                (0..count).map(|at| (Val::Int(at), Val::Int(at))).collect()
            }
            Val::Int64(count) => {
                let count = (*count).clamp(0, MAX_STEPS as i64);
                (0..count).map(|at| (Val::Int64(at), Val::Int64(at))).collect()
            }
            other => return Err(Stop::text(format!("range can't iterate over {}", other.shown()))),
        };
        if items.is_empty() {
            return self.list(otherwise, dot, out);
        }
        for (key, item) in items {
            self.step()?;
            let mark = self.variables.len();
            match &*pipe.variables {
                [] => {}
                [one] => self.set(one, item.clone(), pipe.assigns)?,
                [one, two, ..] => {
                    self.set(one, key, pipe.assigns)?;
                    self.set(two, item.clone(), pipe.assigns)?;
                }
            }
            let result = self.list(then, &item, out);
            self.variables.truncate(mark);
            match result {
                Err(Stop::Break) => break,
                Ok(()) | Err(Stop::Continue) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Val, assigns: bool) -> Res<()> {
        if !assigns {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let slot = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        match slot {
            Some(slot) => slot.1 = value,
            None => return Err(Stop::text(format!("undefined variable \"${name}\""))),
        }
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Val) -> Res {
        let value = self.nested(|run| run.commands(&pipe.commands, dot))?;
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.assigns)?;
        }
        Ok(value)
    }

    fn commands(&mut self, commands: &[Vec<Arg>], dot: &Val) -> Res {
        let mut last = None;
        for command in commands {
            last = Some(self.command(command, dot, last.take())?);
        }
        Ok(last.unwrap_or(Val::Nil))
    }

    /// A command; `last` is what the command before it gave, and is its last argument.
    fn command(&mut self, command: &[Arg], dot: &Val, last: Option<Val>) -> Res {
        self.step()?;
        let Some((first, rest)) = command.split_first() else { return Ok(Val::Nil) };
        if let Arg::Function(name) = first {
            if let "and" | "or" = name.as_str() {
                return self.and_or(name == "and", rest, dot, last);
            }
            let args = self.args(rest, dot, last)?;
            return functions::call(self, name, &self.wholes(args));
        }
        let (base, chain) = match first {
            Arg::Field(chain) => (dot.clone(), chain.as_slice()),
            Arg::Variable(name, chain) => (self.variable(name)?, chain.as_slice()),
            Arg::Paren(pipe, chain) => (self.pipe(pipe, dot)?, chain.as_slice()),
            _ => (self.operand(first, dot)?, &[][..]),
        };
        let args = self.args(rest, dot, last)?;
        let Some((method, fields)) = chain.split_last() else {
            return match args.is_empty() {
                true => Ok(base),
                false => Err(Stop::text("can't give argument to non-function")),
            };
        };
        let mut value = base;
        for name in fields {
            value = self.field(&value, name, &[])?;
        }
        self.field(&value, method, &args)
    }

    fn args(&mut self, args: &[Arg], dot: &Val, last: Option<Val>) -> Res<Vec<Val>> {
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in args {
            values.push(self.operand(arg, dot)?);
        }
        values.extend(last);
        Ok(values)
    }

    fn and_or(&mut self, and: bool, args: &[Arg], dot: &Val, last: Option<Val>) -> Res {
        if args.is_empty() && last.is_none() {
            let name = if and { "and" } else { "or" };
            return Err(Stop::text(format!(
                "wrong number of args for {name}: want at least 1 got 0"
            )));
        }
        let mut value = Val::Nil;
        for arg in args {
            value = self.operand(arg, dot)?;
            if value.truth() != and {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn operand(&mut self, arg: &Arg, dot: &Val) -> Res {
        let (base, chain) = match arg {
            Arg::Dot => return Ok(dot.clone()),
            Arg::Literal(value) => return Ok(value.clone()),
            Arg::Function(name) => return functions::call(self, name, &[]),
            Arg::Field(chain) => (dot.clone(), chain),
            Arg::Variable(name, chain) => (self.variable(name)?, chain),
            Arg::Paren(pipe, chain) => (self.pipe(pipe, dot)?, chain),
        };
        let mut value = base;
        for name in chain {
            value = self.field(&value, name, &[])?;
        }
        Ok(value)
    }

    fn variable(&self, name: &str) -> Res {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        let found = found.map(|(_, value)| value.clone());
        found.ok_or_else(|| Stop::text(format!("undefined variable \"${name}\"")))
    }

    /// Header fields and queries as the dictionaries they are in Go.
    fn as_map(&self, value: &Val) -> Option<Val> {
        let mut items: BTreeMap<String, Vec<Val>> = BTreeMap::new();
        match value {
            Val::Object(Object::RequestHeader) => {
                for (name, value) in self.ex.request.headers.iter() {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    items.entry(canonical(name.as_str())).or_default().push(Val::str(&value));
                }
            }
            Val::Object(Object::ResponseHeader) => {
                for (name, value) in self.headers.borrow().iter() {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    items.entry(canonical(name.as_str())).or_default().push(Val::str(&value));
                }
            }
            Val::Object(Object::Query(original)) => {
                let query = self.target(*original).query().unwrap_or_default();
                for (name, value) in caddis_core::target::query_pairs(query) {
                    items.entry(name).or_default().push(Val::str(&value));
                }
            }
            _ => return None,
        }
        Some(Val::map(items.into_iter().map(|(key, values)| (key, Val::list(values))).collect()))
    }

    fn wholes(&self, args: Vec<Val>) -> Vec<Val> {
        args.into_iter().map(|value| self.as_map(&value).unwrap_or(value)).collect()
    }

    /// A field, a key of a map, or a method with its arguments.
    fn field(&mut self, value: &Val, name: &str, args: &[Val]) -> Res {
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

    fn object(&mut self, object: &Object, name: &str, args: &[Val]) -> Res {
        let text = |at: usize| args.get(at).map(Val::shown).unwrap_or_default();
        let ex = self.ex;
        match object {
            Object::Listing(listing) => {
                return match listing::field(listing, name) {
                    Some(value) => Ok(value),
                    None => self.object(&Object::Context(Rc::default()), name, args),
                };
            }
            Object::Item(listing, at) => return listing::item_field(listing, *at, name, args),
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
        Ok(match (object, name) {
            (Object::Server(server), "N") => {
                Val::Int(i64::try_from(server.number).unwrap_or(i64::MAX))
            }
            (Object::Server(server), "Port") => Val::Int(server.port.into()),
            (Object::Server(server), "Address") => Val::str(&server.address),
            (Object::Context(args), "Args") => Val::List(args.clone()),
            (Object::Context(_), "Req") => Val::Object(Object::Request(false)),
            (Object::Context(_), "OriginalReq") => Val::Object(Object::Request(true)),
            (Object::Context(_), "RespHeader") => Val::Object(Object::ResponseHeader),
            (Object::Context(_), "Cookie") => {
                let found = caddis_core::placeholder::cookie(&ex.request.headers, &text(0));
                Val::str(&found.unwrap_or_default())
            }
            (Object::Context(_), "Host") => Val::str(ex.host()),
            (Object::Context(_), "RemoteIP") => Val::str(
                &ex.connection
                    .remote
                    .map_or(String::new(), |remote| remote.ip().to_canonical().to_string()),
            ),
            (Object::Context(_), "ClientIP") => {
                Val::str(&ex.client_ip.map_or(String::new(), |ip| ip.to_string()))
            }
            (Object::Request(original), "URL") => Val::Object(Object::Url(*original)),
            (Object::Request(original), "Method") => Val::str(match original {
                true => ex.original.method.as_str(),
                false => ex.request.method.as_str(),
            }),
            (Object::Request(_), "Host") => Val::str(&ex.request.host),
            (Object::Request(_), "Header") => Val::Object(Object::RequestHeader),
            (Object::Request(_), "Proto") => {
                let (major, minor) = version(ex.request.version);
                Val::str(&format!("HTTP/{major}.{minor}"))
            }
            (Object::Request(_), "ProtoMajor") => Val::Int(version(ex.request.version).0),
            (Object::Request(_), "ProtoMinor") => Val::Int(version(ex.request.version).1),
            (Object::Request(_), "UserAgent") => header(&ex.request.headers, "user-agent"),
            (Object::Request(_), "Referer") => header(&ex.request.headers, "referer"),
            (Object::Request(_), "ContentLength") => {
                let length = header(&ex.request.headers, "content-length").shown();
                let unknown = if ex.request.chunked { -1 } else { 0 };
                Val::Int64(length.parse().unwrap_or(unknown))
            }
            (Object::Request(original), "FormValue") => {
                let query = self.target(*original).query().unwrap_or_default();
                let key = text(0);
                let found = caddis_core::target::query_pairs(query).find(|(name, _)| *name == key);
                Val::str(&found.map(|(_, value)| value).unwrap_or_default())
            }
            (Object::Request(_), "TLS") => match &ex.connection.tls {
                None => Val::Nil,
                Some(tls) => map_of([
                    ("Version", Val::Int(i64::from(tls.version))),
                    ("CipherSuite", Val::Int(i64::from(tls.cipher_suite))),
                    ("NegotiatedProtocol", Val::str(&tls.alpn)),
                    ("ServerName", Val::str(&tls.server_name)),
                    ("DidResume", Val::Bool(tls.resumed)),
                    ("HandshakeComplete", Val::Bool(true)),
                ]),
            },
            (Object::Request(_), "TransferEncoding") => match ex.request.chunked {
                true => Val::strings(["chunked"]),
                false => Val::list(Vec::new()),
            },
            (Object::Request(_), "Form" | "PostForm" | "Trailer") => Val::map(BTreeMap::new()),
            (Object::Request(_), "PathValue" | "Pattern") => Val::str(""),
            (Object::Version(version), "Major") => Val::Int64(version.major as i64),
            (Object::Version(version), "Minor") => Val::Int64(version.minor as i64),
            (Object::Version(version), "Patch") => Val::Int64(version.patch as i64),
            (Object::Version(version), "Prerelease") => Val::str(&version.prerelease),
            (Object::Version(version), "Metadata") => Val::str(&version.metadata),
            (Object::Version(version), "Original") => Val::str(&version.original),
            (Object::Version(version), "String") => Val::str(&version.to_string()),
            (Object::Version(version), "Compare" | "LessThan" | "GreaterThan" | "Equal") => {
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
            (Object::Request(_), "RequestURI") => Val::str(ex.original.target.as_str()),
            (Object::Request(_), "RemoteAddr") => {
                Val::str(&ex.connection.remote.map_or(String::new(), |remote| remote.to_string()))
            }
            (Object::Url(original), "Path") => Val::str(self.target(*original).path()),
            (Object::Url(original), "RawQuery") => {
                Val::str(self.target(*original).query().unwrap_or_default())
            }
            (Object::Url(original), "String" | "RequestURI") => {
                Val::str(self.target(*original).as_str())
            }
            (Object::Url(original), "EscapedPath") => {
                Val::str(self.target(*original).escaped_path())
            }
            (Object::Url(original), "Query") => Val::Object(Object::Query(*original)),
            (Object::Url(_), "IsAbs" | "ForceQuery" | "OmitHost") => Val::Bool(false),
            (Object::Url(_), "User") => Val::str(""),
            (Object::Url(original), "RawPath") => {
                let target = self.target(*original);
                let (path, escaped) = (target.path(), target.escaped_path());
                let plain = caddis_core::target::encode_path(path) == escaped;
                Val::str(if plain { "" } else { escaped })
            }
            (
                Object::Url(_),
                "Scheme" | "Host" | "Fragment" | "Hostname" | "Port" | "Opaque" | "RawFragment",
            ) => Val::str(""),
            (Object::Query(original), "Get" | "Has") => {
                let (key, query) = (text(0), self.target(*original).query().unwrap_or_default());
                let found = caddis_core::target::query_pairs(query).find(|(name, _)| *name == key);
                match name {
                    "Has" => Val::Bool(found.is_some()),
                    _ => Val::str(&found.map(|(_, value)| value).unwrap_or_default()),
                }
            }
            (Object::RequestHeader, "Get") => header(&ex.request.headers, &text(0)),
            (Object::RequestHeader, "Values") => headers(&ex.request.headers, &text(0)),
            (Object::ResponseHeader, "Get") => header(&self.headers.borrow(), &text(0)),
            (Object::ResponseHeader, "Values") => headers(&self.headers.borrow(), &text(0)),
            (Object::ResponseHeader, "Set" | "Add" | "Del") => {
                self.change_header(name, &text(0), &text(1));
                Val::str("")
            }
            (Object::File(stat), "Mode") => {
                let text = listing::mode(stat.mode);
                Val::Named("fs.FileMode", i64::from(stat.mode), text.into())
            }
            (Object::File(stat), "Name") => Val::str(&stat.name),
            (Object::File(stat), "Size") => {
                Val::Int64(i64::try_from(stat.size).unwrap_or(i64::MAX))
            }
            (Object::File(stat), "IsDir") => Val::Bool(stat.is_dir),
            (Object::File(stat), "ModTime") => stat.modified.map_or(Val::Nil, Val::Time),
            _ => return Err(Stop::text(format!("can't evaluate field {name}"))),
        })
    }

    fn target(&self, original: bool) -> &caddis_core::Target {
        if original { &self.ex.original.target } else { &self.ex.request.target }
    }

    fn change_header(&self, how: &str, name: &str, value: &str) {
        let Ok(name) = HeaderName::try_from(name) else { return };
        let mut headers = self.headers.borrow_mut();
        let Ok(value) = HeaderValue::try_from(value) else { return };
        match how {
            "Add" => {
                headers.append(name, value);
            }
            "Set" => {
                headers.insert(name, value);
            }
            _ => {
                headers.remove(name);
            }
        }
    }

    /// What the disk says, if it was asked before.
    pub(super) fn file(&self, need: Need) -> Res<&'a Loaded> {
        match self.files.get(&need) {
            Some(loaded) => Ok(loaded),
            None => Err(Stop::Need(need)),
        }
    }

    /// A file's text.
    pub(super) fn read(&self, path: &str) -> Res<&'a str> {
        match self.file(Need::Read(path.to_owned()))? {
            Loaded::Text(Ok(text)) => Ok(text),
            Loaded::Text(Err(error)) => Err(Stop::text(error.clone())),
            _ => Err(Stop::text("no text")),
        }
    }
}

fn version(version: http::Version) -> (i64, i64) {
    match version {
        http::Version::HTTP_10 => (1, 0),
        http::Version::HTTP_2 => (2, 0),
        http::Version::HTTP_3 => (3, 0),
        _ => (1, 1),
    }
}

/// A field's name as Go writes it.
fn canonical(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut start = true;
    for c in name.chars() {
        out.push(if start { c.to_ascii_uppercase() } else { c });
        start = c == '-';
    }
    out
}

fn header(headers: &HeaderMap, name: &str) -> Val {
    let found =
        headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Val::str(&found.unwrap_or_default())
}

fn headers(headers: &HeaderMap, name: &str) -> Val {
    let values = headers.get_all(name).iter();
    Val::list(values.map(|value| Val::str(&String::from_utf8_lossy(value.as_bytes()))).collect())
}

/// A map with these entries.
pub(super) fn map_of(items: impl IntoIterator<Item = (&'static str, Val)>) -> Val {
    Val::map(
        items.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
    )
}
