//! Paths: what lies outside the root, is hidden or is behind a matcher is not served, however the
//! request spells it; and what is forwarded keeps its spelling.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::support::{Answer, Scripted, Server, Wire, ok, scratch};

const SECRET: &str = "TOP-SECRET-CONTENT";

/// One request with a target of any bytes, to a host.
fn ask(server: &Server, host: &str, method: &str, target: impl AsRef<[u8]>, more: &str) -> Answer {
    let mut raw = format!("{method} ").into_bytes();
    raw.extend(target.as_ref());
    raw.extend(format!(" HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n").bytes());
    let mut wire = Wire::connect(server.port);
    wire.send(raw);
    Answer::parse(&wire.rest())
}

fn get(server: &Server, host: &str, target: impl AsRef<[u8]>) -> Answer {
    ask(server, host, "GET", target, "")
}

/// A root `www` with what may be seen, what may not, and secrets around it.
fn folder() -> std::path::PathBuf {
    let folder = scratch();
    let www = folder.join("www");
    for name in ["sub", "private", ".git", "dir", "evil.test"] {
        fs::create_dir_all(www.join(name)).unwrap();
    }
    fs::create_dir_all(folder.join("www-sibling")).unwrap();
    for (name, text) in [
        ("www/file.txt", "file"),
        ("www/with space.txt", "space"),
        ("www/sub/index.html", "index"),
        ("www/dir/inner.txt", "inner"),
        ("www/evil.test/index.html", "not here"),
        ("www/<img src=x onerror=alert(1)>.txt", "name"),
        ("www/private/secret.txt", SECRET),
        ("www/.git/config", SECRET),
        ("www/hidden.conf", SECRET),
        ("outside.txt", SECRET),
        ("www-evil.txt", SECRET),
        ("www-sibling/s.txt", SECRET),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    folder
}

const FILES: &str = "http://files.test:{port} {
	root www
	respond /private/* no 403
	file_server browse {
		hide .git hidden.conf
	}
}
http://tried.test:{port} {
	root www
	respond /private/* no 403
	try_files {path} {path}.txt /file.txt
	file_server {
		hide .git hidden.conf
	}
}
http://stripped.test:{port} {
	root www
	handle_path /static/* {
		file_server {
			hide .git hidden.conf private
		}
	}
	respond nothing 404
}
";

fn files() -> Server {
    Server::start_in(folder(), FILES)
}

#[test]
fn files_are_served() {
    let server = files();
    for (target, body) in [
        ("/file.txt", "file"),
        ("/with%20space.txt", "space"),
        ("/sub/", "index"),
        ("/sub/../file.txt", "file"),
    ] {
        let answer = get(&server, "files.test", target);
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{target}");
    }
    assert_eq!(get(&server, "stripped.test", "/static/file.txt").body, "file");
    assert_eq!(get(&server, "tried.test", "/file").body, "file");
    // A site's name in any case.
    assert_eq!(get(&server, "FILES.Test", "/file.txt").body, "file");
}

#[test]
fn nothing_outside_the_root_is_served() {
    let server = files();
    let targets = [
        "/../outside.txt",
        "/../../../../../../etc/passwd",
        "/sub/../../outside.txt",
        "/%2e%2e/outside.txt",
        "/%2e%2e%2foutside.txt",
        "/..%2foutside.txt",
        "/sub/..%2f..%2foutside.txt",
        "/.%2e/outside.txt",
        "/%252e%252e%252foutside.txt",
        "/..%5coutside.txt",
        "/..\\outside.txt",
        "/%c0%ae%c0%ae/outside.txt",
        "/..%c0%afoutside.txt",
        "/..;/outside.txt",
        "/....//outside.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/sub/%2e%2e/%2e%2e/outside.txt",
        "/..%00/outside.txt",
        "/../www-evil.txt",
        "/../www-sibling/s.txt",
        "/%2e%2e%2fwww-sibling/s.txt",
        "/./../outside.txt",
        "/.../outside.txt",
        "/..%u2215outside.txt",
        "/%ef%bc%8e%ef%bc%8e/outside.txt",
    ];
    for host in ["files.test", "tried.test", "stripped.test"] {
        for target in targets {
            for target in [target.to_owned(), format!("/static{target}")] {
                let answer = get(&server, host, &target);
                let text = format!("{host} {target}: {} {}", answer.status, answer.body);
                assert!(!answer.body.contains(SECRET), "{text}");
                assert!(!answer.body.contains("root:"), "{text}");
                assert!((200..500).contains(&answer.status), "{text}");
            }
        }
    }
    assert!(!server.log().contains("panic"), "{}", server.log());
}

#[test]
fn what_is_hidden_or_forbidden_has_no_other_spelling() {
    let server = files();
    let targets = [
        "/private/secret.txt",
        "/private//secret.txt",
        "//private/secret.txt",
        "/./private/secret.txt",
        "/sub/../private/secret.txt",
        "/sub/..%2fprivate/secret.txt",
        "/%70rivate/secret.txt",
        "/private%2fsecret.txt",
        "/.//private/./secret.txt",
        "/%2e/private/secret.txt",
        "/private/%73ecret.txt",
        "/sub%2f..%2fprivate%2fsecret.txt",
        "/private/../private/secret.txt",
        "/%2fprivate/secret.txt",
        "/private/secret.txt%00.html",
        "/private/secret.txt/",
        "/x/%2e%2e/private/secret.txt",
        "/.git/config",
        "/.git%2fconfig",
        "/%2egit/config",
        "/sub/../.git/config",
        "//.git/config",
        "/hidden.conf",
        "/hidden%2econf",
        "/hidden.conf/",
        "/hidden.conf%00",
        "/.git//config",
        "/.git",
        // Characters of globs stand for themselves.
        "/..%2fpriv*%2fsecret.txt",
        "/priv*/secret.txt",
        "/f*.txt.nope",
        "/[f]ile.txt.nope",
        "/\\*",
        "/?ile.txt",
        "/hidden.con*",
        "/hidden.con%3f",
        "/hidden.con[f]",
    ];
    for host in ["files.test", "tried.test", "stripped.test"] {
        for target in targets {
            for target in [target.to_owned(), format!("/static{target}")] {
                let answer = get(&server, host, &target);
                let text = format!("{host} {target}: {} {}", answer.status, answer.body);
                assert!(!answer.body.contains(SECRET), "{text}");
                assert!((200..500).contains(&answer.status), "{text}");
            }
        }
    }
    // A pattern that matches a file does not find it by a name that is none.
    for target in ["/f*", "/[f]ile.txt", "/fil%3f.txt"] {
        assert_eq!(get(&server, "files.test", target).status, 404, "{target}");
    }
    assert!(!server.log().contains("panic"), "{}", server.log());
}

