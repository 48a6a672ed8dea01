//! JSON shapes whose fields all have Go's `omitempty`.

/// Writes structs for module JSON: strict, defaulted, `null`-tolerant, empty fields left out.
macro_rules! shape {
    ($(
        $(#[$meta:meta])*
        $visibility:vis struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident : $type:ty, )*
        }
    )*) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        $visibility struct $name {
            $(
                $(#[$field_meta])*
                #[serde(
                    deserialize_with = "caddis_config::nullable",
                    skip_serializing_if = "caddis_config::Omit::is_omitted"
                )]
                pub $field: $type,
            )*
        }
    )* };
}
