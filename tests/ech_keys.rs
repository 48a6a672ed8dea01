//! Keys of Encrypted Client Hello in the storage: made, kept, replaced and deleted.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::support::{Named, Server, caddis, eventually, free_port, get, scratch};

fn text(tls: u16, names: &str, lines: &str) -> String {
    format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\tskip_install_trust\n\tlocal_certs\n\
         \thttp_port {{port}}\n\thttps_port {tls}\n\tech {names}\n{lines}}}\n\
         *.localhost {{\n\trespond {{host}}\n}}\n"
    )
}

/// The files of each configuration.
fn keys(folder: &Path) -> BTreeMap<String, Vec<Vec<u8>>> {
    let read = |folder: PathBuf| {
        ["key.bin", "config.bin", "meta.json"].map(|file| fs::read(folder.join(file)).unwrap())
    };
    let folders = fs::read_dir(folder.join("data/caddy/ech/configs")).unwrap();
    folders
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), read(entry.path()).to_vec())
        })
        .collect()
}

/// Ends a server and keeps its folder.
fn stop(mut server: Server) -> PathBuf {
    server.signal("TERM");
    eventually("it ends", || matches!(server.child.try_wait(), Ok(Some(_))));
    let folder = scratch();
    fs::remove_dir(&folder).unwrap();
    fs::rename(&server.folder, &folder).unwrap();
    folder
}

fn days_ago(days: i64) -> String {
    (OffsetDateTime::now_utc() - Duration::days(days)).format(&Rfc3339).unwrap()
}

