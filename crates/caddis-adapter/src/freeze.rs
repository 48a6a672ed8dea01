//! Handlers as text until the end: ten thousand sites of JSON trees take ten times the memory of what
//! is printed, and each step up would copy them once more.
//!
//! While a frozen run reads directives, a handler's place is taken by a string with a mark that no
//! file can know and a number. [`text`] puts the texts back.

use caddis_config::json::write;
use caddis_core::ConfigValue;
use caddis_core::directive::AdaptState;
use serde_json::Value as Json;

const NOTE: &str = "freeze";

/// The texts, and what stands for them.
#[derive(Default)]
pub(crate) struct Frozen {
    mark: String,
    texts: Vec<String>,
}

/// Begins to freeze.
pub(crate) fn begin(shared: &mut AdaptState) {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), NOTE);
    shared.note::<Frozen>(NOTE).mark = format!("frozen-{random:016x}-");
}

/// Takes the texts out when all is read.
pub(crate) fn finish(shared: &mut AdaptState) -> Option<Frozen> {
    shared.notes.remove(NOTE)?.downcast().ok().map(|frozen| *frozen)
}

/// Whether handlers are frozen.
pub(crate) fn is_on(shared: &AdaptState) -> bool {
    shared.notes.contains_key(NOTE)
}

fn kept(shared: &mut AdaptState) -> Option<&mut Frozen> {
    shared.notes.get_mut(NOTE)?.downcast_mut()
}

/// Freezes the handlers of a route.
pub(crate) fn value(shared: &mut AdaptState, value: &mut ConfigValue) {
    let Some(frozen) = kept(shared) else { return };
    let routes = match value {
        ConfigValue::Route(route) => std::slice::from_mut(route),
        ConfigValue::Routes(routes) => routes.as_mut_slice(),
        _ => return,
    };
    for handler in routes.iter_mut().flat_map(|route| &mut route.handle) {
        frozen.freeze(handler);
    }
}

/// Freezes a handler that has frozen ones in it.
pub(crate) fn handler(shared: &mut AdaptState, mut handler: Json) -> Json {
    if let Some(frozen) = kept(shared) {
        frozen.freeze(&mut handler);
    }
    handler
}

impl Frozen {
    fn freeze(&mut self, json: &mut Json) {
        // What cannot be written stays as it is.
        let Ok(text) = write::to_string(json) else { return };
        let mut text = self.thaw(&text);
        text.shrink_to_fit();
        *json = Json::String(format!("{}{}", self.mark, self.texts.len()));
        self.texts.push(text);
    }

    /// A text of JSON with the frozen ones in it.
    pub(crate) fn thaw(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(&self.mark) {
            let number = &rest[at + self.mark.len()..];
            let digits = number.bytes().take_while(u8::is_ascii_digit).count();
            let frozen =
                number[..digits].parse().ok().and_then(|number: usize| self.texts.get(number));
            let before = &rest[..at];
            rest = &number[digits..];
            if let Some(frozen) = frozen {
                // The mark stands alone in a string.
                out.push_str(before.strip_suffix('"').unwrap_or(before));
                out.push_str(frozen);
                rest = rest.strip_prefix('"').unwrap_or(rest);
            }
        }
        out.push_str(rest);
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{AdaptState, begin, finish, handler};

    #[test]
    fn frozen_handlers_come_back() {
        let mut shared = AdaptState::default();
        begin(&mut shared);
        let inner = handler(&mut shared, json!({"a": "\"x\""}));
        assert!(inner.is_string());
        let outer = handler(&mut shared, json!({"routes": [inner, inner]}));
        let frozen = finish(&mut shared).unwrap();
        let text = frozen.thaw(&json!([outer, 1]).to_string());
        assert_eq!(text, r#"[{"routes":[{"a":"\"x\""},{"a":"\"x\""}]},1]"#);
    }
}
