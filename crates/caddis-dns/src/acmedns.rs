//! `dns.providers.acmedns`: an acme-dns server, to which `_acme-challenge` names are delegated.
//!
//! ```text
//! dns acmedns [<config_file_path>] {
//!     config_file_path <path>
//!     username   <name>
//!     password   <password>
//!     subdomain  <subdomain>
//!     server_url <url>
//!     config {
//!         <domain> {
//!             username … password … subdomain … fulldomain … server_url …
//!         }
//!     }
//! }
//! ```
//! Exactly one of: the path of a JSON file, an account, accounts by domain. JSON: the same fields.
//! The file holds an account, or an object of accounts by domain.
//!
//! The server keeps the last two texts of an account, which is what a name and its wildcard need;
//! nothing is ever taken away.

use std::{collections::BTreeMap, sync::Arc};

use caddis_config::ConfigError;
use http::{HeaderName, Method};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    DnsError, DnsFuture, DnsProvider, Field, FieldKind, Provider, Syntax, TxtRecord,
    api::{Api, Call, Secret, expand},
};

/// The module.
pub(crate) static PROVIDER: Provider = Provider {
    name: "acmedns",
    syntax: Syntax {
        argument: Some("config_file_path"),
        fields: &[
            Field::text("config_file_path").once("config_file_path already set"),
            Field::text("username").once("username already set"),
            Field::text("password").once("password already set"),
            Field::text("subdomain").once("subdomain already set"),
            Field::text("server_url").once("server_url already set"),
            Field::new("config", FieldKind::Named(&ACCOUNT)),
        ],
        check,
        ..Syntax::NONE
    },
    compile,
};

static ACCOUNT: [Field; 5] = [
    Field::text("username"),
    Field::text("password"),
    Field::text("subdomain"),
    Field::text("fulldomain"),
    Field::text("server_url"),
];

fn check(json: &Map<String, Value>) -> Result<(), String> {
    let has = |field: &str| json.contains_key(field);
    let account = ["username", "password", "subdomain", "server_url"].into_iter().all(has);
    let ways = [account, has("config_file_path"), has("config")];
    if ways.into_iter().filter(|way| *way).count() != 1 {
        return Err("Failed to parse acmedns configuration. You must use exactly one of these \
                    directives/directive combinations: 1) config, 2) config_file_path, \
                    3) username, password, subdomain and server_url combination"
            .into());
    }
    if json.get("config").and_then(Value::as_object).is_some_and(Map::is_empty) {
        return Err("config section must have at least one domain".into());
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    config_file_path: String,
    config: Option<BTreeMap<String, Account>>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    subdomain: String,
    #[serde(default)]
    server_url: String,
}

/// In the configuration and in files, where servers and clients write further fields.
#[derive(Debug, Clone, Default, Deserialize)]
struct Account {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    subdomain: String,
    #[serde(default)]
    server_url: String,
}

/// What a file may hold.
enum Stored {
    Many(BTreeMap<String, Account>),
    One(Account),
}

impl Stored {
    fn read(text: &[u8]) -> Option<Self> {
        let fields: Map<String, Value> = serde_json::from_slice(text).ok()?;
        let many = fields.values().all(Value::is_object);
        let json = Value::Object(fields);
        if many {
            serde_json::from_value(json).ok().map(Self::Many)
        } else {
            serde_json::from_value(json).ok().map(Self::One)
        }
    }
}

fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    let config: Config = caddis_config::decode(json.clone())?;
    let accounts = if !config.config_file_path.is_empty() {
        Accounts::File(expand(&config.config_file_path))
    } else if let Some(accounts) = config.config {
        Accounts::Many(accounts)
    } else {
        let account = Account {
            username: config.username,
            password: config.password,
            subdomain: config.subdomain,
            server_url: config.server_url,
        };
        for (field, value) in [
            ("username", &account.username),
            ("password", &account.password),
            ("subdomain", &account.subdomain),
            ("server_url", &account.server_url),
        ] {
            if value.is_empty() {
                return Err(ConfigError::new(field, format!("{field} cannot be empty")));
            }
        }
        Accounts::One(account)
    };
    Ok(Arc::new(AcmeDns { accounts }))
}

#[derive(Debug)]
struct AcmeDns {
    accounts: Accounts,
}

enum Accounts {
    One(Account),
    Many(BTreeMap<String, Account>),
    /// Read when it is needed: servers are registered while we run.
    File(String),
}

/// Without passwords.
impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accounts")
    }
}

fn fail(text: impl std::fmt::Display) -> DnsError {
    DnsError(format!("acmedns: {text}"))
}

impl AcmeDns {
    async fn account(&self, full: &str) -> Result<Account, DnsError> {
        let of = |accounts: &BTreeMap<String, Account>| {
            let domain = full.strip_prefix("_acme-challenge.").unwrap_or(full);
            accounts.get(domain).cloned().ok_or_else(|| {
                fail(format_args!("no account for domain {domain} in the configuration"))
            })
        };
        match &self.accounts {
            Accounts::One(account) => Ok(account.clone()),
            Accounts::Many(accounts) => of(accounts),
            Accounts::File(path) => {
                let text = tokio::fs::read(path).await;
                let text = text.map_err(|error| fail(format_args!("{path}: {error}")))?;
                // The parser's own message might show a password, so it is not told.
                let stored = Stored::read(&text).ok_or_else(|| {
                    fail(format_args!("{path}: neither an account nor accounts by domain, in JSON"))
                })?;
                match stored {
                    Stored::One(account) => Ok(account),
                    Stored::Many(accounts) => of(&accounts),
                }
            }
        }
    }
}

