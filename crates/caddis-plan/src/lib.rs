//! caddis-plan
