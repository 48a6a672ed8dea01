//! `dns.providers.exec`: a program that sets the records.
//!
//! ```text
//! dns exec <command> [<args…>]
//! ```
//! JSON: `{"name": "exec", "command": ["/usr/local/bin/dns-hook", "…"]}`. For each record the
//! program is run with three more arguments, `present` or `cleanup`, the whole name with its final
//! dot, and the value; exit code 0 is success. Its last line of standard error is the reason of a
//! failure. Two minutes. For CNAME records, which ZeroSSL's API wants, it is `present-cname` and
//! `cleanup-cname`, with the name that the record stands for.
//!
//! For HTTPS records, which tell of ECH, the program is first run with two more arguments, `show` and
//! the whole name: it writes the records of exactly this name to its standard output, one a line,
//! type before value, for example `A 192.0.2.1` or `HTTPS 1 . alpn="h2"`; a wildcard's are not the
//! name's own. Of those with no meaning here, one will do. Then it is run with `present-https`, the
//! name and a value such as `2 . alpn="h3,h2" ech="…"`: that takes the place of the HTTPS record with
//! the same priority and target (the first two words), if there is one; others stay.

use std::{process::Stdio, sync::Arc, time::Duration};

use caddis_config::ConfigError;
use caddis_core::{Template, template::Unknown};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use crate::{
    Alias, DnsError, DnsFuture, DnsProvider, Field, FieldKind, NameRecords, Provider,
    ServiceRecord, Syntax, TxtRecord, full_name,
};

/// The module.
pub(crate) static PROVIDER: Provider = Provider {
    name: "exec",
    syntax: Syntax {
        argument: Some("command"),
        fields: &[Field::new("command", FieldKind::Words)],
        ..Syntax::NONE
    },
    compile,
};

const TIMEOUT: Duration = Duration::from_secs(120);
/// The verb that asks for records.
const SHOW: &str = "show";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    command: OneOrMany,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug)]
struct Exec {
    program: String,
    arguments: Vec<String>,
}

fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    let config: Config = caddis_config::decode(json.clone())?;
    let words = match config.command {
        OneOrMany::One(line) => line.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        OneOrMany::Many(words) => words,
    };
    // Known placeholders only: a script may have braces of its own.
    let mut words =
        words.into_iter().map(|word: String| Template::render_global(&word, Unknown::Keep));
    let program = words.next().filter(|program| !program.is_empty());
    let program = program.ok_or_else(|| ConfigError::new("command", "a command is required"))?;
    Ok(Arc::new(Exec { program, arguments: words.collect() }))
}

impl DnsProvider for Exec {
    fn append<'a>(&'a self, zone: &'a str, records: &'a [TxtRecord]) -> DnsFuture<'a> {
        Box::pin(self.all("present", zone, records))
    }

    fn delete<'a>(&'a self, zone: &'a str, records: &'a [TxtRecord]) -> DnsFuture<'a> {
        Box::pin(self.all("cleanup", zone, records))
    }

    fn append_alias<'a>(&'a self, zone: &'a str, alias: &'a Alias) -> DnsFuture<'a> {
        Box::pin(self.alias("present-cname", zone, alias))
    }

    fn delete_alias<'a>(&'a self, zone: &'a str, alias: &'a Alias) -> DnsFuture<'a> {
        Box::pin(self.alias("cleanup-cname", zone, alias))
    }

    fn look_up<'a>(&'a self, zone: &'a str, name: &'a str) -> DnsFuture<'a, NameRecords> {
        Box::pin(async move {
            let shown = self.run(SHOW, &full_name(name, zone), &[]).await?;
            let mut records = NameRecords::default();
            for line in shown.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let (kind, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
                records.add(&kind.to_ascii_uppercase(), value.trim())?;
            }
            Ok(records)
        })
    }

    fn set_service<'a>(&'a self, zone: &'a str, record: &'a ServiceRecord) -> DnsFuture<'a> {
        Box::pin(async move {
            let value = record.binding.to_string();
            self.run("present-https", &full_name(&record.name, zone), &[&value]).await.map(drop)
        })
    }
}

