//! Metrics of the process itself.

use std::fmt::Write as _;

use caddis_core::process::status_bytes;

/// What a summary's last two series are called by.
const SUM: &str = "_sum";
const COUNT: &str = "_count";

/// Metrics of the process itself, under the names that dashboards for Caddy know. Those of Go's
/// runtime are told where they mean something here: memory is what the process really has, and there
/// are no pauses of a garbage collector.
pub(super) fn write(out: &mut String) {
    let mut family = |name: &str, kind: &str, help: &str, lines: &[(&str, Option<f64>)]| {
        if lines.iter().all(|(_, value)| value.is_none()) {
            return;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (rest, value) in lines {
            if let Some(value) = value {
                let _ = writeln!(out, "{name}{rest} {value}");
            }
        }
    };
    let build =
        concat!("{checksum=\"\",path=\"caddis\",version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    family("go_build_info", "gauge", "The program and its version.", &[(build, Some(1.0))]);
    let none = Some(0.0);
    family(
        "go_gc_duration_seconds",
        "summary",
        "Pauses of a garbage collector; there is none.",
        &[
            ("{quantile=\"0\"}", none),
            ("{quantile=\"0.25\"}", none),
            ("{quantile=\"0.5\"}", none),
            ("{quantile=\"0.75\"}", none),
            ("{quantile=\"1\"}", none),
            (SUM, none),
            (COUNT, none),
        ],
    );
    let info = "{version=\"none (Rust)\"}";
    family("go_info", "gauge", "The language's runtime.", &[(info, Some(1.0))]);
    let stat = Stat::read();
    let threads = stat.as_ref().map(|stat| stat.threads);
    let mut gauge = |name: &str, help: &str, value| family(name, "gauge", help, &[("", value)]);
    gauge("go_goroutines", "Number of units of concurrency.", threads);
    let heap = status_bytes("RssAnon").map(|bytes| bytes as f64);
    let help = "Memory that is not of a file, resident, in bytes: the heap and stacks.";
    for name in [
        "go_memstats_alloc_bytes",
        "go_memstats_heap_alloc_bytes",
        "go_memstats_heap_inuse_bytes",
        "go_memstats_heap_sys_bytes",
    ] {
        gauge(name, help, heap);
    }
    let resident = stat.as_ref().map(|stat| stat.resident_bytes);
    gauge("go_memstats_sys_bytes", "Resident memory size in bytes.", resident);
    gauge("go_threads", "Number of OS threads created.", threads);
    let mut counter = |name: &str, help: &str, value| family(name, "counter", help, &[("", value)]);
    counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        stat.as_ref().map(|stat| stat.cpu_seconds),
    );
    let (received, sent) = network_bytes().unzip();
    counter(
        "process_network_receive_bytes_total",
        "Number of bytes received by the process over the network.",
        received,
    );
    counter(
        "process_network_transmit_bytes_total",
        "Number of bytes sent by the process over the network.",
        sent,
    );
    let mut gauge = |name: &str, help: &str, value| family(name, "gauge", help, &[("", value)]);
    let fds = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    gauge("process_open_fds", "Number of open file descriptors.", fds);
    let max_fds = limit("Max open files");
    gauge("process_max_fds", "Maximum number of open file descriptors.", max_fds);
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident);
    let size = stat.as_ref().map(|stat| stat.virtual_bytes);
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", size);
    gauge(
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
        limit("Max address space"),
    );
    gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        stat.as_ref().and_then(|stat| Some(boot_time()? + stat.start_seconds)),
    );
}

struct Stat {
    cpu_seconds: f64,
    threads: f64,
    start_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    /// Reads `/proc/self/stat`; `None` where there is none.
    fn read() -> Option<Self> {
        // Fixed on Linux for all programs that read these files.
        const TICKS: f64 = 100.0;
        const PAGE: f64 = 4096.0;
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may hold spaces.
        let fields: Vec<f64> = text
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            threads: field(20)?,
            start_seconds: field(22)? / TICKS,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * PAGE,
        })
    }
}

fn boot_time() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// A limit of the process; without one the largest number there is, as in Go.
fn limit(name: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let value = line.split_whitespace().next()?;
    if value == "unlimited" { Some(u64::MAX as f64) } else { value.parse().ok() }
}

/// Bytes received and sent in the process' network namespace, which is as near as the kernel tells.
fn network_bytes() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let names = lines.next()?.split_whitespace();
    let pairs: Vec<(&str, &str)> = names.zip(lines.next()?.split_whitespace()).collect();
    let number = |name: &str| pairs.iter().find(|(one, _)| *one == name)?.1.parse().ok();
    Some((number("InOctets")?, number("OutOctets")?))
}
