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
    let root = root_of(&flags.client, &flags.ca)?;
    let stores = pki::trust::install(&root).map_err(|error| error.to_string())?;
    for store in stores {
        println!("root certificate installed: {store}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes it out again.
pub(crate) fn untrust(flags: &Untrust) -> Outcome {
    let root = match &flags.cert {
        Some(file) => std::fs::read_to_string(file).map_err(|error| {
            let why = crate::source::plain(&error);
            format!("accessing certificate file: stat {}: {why}", file.display())
        })?,
        None => root_of(&flags.client, &flags.ca)?,
    };
    let stores = pki::trust::uninstall(&root).map_err(|error| error.to_string())?;
    if stores.is_empty() {
        println!("root certificate is not installed");
    }
    for store in stores {
        println!("root certificate removed: {store}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The root: as the running server tells, else from the default storage.
fn root_of(flags: &Client, ca: &str) -> Result<String, String> {
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
