//! Who sends: the resource of all signals, and the scope of what is made here.

use crate::{
    proto::{KeyValue, Resource, Scope},
    settings::{Env, percent_decoded},
};

/// The name by which the program tells itself, as in `Server`.
const NAME: &str = "caddis";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The attributes: the SDK's own and the web engine's (spec O116) win over
/// `OTEL_RESOURCE_ATTRIBUTES`, whose `service.name` is overruled by `OTEL_SERVICE_NAME`.
pub(crate) fn resource(env: &Env<'_>, warnings: &mut Vec<String>) -> Resource {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: String| match all.iter_mut().find(|(name, _)| name == key) {
        Some(slot) => slot.1 = value,
        None => all.push((key.to_owned(), value)),
    };
    set("service.name", format!("unknown_service:{}", program()));
    for pair in env.text("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default().split(',') {
        match pair.split_once('=') {
            Some((key, value)) => {
                let value = value.trim();
                let value = percent_decoded(value).unwrap_or_else(|| value.to_owned());
                set(key.trim(), value);
            }
            None if pair.trim().is_empty() => {}
            None => warnings.push(format!("OTEL_RESOURCE_ATTRIBUTES: \"{pair}\" has no '='")),
        }
    }
    if let Some(name) = env.text("OTEL_SERVICE_NAME") {
        set("service.name", name);
    }
    set("telemetry.sdk.name", NAME.to_owned());
    set("telemetry.sdk.language", "rust".to_owned());
    set("telemetry.sdk.version", VERSION.to_owned());
    set("webengine.name", NAME.to_owned());
    set("webengine.version", VERSION.to_owned());
    all.sort();
    let attributes = all.into_iter().map(|(key, value)| KeyValue::text(key, value)).collect();
    Resource { attributes }
}

/// The scope of spans and metrics.
pub(crate) fn scope() -> Scope {
    Scope { name: NAME.to_owned(), version: VERSION.to_owned() }
}

fn program() -> String {
    let path = std::env::current_exe().ok();
    let name = path.as_deref().and_then(|path| path.file_name());
    name.map_or_else(|| NAME.to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::resource;
    use crate::{proto::AttributeValue, testing::env};

    fn value(vars: &[(&str, &str)], key: &str) -> Option<String> {
        let vars = env(vars);
        let found = resource(&vars.env(), &mut Vec::new());
        let found = found.attributes.into_iter().find(|pair| pair.key == key)?;
        match found.value?.value? {
            AttributeValue::Text(text) => Some(text),
            AttributeValue::Number(number) => Some(number.to_string()),
        }
    }

    #[test]
    fn names_the_service() {
        assert!(
            value(&[], "service.name").is_some_and(|name| name.starts_with("unknown_service:"))
        );
        let given = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a, x = b%20c ,bad");
        assert_eq!(value(&[given], "service.name").as_deref(), Some("a"));
        assert_eq!(value(&[given], "x").as_deref(), Some("b c"));
        let both = [given, ("OTEL_SERVICE_NAME", "s")];
        assert_eq!(value(&both, "service.name").as_deref(), Some("s"));
        let own = ("OTEL_RESOURCE_ATTRIBUTES", "webengine.name=x");
        assert_eq!(value(&[own], "webengine.name").as_deref(), Some("caddis"));
    }

    #[test]
    fn tells_what_is_wrong() {
        let vars = env(&[("OTEL_RESOURCE_ATTRIBUTES", "a=b,c")]);
        let mut warnings = Vec::new();
        resource(&vars.env(), &mut warnings);
        assert_eq!(warnings, ["OTEL_RESOURCE_ATTRIBUTES: \"c\" has no '='"]);
    }
}
