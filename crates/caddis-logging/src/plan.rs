//! The `logging` object, compiled: logs, what they accept, how they write. Nothing is opened here.

use std::collections::BTreeMap;

use caddis_config::{ConfigError, CustomLog};
use caddis_core::{Template, template::Unknown};
use serde_json::Value as Json;

use crate::{Level, encoders::Encoder, sampling::SamplingPlan, writers::WriterPlan};

/// All logs of a configuration.
#[derive(Debug, Clone)]
pub struct LoggingPlan {
    pub(crate) logs: Vec<LogPlan>,
}

#[derive(Debug, Clone)]
pub(crate) struct LogPlan {
    pub(crate) name: String,
    pub(crate) rules: Rules,
    pub(crate) level: Level,
    pub(crate) sampling: Option<SamplingPlan>,
    pub(crate) encoder: Encoder,
    pub(crate) writer: WriterPlan,
}

/// Which loggers a log takes entries from: the longest matching name decides.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(crate) include: Vec<String>,
    exclude: Vec<String>,
}

/// Compiles the `logging` object. There is always a log `default`.
///
/// # Errors
/// An unknown module, level or field; include and exclude lists that contradict each other.
pub fn compile(config: &Option<caddis_config::Logging>) -> Result<LoggingPlan, ConfigError> {
    let none = BTreeMap::new();
    let configured = config.as_ref().map_or(&none, |config| &config.logs);
    let mut logs = Vec::with_capacity(configured.len() + 1);
    if !configured.contains_key("default") {
        logs.push(log("default", &CustomLog::default())?);
    }
    for (name, config) in configured {
        let compiled = log(name, config);
        logs.push(compiled.map_err(|error| {
            let which = match name.as_str() {
                "default" => "setting up default log".to_owned(),
                name => format!("setting up custom log '{name}'"),
            };
            let message = format!("{which}: {}", error.message);
            ConfigError { message, ..error }.under(format!("logging.logs.{name}"))
        })?);
    }
    if let Some(sink) = config.as_ref().and_then(|config| config.sink.as_ref()) {
        // There is no unstructured log to redirect; the object is checked all the same.
        WriterPlan::compile(sink.writer.as_ref())
            .map_err(|error| explain(error, "writer", "loading sink log writer module"))
            .map_err(|error| error.under("logging.sink"))?;
    }
    // A log that writes nowhere needs no work.
    logs.retain(|log| log.writer != WriterPlan::Discard);
    Ok(LoggingPlan { logs })
}

fn log(name: &str, config: &CustomLog) -> Result<LogPlan, ConfigError> {
    let text = Template::render_global(&config.level, Unknown::Keep);
    let level = Level::parse(&text).ok_or_else(|| {
        ConfigError::new("level", format!("unrecognized log level: {}", text.to_lowercase()))
    })?;
    let rules = Rules { include: config.include.clone(), exclude: config.exclude.clone() };
    rules.check()?;
    let writer = WriterPlan::compile(config.writer.as_ref())
        .map_err(|error| explain(error, "writer", "loading log writer module"))?;
    let encoder = Encoder::compile(config.encoder.as_ref())
        .map_err(|error| explain(error, "encoder", "loading log encoder module"))?
        .with_caller(config.with_caller);
    if let Some(core) = &config.core {
        let module = core.get("module").and_then(Json::as_str).unwrap_or_default();
        return Err(ConfigError::new(
            "core.module",
            format!("unknown module: caddy.logging.cores.{module}"),
        ));
    }
    let sampling = config.sampling.as_ref().map(SamplingPlan::new);
    Ok(LogPlan { name: name.to_owned(), rules, level, sampling, encoder, writer })
}

fn explain(error: ConfigError, path: &str, doing: &str) -> ConfigError {
    let message = format!("{doing}: {}", error.message);
    ConfigError { message, ..error }.under(path)
}

/// Takes the inline key off a module's JSON; gives the module's name and the rest.
///
/// # Errors
/// No name: a module that is `null` or empty is not one that is absent, as in Caddy.
pub(crate) fn take_name(mut json: Json, key: &str) -> Result<(String, Json), ConfigError> {
    let name = json.as_object_mut().and_then(|object| object.remove(key));
    let name = name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    if name.is_empty() {
        let message = format!("module name not specified with key '{key}'");
        return Err(ConfigError::new(if json.is_object() { key } else { "" }, message));
    }
    Ok((name, json))
}

