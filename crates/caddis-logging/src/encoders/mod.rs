//! `caddy.logging.encoders.*`: an entry as a line.
//!
//! ```text
//! format console|json { <common options> }
//! format filter {
//!     wrap <encoder>
//!     fields { <path> <filter> … }
//! }
//! format append {
//!     wrap <encoder>
//!     fields { <key> <value> }
//! }
//! format journald { wrap <encoder> }
//! ```
//! JSON: `{"format": "filter", "wrap": {…}, "fields": {"request>uri": {"filter": "delete"}}}`.
//!
//! Encoders that wrap others become layers over the one that writes: a filter layer is a tree by
//! field path, an append layer adds fields that pass the layers below it.

mod json;
mod options;

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
};

use caddis_config::ConfigError;
use caddis_core::{Template, Value};
use serde::Deserialize;
use serde_json::Value as Json;

pub(crate) use options::local_offset;

use self::{
    json::{JsonWriter, Nodes},
    options::{LevelFormat, Options},
};
use crate::{
    field::{Caller, Entry, Field},
    filters::Node,
    writers::WriterPlan,
};

/// A compiled encoder.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    base: Base,
    /// Outermost first.
    layers: Vec<Layer>,
    journald: bool,
    /// Whether entries name the place in the source that logs.
    caller: bool,
}

#[derive(Debug, Clone)]
enum Base {
    /// To be decided by the writer.
    Auto,
    Json(Options),
    Console(Options),
}

#[derive(Debug, Clone)]
enum Layer {
    Filter(Node),
    Append(Vec<(String, Appended)>),
}

/// The value of an appended field.
#[derive(Debug, Clone)]
enum Appended {
    /// As written.
    Constant(Json),
    /// A placeholder of the clock, which is read for each entry.
    Clock(Template),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FilterConfig {
    #[serde(deserialize_with = "caddis_config::nullable")]
    wrap: Option<Json>,
    fields: BTreeMap<String, Json>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AppendConfig {
    #[serde(deserialize_with = "caddis_config::nullable")]
    wrap: Option<Json>,
    fields: BTreeMap<String, Json>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct JournaldConfig {
    #[serde(deserialize_with = "caddis_config::nullable")]
    wrap: Option<Json>,
}

/// Encoders wrapped deeper than this are refused.
const MAX_LAYERS: usize = 16;

impl Encoder {
    /// Compiles an encoder's JSON; none means the default of the writer.
    pub(crate) fn compile(json: Option<&Json>) -> Result<Self, ConfigError> {
        let mut encoder =
            Self { base: Base::Auto, layers: Vec::new(), journald: false, caller: false };
        let mut next = json.cloned();
        let mut depth = 0;
        while let Some(json) = next.take() {
            next = encoder.wrap(json)?;
            depth += 1;
            if depth > MAX_LAYERS {
                return Err(ConfigError::new("wrap", "encoders are nested too deeply"));
            }
        }
        if encoder.journald
            && let Base::Console(options) = &mut encoder.base
        {
            // The journal knows the time.
            options.time_key.clear();
        }
        Ok(encoder)
    }

    /// The same, with the place in the source where `caller` (spec O009).
    pub(crate) fn with_caller(self, caller: bool) -> Self {
        Self { caller, ..self }
    }

    /// Takes one encoder in; gives what it wraps.
    fn wrap(&mut self, json: Json) -> Result<Option<Json>, ConfigError> {
        let (format, json) = crate::plan::take_name(json, "format")?;
        match format.as_str() {
            "json" => {
                self.base = Base::Json(caddis_config::decode::<options::Config>(json)?.compile());
                Ok(None)
            }
            "console" => {
                let config: options::Config = caddis_config::decode(json)?;
                self.base = Base::Console(config.compile_console());
                Ok(None)
            }
            "filter" => {
                let config: FilterConfig = caddis_config::decode(json)?;
                let node = Node::compile(&config.fields).map_err(|e| e.under("fields"))?;
                self.layers.push(Layer::Filter(node));
                Ok(config.wrap)
            }
            "append" => {
                let config: AppendConfig = caddis_config::decode(json)?;
                let fields =
                    config.fields.into_iter().map(|(key, value)| (key, Appended::new(value)));
                self.layers.push(Layer::Append(fields.collect()));
                Ok(config.wrap)
            }
            "journald" => {
                self.journald = true;
                Ok(caddis_config::decode::<JournaldConfig>(json)?.wrap)
            }
            name => Err(ConfigError::new(
                "format",
                format!("unknown module: caddy.logging.encoders.{name}"),
            )),
        }
    }

    /// Decides what was left to the writer.
    pub(crate) fn resolve(mut self, writer: &WriterPlan) -> Self {
        if matches!(self.base, Base::Auto) {
            let terminal = match writer {
                WriterPlan::Stderr => std::io::stderr().is_terminal(),
                WriterPlan::Stdout => std::io::stdout().is_terminal(),
                _ => false,
            };
            self.base = if terminal {
                let mut options = options::Config::default().compile_console();
                if self.journald {
                    options.time_key.clear();
                }
                if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
                    options.level_format = LevelFormat::Upper;
                }
                Base::Console(options)
            } else {
                Base::Json(Options::default())
            };
        }
        self
    }

    /// Appends the entry as a line.
    pub(crate) fn encode(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        if self.journald {
            // Writing to memory cannot fail.
            let _ = write!(out, "<{}>", entry.level.priority());
        }
        match &self.base {
            Base::Console(options) => self.console(options, entry, out),
            Base::Json(options) => self.json(options, entry, out),
            Base::Auto => self.json(&Options::default(), entry, out),
        }
    }

    fn json(&self, options: &Options, entry: &Entry<'_>, out: &mut Vec<u8>) {
        let mut writer = JsonWriter { out, options, spaced: false };
        json::head(&mut writer, entry, self.caller(options, entry));
        self.fields(&mut writer, entry);
        writer.out.push(b'}');
        out.extend_from_slice(options.line_ending.as_bytes());
    }

    fn console(&self, options: &Options, entry: &Entry<'_>, out: &mut Vec<u8>) {
        let begin = out.len();
        // A tab stands between two parts, and none at the beginning.
        let part = |out: &mut Vec<u8>, text: &[u8]| {
            if out.len() > begin {
                out.push(b'\t');
            }
            out.extend_from_slice(text);
        };
        if !options.time_key.is_empty() {
            let time = options.time_text(entry.time).unwrap_or_else(|| {
                let nanos = entry.time.unix_timestamp_nanos();
                match options.time_format {
                    options::TimeFormat::Millis => exponential(nanos as f64 / 1e6),
                    options::TimeFormat::Nanos => nanos.to_string(),
                    _ => exponential(nanos as f64 / 1e9),
                }
            });
            part(out, time.as_bytes());
        }
        if !options.level_key.is_empty() {
            part(out, options.level(entry.level).as_bytes());
        }
        if !options.name_key.is_empty() && !entry.logger.is_empty() {
            part(out, entry.logger.as_bytes());
        }
        if let Some(caller) = self.caller(options, entry) {
            part(out, caller.to_string().as_bytes());
        }
        if !options.message_key.is_empty() {
            part(out, entry.message.as_bytes());
        }
        let end = out.len();
        part(out, b"{");
        let open = out.len();
        let mut writer = JsonWriter { out, options, spaced: true };
        self.fields(&mut writer, entry);
        if out.len() == open {
            out.truncate(end);
        } else {
            out.push(b'}');
        }
        out.extend_from_slice(options.line_ending.as_bytes());
    }

    fn caller<'e>(&self, options: &Options, entry: &Entry<'e>) -> Option<Caller<'e>> {
        entry.caller.filter(|_| self.caller && !options.caller_key.is_empty())
    }