impl Exec {
    async fn all(&self, verb: &str, zone: &str, records: &[TxtRecord]) -> Result<(), DnsError> {
        for record in records {
            self.run(verb, &record.full_name(zone), &[&record.value]).await?;
        }
        Ok(())
    }

    async fn alias(&self, verb: &str, zone: &str, alias: &Alias) -> Result<(), DnsError> {
        let target = format!("{}.", alias.target);
        self.run(verb, &full_name(&alias.name, zone), &[&target]).await.map(drop)
    }

    /// What the program writes to its standard output.
    async fn run(&self, verb: &str, name: &str, values: &[&str]) -> Result<String, DnsError> {
        // Nobody reads what is written for the other verbs.
        let stdout = if verb == SHOW { Stdio::piped() } else { Stdio::null() };
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .args([verb, &format!("{name}.")])
            .args(values)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| DnsError(format!("{}: {error}", self.program)))?;
        let output = tokio::time::timeout(TIMEOUT, child.wait_with_output())
            .await
            .map_err(|_| DnsError(format!("{}: timeout", self.program)))?
            .map_err(|error| DnsError(format!("{}: {error}", self.program)))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let reason = text.trim().lines().last().unwrap_or_default();
            let status = output.status;
            return Err(DnsError(format!("{} {verb}: {status}: {reason}", self.program)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::compile;
    use crate::{
        Alias, TxtRecord,
        testing::{THEIR_SERVICE, set_service_beside},
    };

    #[tokio::test]
    async fn the_program_gets_verb_name_and_value() {
        let record =
            |name: &str| TxtRecord { name: name.into(), value: "v1".into(), ttl: Duration::ZERO };
        let script = r#"test "$1 $2 $3" = "present _acme-challenge.a.test. v1" || { echo bad >&2; exit 3; }"#;
        let provider = compile(&json!({"command": ["sh", "-c", script, "sh"]})).unwrap();
        provider.append("a.test", &[record("_acme-challenge")]).await.unwrap();
        let script = r#"test "$1 $2 $3" = "cleanup-cname x.a.test. y.test.""#;
        let other = compile(&json!({"command": ["sh", "-c", script, "sh"]})).unwrap();
        let alias = Alias { name: "x".into(), target: "y.test".into(), ttl: Duration::ZERO };
        other.delete_alias("a.test", &alias).await.unwrap();
        assert!(other.append_alias("a.test", &alias).await.is_err());
        let error = provider.delete("a.test", &[record("x")]).await.unwrap_err();
        assert!(error.to_string().ends_with("bad"), "{error}");
        assert!(compile(&json!({"command": []})).is_err());
        let filled = compile(&json!({"command": ["{env.CARGO_PKG_NAME}", "{x} {"]})).unwrap();
        assert!(
            format!("{filled:?}").contains(r#""caddis-dns", arguments: ["{x} {"]"#),
            "{filled:?}"
        );
    }

    /// The program is one that keeps the HTTPS record with priority 2 in a file.
    #[tokio::test]
    async fn services_are_shown_and_set() {
        let file = std::env::temp_dir().join(format!("caddis-exec-{}", std::process::id()));
        std::fs::write(&file, "2 . alpn=h2").unwrap();
        let script = format!(
            r#"case "$2 $3" in
            "show www.a.test.") printf 'A 192.0.2.1\n\n\thttps {THEIR_SERVICE}\nHTTPS '; cat "$1";;
            "show alias.a.test.") echo "CNAME b.test.";;
            "show none.a.test.") ;;
            "present-https www.a.test.") printf %s "$4" >"$1"; echo "not read";;
            *) echo "what?" >&2; exit 1;;
            esac"#
        );
        let words = json!(["sh", "-c", script, "sh", file]);
        let provider = compile(&json!({"command": words})).unwrap();
        set_service_beside(&*provider, "a.test").await;
        let error = provider.look_up("a.test", "other").await.unwrap_err().to_string();
        assert!(error.ends_with("what?"), "{error}");
        std::fs::remove_file(&file).unwrap();
    }
}
