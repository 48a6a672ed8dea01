//! caddis-proxy