#[test]
fn keys_are_made_once_and_kept() {
    let tls = free_port();
    let server = Server::start(&text(tls, "public.localhost", ""));
    let made = keys(&server.folder);
    assert_eq!(made.len(), 1);
    let place = server.folder.join("data/caddy/ech/configs");
    for id in made.keys() {
        for file in ["key.bin", "config.bin", "meta.json"] {
            let mode = fs::metadata(place.join(id).join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }
    // The public name has a certificate of its own beside the wildcard.
    let certificate = |name: &str| {
        let place = server.folder.join("data/caddy/certificates/local").join(name);
        place.join(format!("{name}.crt")).exists()
    };
    eventually("there are certificates", || {
        certificate("public.localhost") && certificate("wildcard_.localhost")
    });
    eventually("it says that nobody is told", || {
        server.log().contains("ECH configs are not published by this server")
    });
    // A reload with another name adds a key and keeps the first, a reload without keeps both.
    let (ok, said) = server.reload(&text(tls, "public.localhost other.localhost", ""));
    assert!(ok, "{said}");
    let both = keys(&server.folder);
    assert_eq!(both.len(), 2);
    assert!(made.iter().all(|(id, files)| both.get(id) == Some(files)));
    let (ok, said) = server.reload(&text(tls, "public.localhost", "\tgrace_period 1s\n"));
    assert!(ok, "{said}");
    assert_eq!(keys(&server.folder), both);
    let folder = stop(server);
    let server = Server::start_in(folder, &text(tls, "public.localhost", ""));
    assert_eq!(keys(&server.folder), both);
    // A name that only the storage knows keeps its certificate.
    let told = get(server.admin, "/tls/certificates").body;
    assert!(told.contains("other.localhost"), "{told}");
}

#[test]
fn keys_are_replaced_deleted_and_removed() {
    let tls = free_port();
    let text = text(tls, "young.localhost due.localhost old.localhost", "");
    let server = Server::start(&text);
    let folder = stop(server);
    let before = keys(&folder);
    assert_eq!(before.len(), 3);
    let id_of = |name: &str| {
        let has =
            |files: &[Vec<u8>]| files[1].windows(name.len()).any(|part| part == name.as_bytes());
        let found = before.iter().find(|(_, files)| has(files));
        found.unwrap().0.clone()
    };
    let [young, due, old] = ["young.localhost", "due.localhost", "old.localhost"].map(id_of);
    let place = folder.join("data/caddy/ech/configs");
    let meta = |id: &str, json: String| fs::write(place.join(id).join("meta.json"), json).unwrap();
    meta(&young, format!(r#"{{"created":"{}","publications":null}}"#, days_ago(29)));
    meta(
        &due,
        format!(
            r#"{{"created":"{0}","publications":{{"dns.providers.x":{{"a.test":"{0}"}}}}}}"#,
            days_ago(31)
        ),
    );
    meta(
        &old,
        format!(
            r#"{{"created":"{}","replaced":"{}","publications":null}}"#,
            days_ago(91),
            days_ago(61)
        ),
    );
    // What is no key.
    let free: Vec<String> =
        (0..=u8::MAX).map(|id| id.to_string()).filter(|id| !before.contains_key(id)).collect();
    let [bad, half, file, ..] = &free[..] else { panic!("{free:?}") };
    fs::create_dir(place.join(bad)).unwrap();
    for (name, content) in
        [("key.bin", &b"x"[..]), ("config.bin", &[0xff; 99]), ("meta.json", b"{")]
    {
        fs::write(place.join(bad).join(name), content).unwrap();
    }
    fs::create_dir(place.join(half)).unwrap();
    fs::write(place.join(half).join("config.bin"), &before[&young][1]).unwrap();
    fs::write(place.join(file), b"").unwrap();
    let server = Server::start_in(folder, &text);
    let after = keys(&server.folder);
    // Young, due and its successor, and the successor of the one that is gone.
    assert_eq!(after.len(), 4, "{:?}", after.keys());
    assert!(!after.contains_key(&old) && after.contains_key(&young));
    assert_eq!(after[&due][..2], before[&due][..2], "the old key is kept");
    let meta = String::from_utf8(after[&due][2].clone()).unwrap();
    assert!(meta.contains(r#""replaced":""#) && meta.contains("dns.providers.x"), "{meta}");
    eventually("it says what it removed", || {
        server.log().matches("deleted its config folder").count() == 3
    });
    let folder = stop(server);
    let server = Server::start_in(folder, &text);
    assert_eq!(keys(&server.folder), after);
}

#[test]
fn a_storage_that_cannot_be_used_fails_the_load() {
    let tls = free_port();
    let server = Server::start(&text(tls, "public.localhost", ""));
    let made = keys(&server.folder);
    fs::write(server.folder.join("file"), b"").unwrap();
    let no_folder = format!("\tstorage file_system {}\n", server.folder.join("file").display());
    let (ok, said) = server.reload(&text(tls, "public.localhost", &no_folder));
    assert!(!ok);
    for words in ["provisioning Encrypted ClientHello components", "its path is a folder"] {
        assert!(said.contains(words), "{said}");
    }
    // What ran goes on, and a check asks no storage.
    assert_eq!(keys(&server.folder), made);
    let check = caddis(&server.folder).args(["check", "--config", "Caddyfile"]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let (ok, said) = server.reload(&text(tls, "public.localhost", ""));
    assert!(ok, "{said}");
    assert_eq!(keys(&server.folder), made);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let folder = scratch();
    for (ech, says) in [
        (r#"{"configs": [{"public_name": ""}]}"#, "configs.0.public_name: public name length (0)"),
        (
            r#"{"configs": [{"public_name": "a.test"}], "publication": [{"configs": ["b.test"]}]}"#,
            "publication.0.configs.0: there is no ECH config with the public name",
        ),
        (
            r#"{"publication": [{"publishers": {"x": {}}}]}"#,
            "publication.0.publishers.x: unknown module: tls.ech.publishers.x",
        ),
    ] {
        let json = format!(r#"{{"apps": {{"tls": {{"encrypted_client_hello": {ech}}}}}}}"#);
        fs::write(folder.join("config.json"), json).unwrap();
        let check = caddis(&folder).args(["check", "--config", "config.json"]).output().unwrap();
        let said = String::from_utf8_lossy(&check.stderr) + String::from_utf8_lossy(&check.stdout);
        assert!(!check.status.success() && said.contains(says), "{said}");
    }
    assert!(!folder.join("data").exists());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
#[ignore = "needs bind9"]
fn configs_are_published_once_and_anew_after_a_rotation() {
    let (tls, named) = (free_port(), Named::start());
    let text = format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\tskip_install_trust\n\tlocal_certs\n\
         \thttp_port {{port}}\n\thttps_port {tls}\n\ttls_resolvers 127.0.0.1:{}\n\
         \tech public.example.test {{\n\t\tdns {}\n\t}}\n}}\n\
         example.test, other.example.test {{\n\trespond {{host}}\n}}\n",
        named.port,
        named.provider()
    );
    let server = Server::start(&text);
    let history = |folder: &Path| -> String {
        let meta = |files: &Vec<Vec<u8>>| String::from_utf8(files[2].clone()).unwrap();
        keys(folder).values().map(meta).collect()
    };
    let published = r#""publications":{"dns.providers.rfc2136":{"example.test":""#;
    eventually("it is published", || history(&server.folder).contains(published));
    let added = || named.log().matches("adding an RR at 'example.test' HTTPS 2 . alpn=").count();
    eventually("the name server has it", || added() == 1);
    // There is no record of its own, which the wildcard would no longer be for.
    eventually("it is told why the other name has none", || {
        server.log().contains("domain does not have any existing records")
    });
    let folder = stop(server);
    let id = keys(&folder).into_keys().next().unwrap();
    let server = Server::start_in(folder, &text);
    eventually("the other name is looked at again", || {
        server.log().contains("domain does not have any existing records")
    });
    assert_eq!(added(), 1);
    let folder = stop(server);
    let meta = folder.join("data/caddy/ech/configs").join(id).join("meta.json");
    let old = fs::read_to_string(&meta).unwrap();
    let (_, rest) = old.split_once(r#","publications""#).unwrap();
    let old = format!(r#"{{"created":"{}","publications"{rest}"#, days_ago(31));
    fs::write(meta, old).unwrap();
    let server = Server::start_in(folder, &text);
    eventually("the new key is published", || added() == 2);
    eventually("it is noted", || history(&server.folder).matches(published).count() == 2);
}
