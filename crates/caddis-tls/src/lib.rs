//! caddis-tls
