//! HTTP/3 to upstreams (RFC 9114): the project's own, over `caddis_wire::http3` and quinn's streams.
//!
//! - A connection belongs to one worker and one pool, and carries many requests (`slot`).
//! - An upstream that says GOAWAY keeps what it has; what it did not take goes to a new connection.
//! - It has a socket of its own (`socket`), so that an upstream that is not there is known at once.
//! - Nothing is sent early (0-RTT), since a request must not be done twice.
//! - Upgrades are sent as the requests that they are without the upgrade, as in Caddy.

mod dial;
mod exchange;
mod receive;
mod session;
mod socket;
mod upload;

use std::rc::Rc;

use caddis_core::LocalBoxFuture;
use quinn::ConnectionError;

use super::slot::{Slot, Turn};
use crate::transport::Failure;

pub(crate) use dial::Dialing;
pub(crate) use exchange::{Ask, exchange};
pub(crate) use session::{Opened, Session};

/// A stream for a request, and whether its connection is new.
pub(crate) async fn ready(
    slot: &Slot<Session>,
    fresh: bool,
    keep: bool,
    dialing: &Dialing<'_>,
) -> Result<(Opened, bool), Failure> {
    if !keep {
        return first(&dialing.open().await?, dialing).await;
    }
    let _turn = match slot.turn(fresh).await? {
        Turn::Go(opened) => return Ok((opened, fresh)),
        Turn::Dial(turn) => turn,
    };
    if let Some(full) = slot.full()
        && let Ok((opened, _)) = futures_util::future::select_ok(full.into_iter().map(open)).await
    {
        return Ok((opened, false));
    }
    let made = dialing.open().await;
    slot.attempted(made.as_ref().err());
    let session = made?;
    slot.push(session.clone());
    first(&session, dialing).await
}

/// A stream as soon as the connection has one more.
fn open(session: Rc<Session>) -> LocalBoxFuture<'static, Result<Opened, ConnectionError>> {
    Box::pin(async move { session.open().await })
}

/// The first stream of a connection.
async fn first(session: &Rc<Session>, dialing: &Dialing<'_>) -> Result<(Opened, bool), Failure> {
    match tokio::time::timeout(dialing.settings.timeout, session.open()).await {
        Ok(Ok(opened)) => Ok((opened, true)),
        Ok(Err(error)) => Err(Failure::Dial(format!("http3: {}", session.why(&error)))),
        Err(_) => Err(Failure::Dial("http3: upstream allows no requests".to_owned())),
    }
}
