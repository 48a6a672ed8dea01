//! `authentication`: who is asking? With `basic_auth` (and its old name `basicauth`).
//!
//! ```text
//! basic_auth [<matcher>] [<hash_algorithm> [<realm>]] {
//!     <username> <hashed_password>
//!     ...
//! }
//! ```
//!
//! JSON: `{"providers": {"http_basic": …}}`. One provider that knows the user is enough; it sets
//! `{http.auth.user.id}`. If none does, the client gets a challenge and the error 401.

mod http_basic;

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::{ConfigError, ModuleMap};
use caddis_core::{
    CompileCx, Directive, DirectiveKind, Exchange, Handler, HandlerModule, Helper, HttpError,
    LocalBoxFuture, Middleware, Next, Response, Result, Value,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use self::http_basic::HttpBasic;

/// `http.handlers.authentication`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.authentication", compile };

/// The directive `basic_auth`.
pub static DIRECTIVE: Directive =
    Directive { name: "basic_auth", kind: DirectiveKind::Handler(parse), ordered: true };

/// The old name of the directive.
pub static BASICAUTH: Directive =
    Directive { name: "basicauth", kind: DirectiveKind::Handler(parse), ordered: true };

pub use self::DIRECTIVE as BASIC_AUTH;

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthenticationConfig {
    /// `http.authentication.providers` by name.
    #[serde(
        skip_serializing_if = "ModuleMap::is_empty",
        deserialize_with = "caddis_config::nullable"
    )]
    pub providers: ModuleMap,
}

struct Authentication {
    providers: Vec<HttpBasic>,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let deprecated = h.d.next() && h.d.val() == "basicauth";
    if deprecated {
        h.warn("the 'basicauth' directive is deprecated, please use 'basic_auth' instead!");
    }
    h.d.prev();
    let config = parse_config(&mut h.d)?;
    h.handler("authentication", &config)
}

