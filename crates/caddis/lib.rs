//! caddis
