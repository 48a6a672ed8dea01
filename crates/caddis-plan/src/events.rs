//! The `events` app: subscriptions, and the handler `exec`, a program that is run.
//!
//! JSON: `{"subscriptions": [{"events": ["cert_obtained"], "modules": ["tls"], "handlers":
//! [{"handler": "exec", "command": "…", "args": ["…"], "dir": "…", "timeout": "30s",
//! "foreground": false, "abort_codes": [1]}]}]}`, as the plugin of this name has it. Placeholders
//! are filled in in arguments alone.

use std::time::Duration;

use caddis_config::{ConfigError, EventsApp};
use caddis_core::template::{Template, Unknown};
use serde::Deserialize;
use serde_json::Value as Json;

/// What a program may take where the config says nothing.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Whom to tell what.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionPlan {
    /// Names of events.
    pub events: Vec<String>,
    /// Ids or namespaces of modules.
    pub modules: Vec<String>,
    /// Programs to run.
    pub programs: Vec<Program>,
}

/// A program with its arguments, which may hold placeholders of the event.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where it runs; where the server does if empty.
    pub dir: String,
    /// It is ended after this time.
    pub timeout: Duration,
    /// What goes on waits for its end.
    pub foreground: bool,
    /// With one of these exit codes it aborts the event (spec T095).
    pub abort_codes: Vec<i32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct ExecConfig {
    command: String,
    args: Vec<String>,
    dir: String,
    timeout: caddis_config::Duration,
    foreground: bool,
    abort_codes: Vec<i32>,
}

/// Compiles the app.
///
/// # Errors
/// An unknown handler, a command that is missing.
pub(crate) fn compile(app: Option<&EventsApp>) -> Result<Vec<SubscriptionPlan>, ConfigError> {
    let mut all = Vec::new();
    for (at, subscription) in app.iter().flat_map(|app| &app.subscriptions).enumerate() {
        let mut programs = Vec::new();
        for (number, json) in subscription.handlers.iter().enumerate() {
            let path = format!("apps.events.subscriptions.{at}.handlers.{number}");
            programs.push(program(json).map_err(|error| error.under(&path))?);
        }
        if programs.is_empty() {
            let path = format!("apps.events.subscriptions.{at}.handlers");
            return Err(ConfigError::new(path, "no handlers defined"));
        }
        all.push(SubscriptionPlan {
            events: subscription.events.clone(),
            modules: subscription.modules.clone(),
            programs,
        });
    }
    Ok(all)
}

fn program(json: &Json) -> Result<Program, ConfigError> {
    let name = json.get("handler").and_then(Json::as_str).unwrap_or_default();
    if name != "exec" {
        return Err(ConfigError::new("", format!("unknown module: events.handlers.{name}")));
    }
    let mut bare = json.clone();
    if let Some(object) = bare.as_object_mut() {
        object.remove("handler");
    }
    let config: ExecConfig = caddis_config::decode(bare)?;
    if config.command.is_empty() {
        return Err(ConfigError::new("command", "no command"));
    }
    if !config.abort_codes.is_empty() && !config.foreground {
        let message = "must run commands in foreground to apply abort codes: add `foreground`";
        return Err(ConfigError::new("abort_codes", message));
    }
    let text = |text: &String| Template::render_global(text, Unknown::Keep);
    Ok(Program {
        command: config.command,
        args: config.args.iter().map(text).collect(),
        dir: config.dir,
        timeout: config.timeout.positive().unwrap_or(TIMEOUT),
        foreground: config.foreground,
        abort_codes: config.abort_codes,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::program;

    #[test]
    fn programs() {
        let json = json!({"handler": "exec", "command": "{env.HOME}", "args": ["{env.CARGO_PKG_NAME} {event.id}"]});
        let compiled = program(&json).unwrap();
        assert_eq!(compiled.command, "{env.HOME}");
        assert_eq!(compiled.args, ["caddis-plan {event.id}"]);
        let aborts = |more| json!({"handler": "exec", "command": "x", "abort_codes": [1], "foreground": more});
        assert_eq!(program(&aborts(true)).unwrap().abort_codes, [1]);
        let error = program(&aborts(false)).unwrap_err();
        assert!(error.to_string().starts_with("abort_codes: must run commands in foreground"));
        assert!(program(&json!({"handler": "exec"})).is_err());
        assert!(program(&json!({"handler": "mail"})).is_err());
    }
}
