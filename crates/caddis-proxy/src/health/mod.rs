//! Health of upstreams: checks of our own. (What passive checks count is in the handler.)

pub(crate) mod active;
