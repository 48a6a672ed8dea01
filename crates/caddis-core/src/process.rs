//! What the system tells about this process.

/// A size from `/proc/self/status` (proc_pid_status(5)), for example `VmRSS`, in bytes; `None` where
/// the system has none of this name.
pub fn status_bytes(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}
