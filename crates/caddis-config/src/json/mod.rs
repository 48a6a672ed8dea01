//! JSON as text and as a tree that is edited: the writer, what is no JSON, paths, `@id`, entity tags.

pub mod etag;
pub mod id;
pub mod path;
pub mod syntax;
pub mod write;