#[test]
fn listings_hide_and_escape() {
    let server = files();
    let listing = get(&server, "files.test", "/").body;
    assert!(listing.contains("file.txt"), "{listing}");
    assert!(!listing.contains(".git") && !listing.contains("hidden.conf"), "{listing}");
    assert!(!listing.contains("<img src=x onerror"), "{listing}");
}

#[test]
fn folders_get_their_slash_and_nothing_else() {
    let server = files();
    let answer = get(&server, "files.test", "/sub?x=1");
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), Some("/sub/?x=1"));
    for target in ["//evil.test", "//evil.test/..", "/\\evil.test", "/%2fevil.test", "///evil.test"]
    {
        let answer = get(&server, "files.test", target);
        let location = answer.header("location").unwrap_or("/");
        assert!(location.starts_with('/') || location.starts_with('.'), "{target}: {location}");
        assert!(
            !location.starts_with("//") && !location.starts_with("/\\"),
            "{target}: {location}"
        );
    }
}

#[test]
fn methods_and_conditions_of_files() {
    let server = files();
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(ask(&server, "files.test", method, "/file.txt", "").status, 405, "{method}");
    }
    let head = ask(&server, "files.test", "HEAD", "/file.txt", "");
    assert_eq!((head.header("content-length"), head.body.as_str()), (Some("4"), ""));
    let tag = head.header("etag").unwrap().to_owned();
    let same = ask(&server, "files.test", "GET", "/file.txt", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((same.status, same.body.as_str()), (304, ""));
    let part = ask(&server, "files.test", "GET", "/file.txt", "Range: bytes=1-2\r\n");
    assert_eq!((part.status, part.body.as_str()), (206, "il"));
    let none = ask(&server, "files.test", "GET", "/file.txt", "Range: bytes=9-\r\n");
    assert_eq!(none.status, 416);
    let other = ask(&server, "files.test", "GET", "/file.txt", "If-Match: \"other\"\r\n");
    assert_eq!(other.status, 412);
    // Time and size cannot be told apart wrongly.
    let set = |name: &str, seconds: u64, length: usize| {
        let path = server.folder.join("www").join(name);
        fs::write(&path, "x".repeat(length)).unwrap();
        let at = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        get(&server, "files.test", format!("/{name}")).header("etag").unwrap().to_owned()
    };
    let tags: Vec<_> = [(36, 37), (2, 37), (1296, 1), (36, 1), (37, 36)]
        .iter()
        .enumerate()
        .map(|(number, (seconds, length))| set(&format!("tag{number}"), *seconds, *length))
        .collect();
    for (at, tag) in tags.iter().enumerate() {
        assert!(!tags[..at].contains(tag), "{tags:?}");
    }
}

