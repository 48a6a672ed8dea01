//! Storages: what they hold comes over from the file system and back, and what they refuse is told.

mod fleets;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    acme::{shown, wait_for},
    support::{
        Heard, Pebble, PebbleOptions, Postgres, Redis, S3, Server, Store, caddis, eventually,
        free_port, get, scratch,
    },
};

/// A Caddyfile with this storage.
fn with_storage(option: &str) -> String {
    format!("{{\n{option}}}\n")
}

/// Files below a folder with their contents, locks left out.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let key = path.strip_prefix(root).unwrap().display().to_string();
                all.insert(key, fs::read(path).unwrap());
            }
        }
    }
    all.retain(|key, _| !key.starts_with("locks/"));
    all
}

/// A folder like one that was in use for a while.
fn filled() -> PathBuf {
    let root = scratch();
    let long = format!("certificates/ca.test-dir/{0}/{0}.crt", "n".repeat(150));
    for (key, content) in [
        ("acme/ca.test-dir/users/a@b.test/a.json", &b"{}"[..]),
        ("certificates/ca.test-dir/wildcard_.a.test/wildcard_.a.test.crt", b"chain"),
        ("certificates/ca.test-dir/wildcard_.a.test/wildcard_.a.test.key", b"\0\xff binary"),
        ("certificates/ca.test-dir/b.test/b.test.json", b""),
        (&long, &[b'x'; 5_000]),
        ("last_clean.json", b"{}"),
        ("locks/issue_cert_a.test.lock", b"{}"),
    ] {
        let path = root.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    root
}

/// Runs `caddis storage`; what it said, and whether it succeeded.
fn storage(folder: &Path, command: &str, config: &str, end: [&str; 2]) -> (bool, String) {
    fs::write(folder.join("Caddyfile"), config).unwrap();
    let output = caddis(folder)
        .args(["storage", command, "--config", "Caddyfile"])
        .args(end)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn round_trip(option: &str) {
    let (from, to, folder) = (filled(), scratch(), scratch());
    let in_files = |root: &Path| format!("\tstorage file_system {}\n", root.display());
    let done = |command: &str, option: &str, flag: &str, archive: &str| {
        let (done, text) = storage(&folder, command, &with_storage(option), [flag, archive]);
        assert!(done, "{command}: {text}");
        text
    };
    done("export", &in_files(&from), "--output", "one.tar");
    // Twice, since what is there already is replaced.
    for _ in 0..2 {
        let text = done("import", option, "--input", "one.tar");
        assert_eq!(text.trim(), "Successfully imported storage");
    }
    done("export", option, "-o", "two.tar");
    done("import", &in_files(&to), "-i", "two.tar");
    assert_eq!(files(&from), files(&to));
}

#[test]
fn archives_pass_through_pipes_and_other_programs() {
    let (from, to, folder) = (filled(), scratch(), scratch());
    let config = |root: &Path| with_storage(&format!("\tstorage file_system {}\n", root.display()));
    fs::write(folder.join("old"), config(&from)).unwrap();
    fs::write(folder.join("new"), config(&to)).unwrap();
    let mut export = caddis(&folder)
        .args(["storage", "export", "-a", "caddyfile", "-c", "old", "-o", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let import = caddis(&folder)
        .args(["storage", "import", "-a", "caddyfile", "-c", "new", "-i", "-"])
        .stdin(export.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(export.wait().unwrap().success() && import.status.success());
    assert_eq!(files(&from), files(&to));
    let (done, text) = storage(&folder, "export", &config(&from), ["-o", "a.tar"]);
    assert!(done, "{text}");
    let listed = Command::new("tar").args(["tvf", "a.tar"]).current_dir(&folder).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().count(), 6, "{listed}");
    assert!(listed.contains("-rw------- ") && listed.contains(" last_clean.json\n"), "{listed}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(folder.join("a.tar")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600, "private keys are in it");
}

#[test]
fn mistakes_of_storage_commands() {
    let folder = scratch();
    let run = |arguments: &[&str]| {
        let output = caddis(&folder).arg("storage").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).trim().to_owned())
    };
    assert_eq!(run(&["export", "-o", "-"]), (Some(1), "Error: --config is required".into()));
    fs::write(folder.join("x.json"), "{}").unwrap();
    assert_eq!(run(&["export", "-c", "x.json"]), (Some(1), "Error: --output is required".into()));
    assert_eq!(run(&["import", "-c", "x.json"]), (Some(1), "Error: --input is required".into()));
    fs::write(folder.join("x.tar"), "this is no archive").unwrap();
    let (code, text) = run(&["import", "-c", "x.json", "-i", "x.tar"]);
    assert!(code == Some(3) && text.starts_with("Error: reading archive: "), "{text}");
    fs::write(folder.join("y.json"), r#"{"storage": {"module": "nope"}}"#).unwrap();
    let (code, text) = run(&["export", "-c", "y.json", "-o", "-"]);
    assert!(code == Some(1) && text.contains("unknown module: caddy.storage.nope"), "{text}");
    // Nobody listens there.
    let port = free_port();
    let config = format!(r#"{{"storage": {{"module": "redis", "port": {port}}}}}"#);
    fs::write(folder.join("z.json"), config).unwrap();
    let (code, text) = run(&["export", "-c", "z.json", "-o", "-"]);
    assert_eq!(code, Some(3));
    assert!(text.contains(&format!("storage redis:127.0.0.1:{port}/0/caddy: ")), "{text}");
    assert!(text.contains("is Redis running"), "{text}");
}

#[test]
#[ignore = "needs redis"]
fn redis_holds_what_its_plugin_would() {
    let redis = Redis::start();
    let root = |key: &str| redis.command(&["GET", &format!("caddy/{key}")]);
    round_trip(&redis.option(""));
    let stored = root("last_clean.json");
    assert!(stored.starts_with(r#"{"value":"e30=","modified":"2"#), "{stored}");
    assert!(stored.ends_with(r#","size":2,"compression":0,"encryption":0}"#), "{stored}");
    // Folders are sorted sets of what is in them.
    for (folder, member) in [
        ("caddy", "certificates/"),
        ("caddy", "last_clean.json"),
        ("caddy/certificates", "ca.test-dir/"),
        ("caddy/certificates/ca.test-dir/b.test", "b.test.json"),
    ] {
        assert_ne!(redis.command(&["ZSCORE", folder, member]), "$-1", "{folder} has {member}");
    }
    assert_eq!(redis.command(&["EXISTS", "caddy/locks/issue_cert_a.test.lock"]), ":0");
    // Other keys, so that the rest is not read.
    round_trip(&redis.option(
        "\t\tkey_prefix x/y\n\t\tcompression zlib\n\t\tencryption_key 1aedfs5kcM8lOZO3BDDMuwC23croDwRr\n",
    ));
    let stored = redis.command(&["GET", "x/y/last_clean.json"]);
    assert!(stored.ends_with(r#""encryption":1}"#), "{stored}");
    let tls = format!(
        "\tstorage redis {{\n\t\taddress localhost:{}\n\t\tpassword \"{}\"\n\t\tdb 3\n\t\ttls_enabled true\n\t\ttls_server_certs_path {}/ca.pem\n\t}}\n",
        redis.tls_port,
        Redis::PASSWORD,
        redis.folder.display()
    );
    round_trip(&tls);
    round_trip(
        &tls.replace("tls_server_certs_path", "tls_insecure true\n\t\ttls_server_certs_path"),
    );
    let folder = scratch();
    let untrusted: String =
        tls.lines().filter(|line| !line.contains("certs_path")).map(|l| format!("{l}\n")).collect();
    let (done, text) = storage(&folder, "export", &with_storage(&untrusted), ["-o", "-"]);
    assert!(!done && text.to_lowercase().contains("certificate"), "{text}");
    let wrong = redis.option("").replace(Redis::PASSWORD, "wrong");
    let (done, text) = storage(&folder, "export", &with_storage(&wrong), ["-o", "-"]);
    assert!(!done && text.contains("check `username` and `password`"), "{text}");
    let other = redis.option("\t\tkey_prefix x/y\n");
    let (done, text) = storage(&folder, "export", &with_storage(&other), ["-o", "-"]);
    assert!(!done && text.contains("set `encryption_key` as for the others"), "{text}");
}

#[test]
#[ignore = "needs redis"]
fn redis_as_a_cluster_and_behind_a_sentinel() {
    let cluster = Redis::start_cluster();
    round_trip(&cluster.option("").replace("redis {", "redis cluster {"));
    let mut server = Redis::start();
    let option = server.option("").replace("redis {", "redis failover {");
    let sentinel = server.watch();
    let option = option.replace(
        &format!("port {}", server.port),
        &format!("port {sentinel}\n\t\tmaster_name primary"),
    );
    round_trip(&option);
    assert_eq!(server.command(&["EXISTS", "caddy/last_clean.json"]), ":1");
    let folder = scratch();
    let unknown = with_storage(&option.replace("master_name primary", "master_name other"));
    let (done, text) = storage(&folder, "export", &unknown, ["-o", "-"]);
    assert!(!done && text.contains("storage redis:127.0.0.1"), "{text}");
    // One node of a cluster, asked as if it were alone.
    let plain = with_storage(&cluster.option(""));
    let (done, _) = storage(&folder, "export", &plain, ["-o", "-"]);
    assert!(done, "a cluster of one redirects nothing");
}

#[test]
#[ignore = "needs postgres"]
fn postgres_holds_what_its_plugin_would() {
    let postgres = Postgres::start();
    let folder = scratch();
    let careful = with_storage(&postgres.option("\t\tdisable_ddl true\n"));
    let (done, text) = storage(&folder, "export", &careful, ["-o", "-"]);
    assert!(
        !done && text.contains("create the tables certmagic_data and certmagic_locks"),
        "{text}"
    );
    round_trip(&postgres.option(""));
    let value = "select encode(value, 'escape') from certmagic_data where key = 'last_clean.json'";
    assert_eq!(postgres.sql(value), "{}");
    assert_eq!(postgres.sql("select count(*) from certmagic_data"), "6");
    assert_eq!(postgres.sql("select count(*) from certmagic_locks"), "0");
    let url = |mode: &str| {
        format!(
            "\tstorage postgres {{\n\t\tconnection_string \"postgres://tests:it%27s%20secret@localhost:{}/postgres?sslmode={mode}&sslrootcert={}/ca.pem\"\n\t}}\n",
            postgres.port,
            postgres.folder.display()
        )
    };
    for mode in ["disable", "prefer", "require", "verify-ca", "verify-full"] {
        round_trip(&url(mode));
    }
    round_trip(&url("verify-ca").replace("localhost", "127.0.0.1"));
    let other_host = url("verify-full").replace("localhost", "127.0.0.1");
    let (done, text) = storage(&folder, "export", &with_storage(&other_host), ["-o", "-"]);
    assert!(!done && text.contains("certificate"), "{text}");
    let wrong = with_storage(&postgres.option("").replace(Postgres::PASSWORD, "wrong"));
    let (done, text) = storage(&folder, "export", &wrong, ["-o", "-"]);
    assert!(!done && text.contains("check `user` and `password` of `storage postgres`"), "{text}");
    let nowhere = with_storage(&postgres.option("").replace("dbname postgres", "dbname none"));
    let (done, text) = storage(&folder, "export", &nowhere, ["-o", "-"]);
    assert!(!done && text.contains("create the database"), "{text}");
    postgres.sql("alter system set default_transaction_read_only = on");
    postgres.sql("select pg_reload_conf()");
    fs::write(folder.join("one.tar"), b"").unwrap();
    let (done, _) =
        storage(&folder, "export", &with_storage(&postgres.option("")), ["-o", "b.tar"]);
    assert!(done);
    let config = with_storage(&postgres.option(""));
    let mut last = String::new();
    eventually("the database is read-only", || {
        let (done, text) = storage(&folder, "import", &config, ["-i", "b.tar"]);
        last = text;
        !done
    });
    assert!(last.contains("name the primary"), "{last}");
}

#[test]
fn s3_holds_what_its_plugins_would() {
    let s3 = S3::start();
    round_trip(&s3.option(""));
    assert_eq!(s3.content("fleet/last_clean.json").unwrap(), b"{}");
    assert_eq!(s3.keys().len(), 6, "{:?}", s3.keys());
    round_trip(
        &s3.option("\t\tencryption_key 1aedfs5kcM8lOZO3BDDMuwC23croDwRr\n")
            .replace("prefix fleet", "prefix secret"),
    );
    assert_eq!(s3.content("secret/last_clean.json").unwrap().len(), 24 + 16 + 2);
    let folder = scratch();
    for (from, to, want) in [
        (S3::ID, "other", "check `access_id` of `storage s3`"),
        (S3::SECRET, "other", "check `secret_key` of `storage s3`"),
        ("bucket certs", "bucket none", "create the bucket"),
    ] {
        let config = with_storage(&s3.option("").replace(from, to));
        let (done, text) = storage(&folder, "export", &config, ["-o", "-"]);
        assert!(!done && text.contains(want), "{text}");
    }
    s3.fill(true);
    let (from, config) = (filled(), with_storage(&s3.option("")));
    let files = with_storage(&format!("\tstorage file_system {}\n", from.display()));
    assert!(storage(&folder, "export", &files, ["-o", "a.tar"]).0);
    let (done, text) = storage(&folder, "import", &config, ["-i", "a.tar"]);
    assert!(!done && text.contains("the bucket is full: make room"), "{text}");
}

fn site(name: &str) -> String {
    format!("{name} {{\n\trespond \"hello {name}\"\n}}\n")
}

#[test]
#[ignore = "needs pebble"]
fn a_full_disk_loses_nothing() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let root = scratch();
    let option = format!("\tstorage file_system {}\n", root.display());
    let heard = Heard::new();
    let lines = option + &heard.option(&["cert_failed", "cert_obtained"]);
    let options = pebble.options_without_storage(pebble.http, pebble.tls, &lines);
    let with = |names: &[&str]| {
        let sites: String = names.iter().map(|name| site(name)).collect();
        format!("{options}{sites}:{{port}} {{\n\trespond up\n}}\n")
    };
    let server = Server::start_limitable(&with(&[]));
    // Room for keys, but for no chain.
    server.limit("400");
    assert!(server.reload(&with(&["a.example.test"])).0);
    let leaf = wait_for(pebble.tls, "a.example.test", 30);
    eventually("it is told", || server.log().contains("certificate could not be stored"));
    let remedy = |told: &str| {
        let log = server.log();
        let line = log.lines().find(|line| line.contains(told)).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["remedy"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(remedy("certificate could not be stored"), "make room in the storage");
    eventually("programs hear of it", || heard.count("cert_failed a.example.test false ") == 1);
    assert_eq!(heard.count("cert_obtained "), 0, "there are no files to read");
    // Room for nothing: the authority is not even asked.
    server.limit("0");
    let orders = pebble.orders();
    assert!(server.reload(&with(&["a.example.test", "b.example.test"])).0);
    eventually("it is told, too", || server.log().contains("storage is not ready"));
    assert_eq!(remedy("storage is not ready"), "make room in the storage");
    // A program has no room either to write down what it hears.
    assert_eq!((pebble.orders(), orders), (1, 1));
    assert_eq!(shown(pebble.tls, "a.example.test").as_ref(), Some(&leaf));
    let locks = fs::read_dir(root.join("locks")).unwrap().count();
    assert_eq!(locks, 0, "half a lock is no lock");
    server.limit("unlimited");
    wait_for(pebble.tls, "b.example.test", 60);
    let end = Instant::now() + Duration::from_secs(60);
    while !files(&root).keys().any(|key| key.ends_with("a.example.test.crt")) {
        assert!(Instant::now() < end, "the certificate is not stored:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    eventually("programs hear that it is over", || heard.count("cert_obtained ") == 2);
    assert_eq!(heard.count("cert_failed "), 1, "{}", heard.text());
    drop(server);
    let _again = Server::start(&with(&["a.example.test", "b.example.test"]));
    assert_eq!(wait_for(pebble.tls, "a.example.test", 20), leaf);
    assert_eq!(pebble.issued(), 2);
}

#[test]
fn a_read_only_folder_is_told_and_the_rest_works() {
    // Nobody may make a folder there, not even root.
    let link = scratch().join("storage");
    std::os::unix::fs::symlink("/proc/caddis", &link).unwrap();
    let root = link.display();
    let (http, tls) = (free_port(), free_port());
    let heard = Heard::new();
    let events = heard.option(&["cert_failed", "cert_obtained"]);
    let server = Server::start(&format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {http}\n\thttps_port {tls}\n\tskip_install_trust\n\tstorage file_system {root}\n{events}}}\na.localhost {{\n\trespond hello\n}}\nhttp://:{{port}} {{\n\trespond up\n}}\n"
    ));
    assert_eq!(get(server.port, "/").body, "up");
    eventually("it is told", || server.log().contains("storage is not ready"));
    assert!(server.log().contains(&link.display().to_string()), "{}", server.log());
    eventually("programs hear of it", || heard.count("cert_failed a.localhost false ") == 1);
    let line = heard.line("cert_failed").unwrap();
    assert!(line.contains(&format!("unable to acquire lock: {}", link.display())), "{line}");
    // What an operator is shown says what to do.
    let output = caddis(&server.folder)
        .args(["certs", "--address"])
        .arg(format!("127.0.0.1:{}", server.admin))
        .output()
        .unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = table.lines().last().unwrap_or_default();
    assert!(last.starts_with("a.localhost: see whether the storage's disk"), "{table}");
    assert_eq!(output.status.code(), Some(1), "a name has no certificate");
    let metrics = get(server.admin, "/metrics").body;
    let want = "caddis_tls_certificates{kind=\"managed\",status=\"waiting\"} 1\n";
    assert!(metrics.contains(want), "{metrics}");
    // It can be written again, and nobody has to say so.
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(scratch(), &link).unwrap();
    wait_for(tls, "a.localhost", 60);
    eventually("that it is over, too", || heard.count("cert_obtained a.localhost false ") == 1);
    assert_eq!(heard.count("cert_failed "), 1, "{}", heard.text());
    let report = get(server.admin, "/tls/certificates").body;
    assert!(!report.contains("\"last_error\""), "{report}");
}

#[test]
fn storages_are_changed_by_path() {
    let (own, apart) = (scratch(), scratch());
    let (http, tls) = (free_port(), free_port());
    let server = Server::start(&format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {http}\n\thttps_port {tls}\n\tskip_install_trust\n\tstorage file_system {}\n}}\na.localhost {{\n\trespond a\n}}\nb.localhost {{\n\ttls {{\n\t\tissuer internal\n\t}}\n\trespond b\n}}\nhttp://:{{port}} {{\n\trespond up\n}}\n",
        own.display()
    ));
    let change = |method: &str, path: &str, body: &str| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            server.admin,
            body.len()
        );
        crate::support::send_raw(server.admin, head.as_bytes())
    };
    let module = get(server.admin, "/config/storage/module").body;
    assert_eq!(module.trim(), "\"file_system\"");
    // The policy of one name gets a storage of its own.
    let policies = "/config/apps/tls/automation/policies";
    let body = format!(r#"{{"module":"file_system","root":"{}"}}"#, apart.display());
    change("PUT", &format!("{policies}/0/storage"), &body).unwrap();
    let policy = get(server.admin, &format!("{policies}/0")).body;
    assert!(policy.contains("\"storage\""), "{policy}");
    let name = if policy.contains("b.localhost") { "b.localhost" } else { "a.localhost" };
    let certificate = format!("certificates/local/{name}/{name}.crt");
    eventually("the certificate is in the other storage", || {
        files(&apart).contains_key(&certificate)
    });
    let third = scratch();
    let body = format!(r#""{}""#, third.display());
    change("PATCH", "/config/storage/root", &body).unwrap();
    eventually("the storage is another one", || {
        files(&third).keys().any(|key| key.starts_with("certificates/local/"))
    });
    let odd = r#"{"module":"redis","hosts":"x"}"#;
    let answer = change("PATCH", "/config/storage", odd).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 500 "), "{}", String::from_utf8_lossy(&answer));
    let root = get(server.admin, "/config/storage/root").body;
    assert!(root.contains(&third.display().to_string()), "a bad one changes nothing: {root}");
}
