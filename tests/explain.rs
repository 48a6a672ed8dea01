//! `caddis explain`: what becomes of a request.

use std::{fs, path::Path};

use serde_json::Value as Json;

use crate::support::{caddis, scratch};

fn explain(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = caddis(folder).arg("explain").args(arguments).output().unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn report(folder: &Path, arguments: &[&str]) -> Json {
    let mut all = arguments.to_vec();
    all.push("--json");
    let (code, out, said) = explain(folder, &all);
    assert_eq!(code, 0, "{said}");
    serde_json::from_str(&out).unwrap()
}

/// The steps that are taken, as `LINE TEXT`.
fn taken(report: &Json) -> Vec<String> {
    let steps = report["steps"].as_array().unwrap().iter().filter(|step| step["taken"] == true);
    steps.map(|step| format!("{} {}", step["line"], step["text"].as_str().unwrap())).collect()
}

const SITE: &str = "\
&(shared) {
	respond shared 418
}
http://a.localhost:8080 {
	@post method POST
	@get method GET
	handle_path /api/* {
		rewrite * /v1{path}
		reverse_proxy @post localhost:9001 localhost:9002 {
			lb_policy least_conn
		}
		error @get 404
	}
	handle /old {
		redir * /new 301
	}
	handle /private* {
		basic_auth {
			bob $2a$04$abcdefghijklmnopqrstuuM0.oR6vv8UHiSmTk4PvGpdvLKQtEGnK
		}
		respond secret
	}
	handle {
		file_server {
			root files
		}
	}
	handle_errors {
		respond \"sorry {err.status_code}\"
	}
}
http://b.localhost:8080 {
	respond b
}
c.localhost {
	invoke shared
}
";

#[test]
fn routes_upstreams_and_errors() {
    let folder = scratch();
    fs::write(folder.join("Caddyfile"), SITE).unwrap();
    fs::create_dir_all(folder.join("files")).unwrap();
    fs::write(folder.join("files/x.txt"), "x").unwrap();

    let api = report(&folder, &["POST", "http://a.localhost:8080/api/users"]);
    assert_eq!(api["listener"]["address"], ":8080", "{api:#}");
    let other = report(&folder, &["GET", "http://b.localhost:8080/"]);
    assert_eq!((&other["other_sites"], &other["status"]), (&1.into(), &200.into()), "{other:#}");
    let steps = taken(&api);
    assert!(steps[0].starts_with("4 http://a.localhost"), "{steps:?}");
    assert!(steps[1].starts_with("7 handle_path /api/*"), "{steps:?}");
    assert!(steps.iter().any(|step| step == "9 reverse_proxy @post"), "{steps:?}");
    let shown = api.to_string();
    for part in ["least_conn", "localhost:9001, localhost:9002", "the method is POST"] {
        assert!(shown.contains(part), "{part} in {api:#}");
    }

    // The same path by GET meets `error 404`, and so the error routes.
    let get = report(&folder, &["GET", "http://a.localhost:8080/api/users"]);
    assert_eq!(get["status"], 404, "{get:#}");
    assert!(get.to_string().contains("method GET: matches"), "{get:#}");
    assert!(taken(&get).iter().any(|step| step.contains("error 404 Not Found")), "{get:#}");

    let old = report(&folder, &["GET", "http://a.localhost:8080/old"]);
    assert_eq!((&old["status"], &old["end"]), (&301.into(), &"redirect to /new".into()), "{old:#}");

    let url = "http://a.localhost:8080/private/x";
    assert_eq!(report(&folder, &["GET", url])["status"], 401);
    let right = report(&folder, &["GET", url, "--header", "Authorization: Basic Ym9iOng="]);
    assert_eq!(right["status"], 200, "{right:#}");

    let file = report(&folder, &["GET", "http://a.localhost:8080/x.txt"]);
    assert!(file["status"] == 200 && file["end"].as_str().unwrap().contains("x.txt"), "{file:#}");
    assert_eq!(report(&folder, &["GET", "http://a.localhost:8080/y.txt"])["status"], 404);
}

#[test]
fn file_servers_and_intercepts() {
    let folder = scratch();
    let site = "\
http://a.localhost:8080 {
	root files
	handle /files/* {
		uri strip_prefix /files
		file_server {
			hide *.key
			index start.html
		}
	}
	handle {
		intercept {
			replace_status 250
		}
		respond nothing 404
	}
}
";
    fs::write(folder.join("Caddyfile"), site).unwrap();
    fs::create_dir_all(folder.join("files/sub")).unwrap();
    for name in ["x.txt", "x.key", "sub/start.html"] {
        fs::write(folder.join("files").join(name), "x").unwrap();
    }
    let of = |method: &str, path: &str| {
        report(&folder, &[method, &format!("http://a.localhost:8080{path}")])
    };
    for (method, path, status) in [
        ("GET", "/files/x.txt", 200),
        ("POST", "/files/x.txt", 405),
        ("GET", "/files/x.key", 404),
        ("GET", "/files/sub/", 200),
        ("GET", "/files/sub", 308),
        ("GET", "/other", 250),
    ] {
        let answer = of(method, path);
        assert_eq!(answer["status"], status, "{method} {path}: {answer:#}");
    }
    assert_eq!(of("GET", "/files/sub")["end"], "redirect to /files/sub/");
}

#[test]
fn listeners_and_redirects() {
    let folder = scratch();
    fs::write(
        folder.join("Caddyfile"),
        "&(shared) {\n\trespond shared 418\n}\nc.localhost {\n\tinvoke shared\n}\n",
    )
    .unwrap();
    let secure = report(&folder, &["GET", "c.localhost/x"]);
    assert_eq!((&secure["url"], &secure["status"]), (&"https://c.localhost/x".into(), &418.into()));
    assert_eq!(secure["listener"]["tls"], true);
    assert!(taken(&secure).iter().any(|step| step == "2 respond"), "{secure:#}");
    let plain = report(&folder, &["GET", "http://c.localhost/x?y"]);
    assert_eq!(plain["status"], 308, "{plain:#}");
    assert_eq!(plain["end"], "redirect to https://c.localhost/x?y");
    assert!(plain.to_string().contains("automatic HTTPS"), "{plain:#}");
    let nobody = report(&folder, &["GET", "http://c.localhost:81/"]);
    assert!(nobody["end"].as_str().unwrap().starts_with("nobody listens on port 81"), "{nobody:#}");
    let (code, text, _) = explain(&folder, &["GET", "http://c.localhost/x"]);
    assert!(code == 0 && text.contains("✓ redirect of automatic HTTPS"), "{text}");
}

#[test]
fn bad_questions() {
    let folder = scratch();
    fs::write(folder.join("Caddyfile"), ":8080 {\n\trespnd x\n}\n").unwrap();
    let (code, _, said) = explain(&folder, &["GET", "http://localhost:8080/"]);
    assert!(code == 1 && said.contains("did you mean `respond`?"), "{said}");
    assert_eq!(explain(&folder, &["GET", "ftp://localhost/"]).0, 1);
    assert_eq!(explain(&folder, &["GET", "http://localhost:x/"]).0, 1);
    assert_eq!(explain(&folder, &["GET", "localhost", "--header", "nothing"]).0, 1);
}

#[test]
fn json_configs() {
    let folder = scratch();
    let config = r#"{"apps":{"http":{"servers":{"s":{"listen":[":8080"],"routes":[{"handle":[{"handler":"static_response","status_code":204}]}]}}}}}"#;
    fs::write(folder.join("c.json"), config).unwrap();
    let answer = report(&folder, &["GET", "http://localhost:8080/", "--config", "c.json"]);
    assert_eq!(answer["status"], 204, "{answer:#}");
}
