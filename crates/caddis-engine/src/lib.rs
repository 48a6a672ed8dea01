//! caddis-engine