impl DnsProvider for AcmeDns {
    fn append<'a>(&'a self, zone: &'a str, records: &'a [TxtRecord]) -> DnsFuture<'a> {
        Box::pin(async move {
            for record in records {
                let account = self.account(&record.full_name(zone)).await?;
                let api = Api::new("acmedns", expand(&account.server_url));
                api.required("server_url", api.base())?;
                let (user, password) = (expand(&account.username), Secret::new(&account.password));
                let subdomain = expand(&account.subdomain);
                let body = json!({
                    "subdomain": api.required("subdomain", &subdomain)?,
                    "txt": record.value,
                });
                let call = Call::new(Method::POST, "/update")
                    .secret(
                        HeaderName::from_static("x-api-key"),
                        api.required("password", &password)?,
                    )?
                    .secret(
                        HeaderName::from_static("x-api-user"),
                        api.required("username", &user)?,
                    )?
                    .json(&body);
                api.expect(&call).await?;
            }
            Ok(())
        })
    }

    fn delete<'a>(&'a self, _: &'a str, _: &'a [TxtRecord]) -> DnsFuture<'a> {
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{check, compile};
    use crate::testing::{Answer, api, txt};

    fn account(url: &str, subdomain: &str) -> Value {
        json!({"username": "u", "password": "p-w", "subdomain": subdomain, "server_url": url})
    }

    #[tokio::test]
    async fn one_account_for_all_names() {
        let server = api(|_, count| match count {
            0 => Answer::new(429, "").header("retry-after", "0"),
            _ => Answer::new(200, json!({"txt": "v"})),
        });
        let provider = compile(&account(&server.url, "sub")).unwrap();
        provider.append("a.test", &[txt("_acme-challenge", "v")]).await.unwrap();
        provider.delete("a.test", &[txt("_acme-challenge", "v")]).await.unwrap();
        let seen = server.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1].line(), "POST /update");
        assert_eq!((seen[1].header("x-api-user"), seen[1].header("x-api-key")), ("u", "p-w"));
        assert_eq!(seen[1].json(), json!({"subdomain": "sub", "txt": "v"}));
    }

    #[tokio::test]
    async fn accounts_by_domain_and_in_files() {
        let server = api(|_, _| Answer::new(200, "{}"));
        let by_domain = json!({"a.test": account(&server.url, "one"), "b.test": {}});
        let folder = std::env::temp_dir().join(format!("caddis-acmedns-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, json: &Value| {
            let path = folder.join(name);
            std::fs::write(&path, json.to_string()).unwrap();
            json!({"config_file_path": path})
        };
        let mut one = account(&server.url, "solo");
        one["allowfrom"] = json!([]);
        for (json, want) in [
            (json!({"config": by_domain}), "one"),
            (write("many", &by_domain), "one"),
            (write("one", &one), "solo"),
        ] {
            let provider = compile(&json).unwrap();
            provider.append("a.test", &[txt("_acme-challenge", "v")]).await.unwrap();
            assert_eq!(server.seen().last().unwrap().json()["subdomain"], want);
        }
        let many = compile(&json!({"config": by_domain})).unwrap();
        let error = many.append("c.test", &[txt("_acme-challenge", "v")]).await.unwrap_err();
        assert_eq!(error.to_string(), "acmedns: no account for domain c.test in the configuration");
        let error = many.append("b.test", &[txt("_acme-challenge", "v")]).await.unwrap_err();
        assert!(error.to_string().contains("server_url is empty"), "{error}");
        let bad = compile(&write("bad", &json!(["p-w"]))).unwrap();
        let error = bad.append("a.test", &[txt("x", "v")]).await.unwrap_err().to_string();
        assert!(error.contains("neither an account") && !error.contains("p-w"), "{error}");
        let gone = compile(&json!({"config_file_path": folder.join("gone")})).unwrap();
        assert!(gone.append("a.test", &[txt("x", "v")]).await.is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn refusals_are_told() {
        let server = api(|_, _| Answer::new(401, json!({"error": "forbidden p-w"})));
        let provider = compile(&account(&server.url, "s")).unwrap();
        let error = provider.append("a.test", &[txt("x", "v")]).await.unwrap_err();
        assert_eq!(error.to_string(), "acmedns: HTTP 401: forbidden ***");
        assert!(!format!("{provider:?}").contains("p-w"));
        assert!(compile(&json!({"username": "u"})).is_err());
        assert!(compile(&json!({"user": "u"})).is_err());
    }

    #[test]
    fn one_way_only() {
        let check = |json: Value| check(json.as_object().unwrap());
        assert!(check(account("x", "y")).is_ok());
        assert!(check(json!({"config_file_path": "x"})).is_ok());
        assert!(check(json!({"config": {"a": {}}})).is_ok());
        for bad in [json!({}), json!({"username": "u"}), json!({"config": {}}), {
            let mut both = account("x", "y");
            both["config_file_path"] = json!("x");
            both
        }] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
    }
}