impl Rules {
    fn check(&self) -> Result<(), ConfigError> {
        if self.include.is_empty() || self.exclude.is_empty() {
            return Ok(());
        }
        for allow in &self.include {
            if self.exclude.contains(allow) {
                return Err(ConfigError::new(
                    "include",
                    format!(
                        "include and exclude must not intersect, but found {allow} in both lists"
                    ),
                ));
            }
            let nested = |deny: &String| within(allow, deny) || within(deny, allow);
            if !self.exclude.iter().any(nested) {
                return Err(ConfigError::new(
                    "include",
                    format!(
                        "when both include and exclude are populated, each element must be a \
                         superspace or subspace of one in the other list; check '{allow}' in include"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Whether entries of this logger are taken.
    pub(crate) fn accept(&self, logger: &str) -> bool {
        if self.include.is_empty() && self.exclude.is_empty() {
            return true;
        }
        let longest = |names: &[String]| {
            let matching = names.iter().filter(|name| within(logger, name));
            matching.map(String::len).max().unwrap_or(0)
        };
        let accepted = longest(&self.include);
        if !self.include.is_empty() && accepted == 0 {
            return false;
        }
        let special = |name: &String| match name.as_str() {
            "*" => true,
            "." => logger.is_empty(),
            _ => false,
        };
        if self.exclude.iter().any(special) {
            return false;
        }
        let rejected = longest(&self.exclude);
        accepted > rejected || (self.include.is_empty() && rejected == 0)
    }
}

/// Whether a logger is in a namespace.
fn within(logger: &str, namespace: &str) -> bool {
    let rest = logger.strip_prefix(namespace);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Rules, compile};

    fn rules(include: &[&str], exclude: &[&str]) -> Rules {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Rules { include: owned(include), exclude: owned(exclude) }
    }

    #[test]
    fn the_longest_name_decides() {
        let all = rules(&[], &[]);
        assert!(all.accept("") && all.accept("x"));
        let nested = rules(&["http", "http.log.access.a"], &["http.log.access"]);
        assert!(nested.accept("http") && nested.accept("http.log.error"));
        assert!(!nested.accept("http.log.access") && !nested.accept("http.log.access.b"));
        assert!(nested.accept("http.log.access.a") && nested.accept("http.log.access.a.b"));
        assert!(!nested.accept("https") && !nested.accept("tls"));
        let excluded = rules(&[], &["http.log"]);
        assert!(excluded.accept("http.logs") && !excluded.accept("http.log.x"));
        assert!(!rules(&[], &["*"]).accept("x") && !rules(&[], &["*"]).accept(""));
        assert!(rules(&[], &["."]).accept("x") && !rules(&[], &["."]).accept(""));
    }

    fn refused(log: serde_json::Value) -> String {
        let config = serde_json::from_value(json!({"logs": {"a": log}})).unwrap();
        compile(&Some(config)).unwrap_err().to_string()
    }

    #[test]
    fn wrong_configs_are_refused() {
        assert_eq!(
            refused(json!({"level": "loud"})),
            "logging.logs.a.level: setting up custom log 'a': unrecognized log level: loud"
        );
        assert_eq!(
            refused(json!({"writer": {"output": "nowhere"}})),
            "logging.logs.a.writer.output: setting up custom log 'a': loading log writer module: \
             unknown module: caddy.logging.writers.nowhere"
        );
        assert!(refused(json!({"encoder": {"format": "nof"}})).contains("encoders.nof"));
        // A module without a name is no default.
        for (log, place) in [
            (json!({"writer": null}), "writer: "),
            (json!({"writer": {}}), "writer.output: "),
            (json!({"encoder": null}), "encoder: "),
            (json!({"encoder": {"format": "filter", "wrap": null}}), "encoder: "),
            (json!({"encoder": {"format": "append", "wrap": {}}}), "encoder.format: "),
            (json!({"encoder": {"format": "journald", "wrap": null}}), "encoder: "),
            (json!({"encoder": {"format": "filter", "fields": {"a": null}}}), "encoder.fields.a: "),
        ] {
            let error = refused(log);
            assert!(error.starts_with(&format!("logging.logs.a.{place}")), "{error}");
            assert!(error.contains("module name not specified with key '"), "{error}");
        }
        let sink = json!({"sink": {"writer": null}});
        let error = compile(&serde_json::from_value(sink).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("logging.sink.writer: "), "{error}");
        assert!(refused(json!({"include": ["x"], "exclude": ["x"]})).contains("intersect"));
        assert!(refused(json!({"include": ["x"], "exclude": ["y"]})).contains("check 'x'"));
        assert!(refused(json!({"encoder": {"format": "json", "nope": 1}})).contains("nope"));
    }

    #[test]
    fn there_is_always_a_default_log() {
        let names = |config: serde_json::Value| {
            let plan = compile(&serde_json::from_value(config).unwrap()).unwrap();
            plan.logs.into_iter().map(|log| log.name).collect::<Vec<_>>()
        };
        assert_eq!(names(json!(null)), ["default"]);
        assert_eq!(names(json!({"logs": {"a": {}}})), ["default", "a"]);
        let quiet = json!({"logs": {"default": {"writer": {"output": "discard"}}}});
        assert!(names(quiet).is_empty());
    }
}
