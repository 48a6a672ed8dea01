//! caddis-logging
