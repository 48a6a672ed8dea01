//! `caddis trust` and `caddis untrust`: the root of a local authority in the trust stores.

use std::process::ExitCode;

use caddis_tls::{pki, storage};
use serde_json::Value as Json;

use super::Outcome;
use crate::{
    args::{Client, Trust, Untrust},
    client,
};

/// Puts the root into the trust stores.
pub(crate) fn trust(flags: &Trust) -> Outcome {
    let root = root_of(&flags.client, flags.ca.as_deref())?;
    let stores = pki::trust::install(&root).map_err(|error| error.to_string())?;
    for store in stores {
        crate::say::say!("root certificate installed: {store}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes it out again.
pub(crate) fn untrust(flags: &Untrust) -> Outcome {
    let cert = flags.cert.as_deref().filter(|path| !path.is_empty());
    let given = |flag: &Option<String>| flag.as_deref().is_some_and(|value| !value.is_empty());
    let others = given(&flags.ca) || given(&flags.client.address);
    if cert.is_some() && (others || flags.client.config.file().is_some()) {
        let why = "conflicting command line arguments, cannot use --cert with other flags";
        return Err(why.into());
    }
    let root = match cert {
        Some(file) => std::fs::read_to_string(file).map_err(|error| {
            let why = crate::source::plain(&error);
            format!("accessing certificate file: stat {file}: {why}")
        })?,
        None => root_of(&flags.client, flags.ca.as_deref())?,
    };
    let stores = pki::trust::uninstall(&root).map_err(|error| error.to_string())?;
    if stores.is_empty() {
        crate::say::say!("root certificate is not installed");
    }
    for store in stores {
        crate::say::say!("root certificate removed: {store}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The root: as the running server tells, else from the default storage.
fn root_of(flags: &Client, ca: Option<&str>) -> Result<String, String> {
    let ca = ca.filter(|id| !id.is_empty()).unwrap_or("local");
    let address = client::address(flags)?;
    let told = client::get(&address, &format!("/pki/ca/{ca}"));
    let asked = match told {
        Ok(body) => {
            let json: Json = serde_json::from_str(&body).map_err(|error| error.to_string())?;
            let root = json.get("root_certificate").and_then(Json::as_str).map(str::to_owned);
            return root.ok_or_else(|| "the server told no root certificate".to_owned());
        }
        Err(error) => error,
    };
    let default = storage::from_config(&None).map_err(|error| error.to_string())?;
    let stored = default.load(&storage::keys::authority(ca, "root.crt"));
    stored
        .ok()
        .and_then(|root| String::from_utf8(root).ok())
        .ok_or_else(|| format!("{asked}; nor is there a root certificate in the default storage"))
}
