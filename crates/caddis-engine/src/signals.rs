//! Signals of the process (spec A079–A084).

use tokio::signal::unix::{SignalKind, signal};

/// What a signal, or the admin API, asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: stop gracefully; a second one forces.
    Interrupt,
    /// SIGTERM: stop gracefully.
    Terminate,
    /// SIGQUIT: end at once.
    Quit,
    /// SIGUSR1: load the config file again.
    Reload,
    /// The watched config file changed.
    Changed,
    /// `POST /stop`.
    Stop,
}

/// Sends signals as they come, for ever. SIGHUP and SIGUSR2 are logged and ignored.
///
/// # Errors
/// The system refused a handler.
pub fn next_signal(
    sender: tokio::sync::mpsc::UnboundedSender<Signal>,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut user1 = signal(SignalKind::user_defined1())?;
    let mut user2 = signal(SignalKind::user_defined2())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            let asked = tokio::select! {
                _ = interrupt.recv() => Signal::Interrupt,
                _ = terminate.recv() => Signal::Terminate,
                _ = quit.recv() => Signal::Quit,
                _ = user1.recv() => Signal::Reload,
                _ = user2.recv() => {
                    tracing::info!(signal = "SIGUSR2", "not implemented");
                    continue;
                }
                _ = hangup.recv() => {
                    tracing::info!(signal = "SIGHUP", "not implemented");
                    continue;
                }
            };
            if sender.send(asked).is_err() {
                return;
            }
        }
    })
}
