//! JSON as text and as a tree that is edited: the writer, paths, `@id`, entity tags.

pub mod etag;
pub mod id;
pub mod path;
pub mod write;
