//! The `pki` app: authorities of the `pki` option and of directives.

use caddis_config::{Ca, Pki};

use crate::listeners::Pairing;
use crate::options::Options;
use crate::site::Site;

/// Builds the app; none if it would be empty.
pub(crate) fn build(pairings: &[Pairing], sites: &[Site], options: &Options) -> Option<Pki> {
    let mut app = Pki { certificate_authorities: options.cas.clone() };
    for served in pairings.iter().flat_map(|pairing| &pairing.sites) {
        for (id, ca) in &sites[served.site].pile.cas {
            app.certificate_authorities.entry(id.clone()).or_insert_with(|| ca.clone());
        }
    }
    if options.is_set("skip_install_trust") {
        let off = options.auto_https().iter().any(|word| word == "off");
        if app.certificate_authorities.is_empty() && !off {
            app.certificate_authorities.insert("local".to_owned(), Ca::default());
        }
        for ca in app.certificate_authorities.values_mut() {
            ca.install_trust = Some(false);
        }
    }
    (app != Pki::default()).then_some(app)
}
