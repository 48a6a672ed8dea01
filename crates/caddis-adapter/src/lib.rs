//! caddis-adapter
