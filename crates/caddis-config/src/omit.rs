//! `omitempty` and `null` as Go treats them, and the macro that writes an envelope with both.

use std::{any::Any, collections::BTreeMap};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Whether Go's `omitempty` leaves a value out.
pub trait Omit {
    /// True for `false`, `0`, `""`, no pointer, and empty lists and maps.
    fn is_omitted(&self) -> bool;
}

impl Omit for bool {
    fn is_omitted(&self) -> bool {
        !*self
    }
}

impl Omit for i64 {
    fn is_omitted(&self) -> bool {
        *self == 0
    }
}

impl Omit for f64 {
    fn is_omitted(&self) -> bool {
        *self == 0.0
    }
}

impl Omit for String {
    fn is_omitted(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Omit for Vec<T> {
    fn is_omitted(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Omit for BTreeMap<K, V> {
    fn is_omitted(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Omit for Option<T> {
    fn is_omitted(&self) -> bool {
        self.is_none()
    }
}

impl Omit for Value {
    fn is_omitted(&self) -> bool {
        self.is_null()
    }
}

/// Reads `null` as the default value, as Go's decoder does for every type
/// (`#[serde(deserialize_with = "caddis_config::nullable")]`). Where a module is expected
/// (`Option<Value>`) it stays, since in Go that is raw text: a module without a name, which Caddy
/// refuses, and not one that is absent. Whoever means to name authorities for clients or a
/// permission and has none is not to get a server that asks for nothing.
pub fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de> + 'static,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_else(of_null))
}

fn of_null<T: Default + 'static>() -> T {
    let mut value = T::default();
    if let Some(module) = (&mut value as &mut dyn Any).downcast_mut::<Option<Value>>() {
        *module = Some(Value::Null);
    }
    value
}

/// Writes structs whose fields all have `omitempty`: strict, defaulted, `null`-tolerant.
macro_rules! envelope {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident : $type:ty, )*
        }
    )*) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(
                    deserialize_with = "crate::omit::nullable",
                    skip_serializing_if = "crate::omit::Omit::is_omitted"
                )]
                pub $field: $type,
            )*
        }
    )* };
}
