//! Scalars with Caddy's text and JSON forms.

mod duration;
mod ip_range;
mod network_address;
mod size;
mod string_list;
mod weak_string;

pub use duration::Duration;
pub use ip_range::{IpRange, IpRanges, private_ranges};
pub use network_address::{
    NetworkAddress, join_host_port, join_network_address, split_host_port, split_network_address,
};
pub use size::Size;
pub use string_list::StringList;
pub use weak_string::WeakString;