#[test]
fn odd_files_hurt_nobody() {
    let folder = folder();
    let www = folder.join("www");
    symlink("loop", www.join("loop")).unwrap();
    symlink("file.txt", www.join("link.txt")).unwrap();
    symlink("nowhere", www.join("dangling")).unwrap();
    make_fifo(&www.join("fifo"));
    let text = format!("{FILES}http://here.test:{{port}} {{\n\troot .\n\tfile_server browse\n}}\n");
    let server = Server::start_in(folder, &text);
    assert_eq!(get(&server, "files.test", "/link.txt").body, "file");
    for target in ["/loop", "/dangling"] {
        assert!(matches!(get(&server, "files.test", target).status, 403 | 404 | 500), "{target}");
    }
    let begin = Instant::now();
    let answer = get(&server, "files.test", "/fifo");
    assert!(begin.elapsed() < Duration::from_secs(5), "{answer:?}");
    assert_eq!(get(&server, "files.test", "/file.txt").body, "file");
    let long = format!("/{}", "x".repeat(5000));
    assert!(matches!(get(&server, "files.test", long).status, 400 | 404 | 414));
    for target in ["/%00", "/file.txt%00", "/sub/%00/x"] {
        let status = get(&server, "files.test", target).status;
        assert!(matches!(status, 400 | 404), "{target}: {status}");
    }
    // The config itself is hidden where it lies in the root.
    let answer = get(&server, "here.test", "/Caddyfile");
    assert_eq!(answer.status, 404, "{}", answer.body);
    assert!(!get(&server, "here.test", "/").body.contains("Caddyfile"));
    assert!(!server.log().contains("panic"), "{}", server.log());
}

fn make_fifo(path: &Path) {
    let status = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}

/// An upstream that keeps the targets it was asked for.
fn recorder() -> (Scripted, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    let upstream = Scripted::start(move |wire| {
        while let Some((head, _)) = wire.request() {
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            keep.lock().unwrap().push(target);
            if !wire.send(ok("up")) {
                return;
            }
        }
    });
    (upstream, seen)
}

