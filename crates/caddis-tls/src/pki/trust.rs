//! Trust stores of the system (Linux), of NSS (Firefox, Chromium) and of Java: a root put in or taken
//! out.
//!
//! Where the variable `CADDIS_TRUST_ROOT` names a folder, the system's stores are looked for below it
//! instead of `/`, and the system's commands are not run: for tests, and for images of other systems.
//! Java's is then changed only where it lies below the folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use x509_parser::prelude::{FromDer, X509Certificate};

use super::java::Java;
use crate::{
    certificate::{decimal, parse_chain},
    error::{Context, Error, Result},
};

/// A kind of system store: folder of own anchors, ending of the files, command that takes them in.
struct Store {
    folder: &'static str,
    ending: &'static str,
    command: &'static [&'static str],
}

const STORES: &[Store] = &[
    Store {
        folder: "/etc/pki/ca-trust/source/anchors",
        ending: "pem",
        command: &["update-ca-trust", "extract"],
    },
    Store {
        folder: "/usr/local/share/ca-certificates",
        ending: "crt",
        command: &["update-ca-certificates"],
    },
    Store {
        folder: "/etc/ca-certificates/trust-source/anchors",
        ending: "crt",
        command: &["trust", "extract-compat"],
    },
    Store {
        folder: "/usr/share/pki/trust/anchors",
        ending: "pem",
        command: &["update-ca-certificates"],
    },
];

/// Puts a root into the stores that there are; says which. Blocks.
///
/// # Errors
/// No root, no store, no right to write to it.
pub fn install(root_pem: &str) -> Result<Vec<String>> {
    let name = unique_name(root_pem)?;
    let mut done = Vec::new();
    if let Some(store) = system_store() {
        let file = store.file(&name);
        fs::write(&file, root_pem).context(file.display())?;
        store.take_in()?;
        done.push(format!("system ({})", file.display()));
    }
    for database in nss_databases() {
        let place = format!("sql:{}", database.display());
        with_file(root_pem, |file| {
            certutil(&["-A", "-d", &place, "-t", "C,,", "-n", &name, "-i"], Some(file))
        })?;
        done.push(format!("NSS ({})", database.display()));
    }
    if let Some(java) = Java::find(other_root().as_deref()) {
        with_file(root_pem, |file| java.install(&name, file))?;
        done.push(format!("Java ({})", java.store().display()));
    }
    if done.is_empty() {
        return Err(Error::new("no trust store found on this system"));
    }
    Ok(done)
}

/// Whether the system trusts a root already. Blocks.
///
/// # Errors
/// No root.
pub fn is_installed(root_pem: &str) -> Result<bool> {
    let name = unique_name(root_pem)?;
    let chain = parse_chain(root_pem.as_bytes())?;
    let file = system_store().map(|store| store.file(&name));
    if file.and_then(|file| fs::read_to_string(file).ok()).is_some_and(|own| own == root_pem) {
        return Ok(true);
    }
    Ok(other_root().is_none()
        && chain.first().is_some_and(|root| {
            rustls_native_certs::load_native_certs().certs.iter().any(|one| one == root)
        }))
}

/// Takes a root out of the stores again; says which had it. Blocks.
///
/// # Errors
/// No root, no right to change a store.
pub fn uninstall(root_pem: &str) -> Result<Vec<String>> {
    let name = unique_name(root_pem)?;
    let mut done = Vec::new();
    if let Some(store) = system_store() {
        let file = store.file(&name);
        if file.exists() {
            fs::remove_file(&file).context(file.display())?;
            store.take_in()?;
            done.push(format!("system ({})", file.display()));
        }
    }
    for database in nss_databases() {
        let place = format!("sql:{}", database.display());
        if certutil(&["-V", "-d", &place, "-u", "L", "-n", &name], None).is_ok() {
            certutil(&["-D", "-d", &place, "-n", &name], None)?;
            done.push(format!("NSS ({})", database.display()));
        }
    }
    if let Some(java) = Java::find(other_root().as_deref())
        && java.uninstall(&name)?
    {
        done.push(format!("Java ({})", java.store().display()));
    }
    Ok(done)
}

impl Store {
    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{}.{}", name.replace([' ', '/'], "_"), self.ending))
    }

    fn folder(&self) -> PathBuf {
        match other_root() {
            Some(root) => root.join(self.folder.trim_start_matches('/')),
            None => PathBuf::from(self.folder),
        }
    }

    fn take_in(&self) -> Result<()> {
        if other_root().is_some() {
            return Ok(());
        }
        run(self.command[0], &self.command[1..], None)
    }
}

fn system_store() -> Option<&'static Store> {
    STORES.iter().find(|store| store.folder().is_dir())
}

fn other_root() -> Option<PathBuf> {
    std::env::var_os("CADDIS_TRUST_ROOT").filter(|root| !root.is_empty()).map(PathBuf::from)
}

/// Lets a program read the root from a file, which is gone afterwards.
fn with_file(root_pem: &str, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let file = std::env::temp_dir().join(format!("root-{:016x}.pem", fastrand::u64(..)));
    fs::write(&file, root_pem).context(file.display())?;
    let result = work(&file);
    // Left where it cannot be removed; it is a public certificate.
    let _ = fs::remove_file(&file);
    result
}

fn certutil(arguments: &[&str], file: Option<&Path>) -> Result<()> {
    run("certutil", arguments, file)
}

fn run(program: &str, arguments: &[&str], file: Option<&Path>) -> Result<()> {
    let output = Command::new(program).args(arguments).args(file).output().context(program)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("{program}: {}: {}", output.status, text.trim())))
}

/// The databases of the user's browsers, where `certutil` is there to change them.
fn nss_databases() -> Vec<PathBuf> {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else { return Vec::new() };
    let mut found = vec![home.join(".pki/nssdb"), home.join("snap/chromium/current/.pki/nssdb")];
    for profiles in [".mozilla/firefox", "snap/firefox/common/.mozilla/firefox"] {
        let profiles = fs::read_dir(home.join(profiles));
        found.extend(profiles.into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    found.retain(|folder| folder.join("cert9.db").exists());
    if found.is_empty() || Command::new("certutil").arg("-H").output().is_err() {
        return Vec::new();
    }
    found
}

/// Common name and serial number, as other programs name the entry.
fn unique_name(root_pem: &str) -> Result<String> {
    let chain = parse_chain(root_pem.as_bytes())?;
    let first = chain.first().ok_or_else(|| Error::new("no certificate found"))?;
    let (_, root) = X509Certificate::from_der(first).map_err(Error::new)?;
    let common = root.subject().iter_common_name().find_map(|name| name.as_str().ok());
    let serial = decimal(root.tbs_certificate.raw_serial());
    Ok(format!("{} {serial}", common.unwrap_or("Local Authority")))
}

#[cfg(test)]
mod tests {
    use super::{STORES, unique_name};

    #[test]
    fn entries_have_names_of_their_own() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "A / B");
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[1, 0]));
        let pem = params.self_signed(&key).unwrap().pem();
        let name = unique_name(&pem).unwrap();
        assert!(name.ends_with(" 256"), "{name}");
        let file = STORES[1].file(&name);
        assert!(file.parent().unwrap().ends_with(STORES[1].folder.trim_start_matches('/')));
        assert!(unique_name("nothing").is_err());
    }
}