    fn fields(&self, writer: &mut JsonWriter<'_>, entry: &Entry<'_>) {
        let nodes = self.nodes(0);
        entry.fields.fields(&mut |key, field| writer.field(key, field, &nodes));
        for (at, layer) in self.layers.iter().enumerate() {
            let Layer::Append(fields) = layer else { continue };
            let nodes = self.nodes(at);
            for (key, value) in fields {
                let now;
                let field = match value {
                    Appended::Constant(Json::String(text)) => Field::str(text),
                    Appended::Constant(json) => Field::Json(json),
                    Appended::Clock(template) => {
                        now = template.global_value();
                        now.as_ref().map_or(Field::Null, Field::of)
                    }
                };
                writer.field(key, field, &nodes);
            }
        }
    }

    /// The filters that a field of this layer passes.
    fn nodes(&self, from: usize) -> Nodes<'_> {
        self.layers[from..]
            .iter()
            .filter_map(|layer| match layer {
                Layer::Filter(node) => Some(node),
                Layer::Append(_) => None,
            })
            .collect()
    }
}

impl Appended {
    /// A text that is one placeholder as a whole is one; others are constants, as in Caddy.
    fn new(value: Json) -> Self {
        match value {
            Json::String(text)
                if text.starts_with('{')
                    && text.ends_with('}')
                    && text.matches('{').count() == 1 =>
            {
                let template = Template::parse(&text);
                if template.keys().all(|key| key.starts_with("time.")) {
                    return Self::Clock(template);
                }
                // Asked once: workers must not read files for each entry.
                match template.global_value() {
                    Some(Value::Str(text)) => Self::Constant(Json::String(text.into_owned())),
                    Some(Value::Int(number)) => Self::Constant(number.into()),
                    Some(Value::Float(number)) => Self::Constant(number.into()),
                    Some(Value::Bool(value)) => Self::Constant(value.into()),
                    Some(Value::List(items)) => Self::Constant(items.into()),
                    Some(Value::Null) | None => Self::Constant(Json::Null),
                }
            }
            other => Self::Constant(other),
        }
    }
}

/// A large number as Go prints it among other values: with an exponent of two digits.
fn exponential(number: f64) -> String {
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => {
            format!("{digits}e+{exponent:0>2}")
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests;