/// What a backend makes of a target that decodes once and cleans.
fn cleaned(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut bytes = Vec::new();
    let raw = path.as_bytes();
    let mut at = 0;
    while at < raw.len() {
        let code = raw.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (raw[at], code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                at += 3;
            }
            (byte, _) => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes).to_lowercase();
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[test]
fn a_path_that_is_closed_has_no_other_spelling() {
    let (upstream, seen) = recorder();
    let server = Server::start(&crate::support::site_with(&format!(
        "\t@closed path /admin /admin/*\n\trespond @closed no 403\n\treverse_proxy {}\n",
        upstream.address()
    )));
    for target in [
        "/admin",
        "/admin/",
        "/admin/x",
        "/ADMIN/x",
        "/AdMiN",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/x/..%2fadmin",
        "/%61dmin",
        "/%61%64%6d%69%6e/x",
        "/admin%2fx",
        "/x%2f..%2fadmin",
        "/.//admin/x",
        "/%2e/admin",
        "/x/%2e%2e/admin",
        "///admin///x",
        "/admin/.",
        "/admin/..%2fadmin",
        "/x//../admin",
        "/admin?x",
        "/%2fadmin",
        "/x/y/../../admin/z",
        "/../admin",
        "/..%2fadmin",
    ] {
        let answer = get(&server, "a.test", target);
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        for forwarded in &seen {
            let path = cleaned(forwarded);
            let closed = path == "/admin" || path.starts_with("/admin/");
            assert!(!closed, "{target} came through as {forwarded}");
        }
        assert!(answer.status == 403 || !seen.is_empty() || answer.status == 400, "{target}");
    }
}

#[test]
fn targets_are_forwarded_as_they_are_spelt() {
    let (upstream, seen) = recorder();
    let server = Server::start(&crate::support::site_with(&format!(
        "\thandle_path /strip/* {{\n\t\treverse_proxy {up}\n\t}}\n\treverse_proxy {up}\n",
        up = upstream.address()
    )));
    for target in
        ["/a%2Fb", "/a%20b", "/a%3Fb", "/a//b", "/a/./b", "/%e4%f6", "/a+b", "/a;b=c?x=%2F&y=+"]
    {
        assert_eq!(get(&server, "a.test", target).status, 200, "{target}");
        assert_eq!(seen.lock().unwrap().pop().as_deref(), Some(target));
    }
    for target in ["/%", "/%zz", "/a%2", "/x?%zz"] {
        let answer = get(&server, "a.test", target);
        match seen.lock().unwrap().pop() {
            Some(forwarded) => assert_eq!(forwarded, target),
            None => assert_eq!(answer.status, 400, "{target}"),
        }
    }
    // A prefix and nothing more, and never another host.
    for (target, forwarded) in
        [("/strip/x", "/x"), ("/strip/", "/"), ("/strip/x/strip/y", "/x/strip/y")]
    {
        get(&server, "a.test", target);
        assert_eq!(seen.lock().unwrap().pop().as_deref(), Some(forwarded), "{target}");
    }
    for target in ["/strip//evil.test/x", "/strip/%2fevil.test", "/STRIP//evil.test"] {
        get(&server, "a.test", target);
        if let Some(forwarded) = seen.lock().unwrap().pop() {
            assert!(forwarded.starts_with('/'), "{target}: {forwarded}");
        }
    }
}

#[test]
fn matchers_see_one_path_and_one_name() {
    let names: String = (0..120).map(|number| format!(" h{number}.test")).collect();
    let server = Server::start(&crate::support::site_with(&format!(
        "\t@many host{names}\n\trespond @many many\n\
         \t@slash path /sec%2Fret\n\trespond @slash slash\n\
         \t@suffix path *.secret\n\trespond @suffix suffix\n\
         \t@method {{\n\t\tmethod GET\n\t\tpath /method\n\t}}\n\trespond @method method\n\
         \thandle /api/* {{\n\t\trespond api\n\t}}\n\trespond other\n"
    )));
    for (host, target, body) in [
        ("a.test", "/api/x", "api"),
        ("a.test", "/api/", "api"),
        ("a.test", "/apiary", "other"),
        ("a.test", "/api", "other"),
        ("a.test", "/x/api", "other"),
        ("a.test", "/sec%2Fret", "slash"),
        ("a.test", "/SEC%2fRET", "slash"),
        ("a.test", "/x.secret", "suffix"),
        ("a.test", "/x.SECRET", "suffix"),
        ("a.test", "/x%2eSecret", "suffix"),
        ("h7.test", "/", "many"),
        ("H119.TEST", "/", "many"),
        ("h120.test", "/", "other"),
        ("a.test", "/method", "method"),
    ] {
        assert_eq!(get(&server, host, target).body, body, "{host} {target}");
    }
    // Methods are told apart by case, and fields do not change them.
    assert_eq!(ask(&server, "a.test", "get", "/method", "").body, "other");
    let posing = "X-HTTP-Method-Override: GET\r\nX-HTTP-Method: GET\r\nContent-Length: 0\r\n";
    assert_eq!(ask(&server, "a.test", "POST", "/method", posing).body, "other");
}

/// Who may not read a file, in a process without root's rights.
#[test]
fn unreadable_files_are_forbidden() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.join("www/unreadable.txt");
    fs::write(&path, "no").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let server = Server::start_in(folder, FILES);
    let answer = get(&server, "files.test", "/unreadable.txt");
    // Root reads everything.
    let root = fs::File::open(&path).is_ok();
    assert!(answer.status == 403 || (root && answer.status == 200), "{answer:?}");
}
