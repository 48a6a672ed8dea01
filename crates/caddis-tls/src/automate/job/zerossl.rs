//! A certificate of ZeroSSL's API.

use std::sync::Arc;

use super::{JobCx, ManagedSubject, Served, issued, request::Prepared};
use crate::{
    acme::Failure,
    storage::keys::SiteKeys,
    zerossl::{self, ZeroSslConfig},
};

pub(super) async fn issue(
    cx: &JobCx,
    subject: &Arc<ManagedSubject>,
    config: &Arc<ZeroSslConfig>,
) -> Result<Served, Failure> {
    let keys = SiteKeys::new(zerossl::KEY, &subject.name);
    let prepared = Prepared::new(cx, subject, &keys).await?;
    let challenges = &cx.acme.challenges;
    let bought =
        zerossl::issue(config, &subject.name, &prepared.csr, challenges, &cx.storage).await?;
    let (chain, about) = (bought.chain, bought.about);
    issued::take(cx, subject, zerossl::KEY.to_owned(), keys, prepared, chain, about).await
}