fn parse_config(d: &mut Dispenser) -> ParseResult<AuthenticationConfig> {
    let basic = http_basic::parse(d)?;
    Ok(AuthenticationConfig { providers: ModuleMap::from([("http_basic".to_owned(), basic)]) })
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> std::result::Result<Handler, ConfigError> {
    let config: AuthenticationConfig = cx.decode(json, "handler")?;
    let mut providers = Vec::new();
    for (name, json) in &config.providers {
        if name != "http_basic" {
            return Err(caddis_core::compile::unknown_module(
                "http.authentication.providers",
                name,
                "providers",
            ));
        }
        let basic = HttpBasic::compile(json, cx);
        providers.push(basic.map_err(|error| error.under(name).under("providers"))?);
    }
    Ok(Handler::middleware(Authentication { providers }))
}

impl Middleware for Authentication {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, Result<Response>> {
        Box::pin(async move {
            for provider in &self.providers {
                if let Some(user) = provider.authenticate(ex).await {
                    ex.log.user_id.clone_from(&user);
                    ex.set_value("http.auth.user.id", Value::string(user));
                    return next.run(ex).await;
                }
            }
            Err(HttpError::new(StatusCode::UNAUTHORIZED, "not authenticated"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::{Engine, prelude::BASE64_STANDARD};
    use caddis_core::{RouteList, State, metrics::Metrics};
    use http::{HeaderValue, header};
    use serde_json::json;

    use super::*;
    use crate::{
        hashes::{Algorithm, HashParams, hash_password},
        matchers::testing::registry,
    };

    fn parse(text: &str) -> std::result::Result<Json, String> {
        let tokens = caddis_caddyfile::tokenize("Caddyfile", text).map_err(|e| e.to_string())?;
        let config = parse_config(&mut Dispenser::new(tokens));
        config
            .map(|config| serde_json::to_value(config).expect("an object"))
            .map_err(|error| error.message.clone())
    }

    fn compiled(json: &Json) -> std::result::Result<Box<dyn Middleware>, String> {
        let (registry, state) = (registry(), State::default());
        let mut cx = CompileCx::new(&registry, &state, Arc::new(Metrics::default()));
        match compile(json, &mut cx) {
            Ok(Handler::Middleware(middleware)) => Ok(middleware),
            Ok(Handler::Filter(_)) => panic!("a middleware"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn config(algorithm: &str, hash: &str) -> Json {
        json!({"providers": {"http_basic": {
            "hash": {"algorithm": algorithm},
            "accounts": [{"username": "alice", "password": hash}],
            "hash_cache": {},
        }}})
    }

    async fn ask(handler: &dyn Middleware, authorization: &str) -> (u16, Box<Exchange>) {
        let mut ex = Exchange::for_test("/");
        if !authorization.is_empty() {
            let value = HeaderValue::from_str(authorization).expect("value");
            ex.request.headers.insert(header::AUTHORIZATION, value);
        }
        let rest = RouteList::default();
        let status = match handler.handle(&mut ex, Next::new(&rest, None)).await {
            Ok(response) => response.status(),
            Err(error) => error.status,
        };
        (status.as_u16(), ex)
    }

    #[tokio::test]
    async fn knows_users() {
        let params = HashParams { bcrypt_cost: 4, argon2id_memory: 64, ..HashParams::default() };
        for (name, algorithm) in [("bcrypt", Algorithm::Bcrypt), ("argon2id", Algorithm::Argon2id)]
        {
            let hash = hash_password(algorithm, b"secret", &params).expect("hashes");
            for hash in [hash.clone(), BASE64_STANDARD.encode(&hash)] {
                let handler = compiled(&config(name, &hash)).expect("compiles");
                let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
                for _ in 0..2 {
                    let (status, ex) = ask(&*handler, &basic("alice:secret")).await;
                    assert_eq!((status, ex.log.user_id.as_str()), (200, "alice"));
                    assert_eq!(ask(&*handler, &basic("alice:wrong")).await.0, 401);
                    assert_eq!(ask(&*handler, &basic("nobody:secret")).await.0, 401);
                }
                let (status, _) = ask(&*handler, "basic YWxpY2U6c2VjcmV0").await;
                assert_eq!(status, 200);
                for bad in ["", "Bearer YWxpY2U6c2VjcmV0", "Basic !!!", "Basic YQ=="] {
                    let (status, ex) = ask(&*handler, bad).await;
                    assert_eq!(status, 401, "{bad}");
                    let challenge = &ex.early_headers[header::WWW_AUTHENTICATE];
                    assert_eq!(challenge, "Basic realm=\"restricted\"");
                }
            }
        }
    }

    #[test]
    fn shapes() {
        let basic = |json: Json| Ok(json!({"providers": {"http_basic": json}}));
        assert_eq!(
            parse("basic_auth {\n Bob $2a$14$x\n}"),
            basic(json!({"hash": {"algorithm": "bcrypt"}, "hash_cache": {},
                "accounts": [{"username": "Bob", "password": "$2a$14$x"}]}))
        );
        assert_eq!(
            parse("basic_auth argon2id \"Members only\" {\n b c\n}"),
            basic(json!({"hash": {"algorithm": "argon2id"}, "hash_cache": {},
                "realm": "Members only", "accounts": [{"username": "b", "password": "c"}]}))
        );
        for (text, want) in [
            ("basic_auth md5", "unrecognized hash algorithm: md5"),
            ("basic_auth {\n b\n}", "username and password cannot be empty or missing"),
        ] {
            assert_eq!(parse(text), Err(want.into()));
        }
    }

    #[test]
    fn refuses() {
        let of = |accounts: Json| {
            compiled(&json!({"providers": {"http_basic": {"accounts": accounts}}})).err()
        };
        let account = |name: &str, hash: &str| json!({"username": name, "password": hash});
        for (accounts, want) in [
            (
                json!([account("a", "$x"), account("a", "$y")]),
                "providers.http_basic.accounts.1: account 1: username is not unique: a",
            ),
            (
                json!([account("", "$x")]),
                "providers.http_basic.accounts.0: account 0: username and password are required",
            ),
        ] {
            assert_eq!(of(accounts).as_deref(), Some(want));
        }
        assert!(of(json!([account("a", "!!")])).expect("refused").contains("base64-decoding"));
        let unknown = compiled(&json!({"providers": {"x": {}}})).err();
        let want = "providers: unknown module: http.authentication.providers.x";
        assert_eq!(unknown.as_deref(), Some(want));
    }
}
