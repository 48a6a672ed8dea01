//! The `caddy.filesystems` app.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `apps["caddy.filesystems"]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filesystems {
    /// The entries; always written.
    #[serde(deserialize_with = "crate::omit::nullable")]
    pub filesystems: Vec<FilesystemEntry>,
}

envelope! {
    /// A file system and its name.
    pub struct FilesystemEntry {
        /// The name that `fs` refers to.
        pub name: String,
        /// Module, key `backend`.
        pub file_system: Option<Value>,
    }
}
