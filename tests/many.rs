//! Thousands of managed names on one server: how fast it starts, what a name costs, and when its
//! certificates are renewed. Figures that count are those of a release build:
//!
//! ```sh
//! CADDIS_NAMES=10000 cargo test --release --test tests many -- --nocapture
//! ```

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    net::TcpListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    acme::shown,
    support::{Past, Server, eventually, free_port, get, scratch},
};

/// What a start cost.
struct Cost {
    start: Duration,
    /// CPU of the start, and of the ten seconds after it.
    cpu: [f64; 2],
    memory: u64,
}

/// Bytes of memory of a process.
fn memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Seconds of CPU that a process has used.
fn cpu(server: &Server) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// Starts with these names, whose certificates are in the storage.
fn start(storage: &Path, directory: &str, names: &[String]) -> (Server, u16, Cost) {
    let tls = free_port();
    let sites: String =
        names.iter().map(|name| format!("{name} {{\n\trespond hello\n}}\n")).collect();
    let text = format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\tskip_install_trust\n\thttp_port {{port}}\n\
         \thttps_port {tls}\n\tacme_ca {directory}\n\tstorage file_system {}\n}}\n{sites}",
        storage.display()
    );
    let began = Instant::now();
    let server = Server::start(&text);
    let last = names.last().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while shown(tls, last).is_none() {
        assert!(Instant::now() < end, "{last} is not served");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (start, first) = (began.elapsed(), cpu(&server));
    std::thread::sleep(Duration::from_secs(10));
    let cost = Cost { start, cpu: [first, cpu(&server) - first], memory: memory(&server) };
    (server, tls, cost)
}

/// All are found in the storage at the start, none is asked for, and they are renewed one after the
/// other when their time comes. The authority is asked for its wishes at a rate, even when it does
/// not answer.
#[test]
fn thousands_of_names_start_from_their_storage() {
    let count = std::env::var("CADDIS_NAMES").map_or(1_000, |count| count.parse().unwrap());
    let names: Vec<String> = (0..count).map(|at| format!("n{at}.example.test")).collect();
    // Whoever asks is counted, and gets nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = format!("https://{}/dir", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counter.fetch_add(1, Ordering::Relaxed);
            drop(stream);
        }
    });
    let storage = scratch();
    Past::new(&directory).fill(&storage, names.iter().map(String::as_str));
    let few = names.len() / 10;
    let (server, _, small) = start(&storage, &directory, &names[..few]);
    drop(server);
    asked.store(0, Ordering::Relaxed);
    let (server, tls, large) = start(&storage, &directory, &names);
    let asked = asked.load(Ordering::Relaxed);
    let each = large.memory.saturating_sub(small.memory) / (names.len() - few) as u64;
    println!(
        "{count} names: served after {:?} with {:.2} s of CPU, {} MiB, {each} bytes per name; \
         {:.2} s of CPU in the ten seconds after, {asked} connections to the authority",
        large.start,
        large.cpu[0],
        large.memory >> 20,
        large.cpu[1],
    );
    assert!(large.start < Duration::from_secs(60), "{:?}", large.start);
    // Three tries of two questions at a time, half a second in between.
    assert!(asked < 150, "{asked} connections to an authority that does not answer");
    // Some of all are shown, each with its own certificate.
    let some: Vec<&String> = names.iter().step_by(names.len() / 50).collect();
    let leaves: HashSet<_> = some.iter().map(|name| shown(tls, name).unwrap()).collect();
    assert_eq!(leaves.len(), some.len());
    let mut report = serde_json::Value::Null;
    eventually("all are reported", || {
        report = serde_json::from_str(&get(server.admin, "/tls/certificates").body).unwrap();
        report.as_array().is_some_and(|all| all.len() == names.len())
    });
    let mut schedule: BTreeMap<i64, usize> = BTreeMap::new();
    for one in report.as_array().unwrap() {
        assert_eq!(one["status"], "valid", "{one}");
        let at = OffsetDateTime::parse(one["next_attempt"].as_str().unwrap(), &Rfc3339).unwrap();
        *schedule.entry(at.unix_timestamp() / 600).or_default() += 1;
    }
    let (first, last) = (*schedule.keys().next().unwrap(), *schedule.keys().last().unwrap());
    let most = *schedule.values().max().unwrap();
    println!(
        "renewals: from {} to {}, at most {most} in ten minutes",
        OffsetDateTime::from_unix_timestamp(first * 600).unwrap(),
        OffsetDateTime::from_unix_timestamp(last * 600).unwrap(),
    );
    assert!(last - first >= 80, "within {} minutes", (last - first) * 10);
    assert!(most * 25 < names.len(), "{most} of {count} within ten minutes");
    let log = server.log();
    assert!(!log.contains("obtaining certificate") && !log.contains("renewing"), "{log}");
}
