//! `caddis stop`: `POST /stop`.

use std::process::ExitCode;

use super::Outcome;
use crate::{args::Client, client};

/// Stops the running server.
pub(crate) fn stop(flags: &Client) -> Outcome {
    let address = client::address(flags)?;
    client::post(&address, "/stop", &[], b"")?;
    Ok(ExitCode::SUCCESS)
}
