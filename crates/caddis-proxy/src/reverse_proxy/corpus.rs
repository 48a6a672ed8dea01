//! TEMP
use caddis_caddyfile::{Dispenser, tokenize};
use caddis_core::{Helper, directive::AdaptState};
use std::collections::BTreeMap;

#[test]
fn corpus() {
    let dir = std::env::var("CORPUS").unwrap_or_default();
    let mut bad = 0;
    let mut good = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (text, want) = if name.ends_with(".caddyfiletest") {
            let all = std::fs::read_to_string(&path).unwrap();
            let (a, b) = all.split_once("----------").unwrap();
            (a.to_owned(), b.trim().to_owned())
        } else if name.ends_with(".caddyfile") {
            let j = path.with_extension("json");
            let Ok(j) = std::fs::read_to_string(&j) else { continue };
            (std::fs::read_to_string(&path).unwrap(), j)
        } else { continue };
        if !text.contains("reverse_proxy") || text.contains("import ") || text.contains("handle_response") { continue; }
        let Ok(want) = serde_json::from_str::<serde_json::Value>(&want) else { println!("noparse {name}"); continue };
        let mut handlers = Vec::new();
        find(&want, &mut handlers);
        let tokens = tokenize("Caddyfile", &text).unwrap();
        let mut d = Dispenser::new(tokens);
        let mut got = Vec::new();
        while d.next() {
            if d.val() == "reverse_proxy" && d.is_new_line() {
                let seg = d.next_segment();
                let registry = crate::testing::registry();
                let options = BTreeMap::new();
                let mut shared = AdaptState::default();
                let mut h = Helper { d: Dispenser::from_segment(&seg), registry: &registry, matchers: Default::default(), options: &options, shared: &mut shared, keys: &[] };
                h.d.next();
                if h.d.next_arg() && (h.d.val().starts_with('/') || h.d.val().starts_with('@') || h.d.val()=="*") { h.d.delete(); }
                h.d.reset();
                match super::directive::parse(&mut h) {
                    Ok(v) => got.push(v),
                    Err(e) => { println!("ERR {name}: {:?}", e); bad += 1; }
                }
            }
        }
        let norm = |v: &serde_json::Value| v.to_string().replace("{http.reverse_proxy.upstream.hostport}", "{upstream_hostport}").replace("{http.request.remote.host}","{remote_host}").replace("{http.request.uri}","{uri}").replace("{http.reverse_proxy.","{rp.").replace("{http.request.","{");
        for g in &got {
            let gs = norm(g);
            if handlers.iter().any(|w| norm(w) == gs) { good += 1; } else {
                bad += 1;
                println!("DIFF {name}\n  got  {gs}");
                for w in &handlers { println!("  want {}", norm(w)); }
            }
        }
    }
    println!("good {good} bad {bad}");
}
fn find(v: &serde_json::Value, out: &mut Vec<serde_json::Value>) {
    match v {
        serde_json::Value::Object(m) => {
            if m.get("handler").and_then(|h| h.as_str()) == Some("reverse_proxy") { out.push(v.clone()); }
            for x in m.values() { find(x, out); }
        }
        serde_json::Value::Array(a) => for x in a { find(x, out); },
        _ => {}
    }
}
