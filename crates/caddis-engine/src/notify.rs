//! What a service manager is told over `$NOTIFY_SOCKET` (`sd_notify(3)`, spec A040): units of
//! `Type=notify` and `Type=notify-reload` wait for it.

use std::os::{
    linux::net::SocketAddrExt,
    unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
};

use rustix::time::{ClockId, clock_gettime};

/// The config is in force.
pub(crate) fn ready() {
    send("READY=1\nSTATUS=serving");
}

/// A new config is being loaded; [`ready`] or [`failed`] ends it.
pub(crate) fn reloading() {
    // `Type=notify-reload` wants to know when, to tell an old READY from a new one.
    let now = clock_gettime(ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
    send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=loading a config"));
}

/// A new config was refused; the old one goes on.
pub(crate) fn failed(error: &dyn std::fmt::Display) {
    // The protocol is one of lines.
    let error = error.to_string().replace('\n', " ");
    send(&format!("READY=1\nSTATUS=serving; the last reload failed: {error}"));
}

/// No new requests are taken.
pub(crate) fn stopping() {
    send("STOPPING=1\nSTATUS=stopping");
}

/// Sends a message. Nobody may listen, and a manager that is gone is no reason to fail.
fn send(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
        return;
    };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message.as_bytes(), &address)
    });
    if let Err(error) = sent {
        tracing::error!(%error, "telling the service manager over NOTIFY_SOCKET failed");
    }
}
