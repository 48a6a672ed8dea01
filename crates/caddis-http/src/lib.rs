//! caddis-http
