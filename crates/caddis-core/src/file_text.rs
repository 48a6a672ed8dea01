//! `{file.PATH}`: the text of a file, read each time it is asked for (spec P002). What is no regular
//! file, or cannot be read, is empty.
//!
//! Whoever asks may be a worker, so what is in memory is read at once, and all else by a thread. A
//! disk that answers slowly then gives the text it gave before; a file that was never read is waited
//! for a little longer, once, and is then taken for one that cannot be read.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{Arc, Condvar, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::io::Errno;

use crate::disk;

/// The most of a file that is read, in bytes.
const LIMIT: u64 = 1 << 20;
/// How long a disk may take where there is an older text.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long it may take where there is none.
const FIRST: Duration = Duration::from_secs(1);
/// Files whose texts are kept; others are waited for.
const MOST_KEPT: usize = 1000;

/// The text of a file, without a line break at its end.
pub(crate) fn of(path: &str) -> String {
    match in_memory(Path::new(path)) {
        Ok(text) => {
            let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
            if let Some(kept) = kept {
                kept.lock().text = Some(text.clone());
            }
            text
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(_) => by_thread(path, read),
    }
}

/// Texts that had to be read by a thread once.
static KEPT: LazyLock<Mutex<HashMap<String, Arc<Kept>>>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Kept {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    text: Option<String>,
    /// Counts reads that are done.
    reads: u64,
    /// When a thread began to read.
    reading: Option<Instant>,
    /// Somebody has waited in vain since then.
    told: bool,
}

impl Kept {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn by_thread(path: &str, read: fn(&Path) -> String) -> String {
    let kept = {
        let mut all = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_KEPT && !all.contains_key(path) {
            None
        } else {
            Some(all.entry(path.to_owned()).or_default().clone())
        }
    };
    let Some(kept) = kept else { return read(Path::new(path)) };
    let mut state = kept.lock();
    if state.reading.is_none() {
        let (path, of_thread) = (path.to_owned(), kept.clone());
        let reader = move || {
            let text = read(Path::new(&path));
            let mut state = of_thread.lock();
            (state.text, state.reading, state.told) = (Some(text), None, false);
            state.reads += 1;
            of_thread.changed.notify_all();
        };
        let reading = std::thread::Builder::new().name("read file".to_owned()).spawn(reader);
        state.reading = reading.is_ok().then(Instant::now);
    }
    let before = state.reads;
    let since = state.reading.map_or(Duration::ZERO, |since| since.elapsed());
    let patience = if state.text.is_some() { PATIENCE } else { FIRST };
    let missing = |state: &mut State| state.reading.is_some() && state.reads == before;
    let waited = kept.changed.wait_timeout_while(state, patience.saturating_sub(since), missing);
    let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
    if missing(&mut state) && !std::mem::replace(&mut state.told, true) {
        let instead = if state.text.is_some() { "its text of before" } else { "nothing" };
        tracing::warn!(
            target: "placeholders",
            path,
            instead,
            "a file is not read in time: its disk does not answer; {{file.…}} is something else meanwhile"
        );
    }
    state.text.clone().unwrap_or_default()
}

fn in_memory(path: &Path) -> io::Result<String> {
    let file = disk::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Ok(String::new());
    }
    let size = found.len().min(LIMIT) as usize;
    // Files of the kernel itself (proc(5)) have no size.
    if size == 0 {
        return Ok(text(file));
    }
    match disk::read(&file, 0, size) {
        Ok(bytes) if bytes.len() == size => Ok(trimmed(&bytes)),
        Ok(_) => Err(io::ErrorKind::WouldBlock.into()),
        // A file system that is in memory anyway.
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
            Ok(text(file))
        }
        Err(error) => Err(error),
    }
}

/// Reads with patience.
fn read(path: &Path) -> String {
    match disk::open_patiently(path) {
        Ok(file) if file.metadata().is_ok_and(|found| found.is_file()) => text(file),
        _ => String::new(),
    }
}

fn text(file: File) -> String {
    let mut bytes = Vec::new();
    let read = file.take(LIMIT).read_to_end(&mut bytes);
    if read.is_ok() { trimmed(&bytes) } else { String::new() }
}

fn trimmed(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    text.strip_suffix('\r').unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn texts_of_files() {
        let directory = std::env::temp_dir().join(format!("caddis-text-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
        std::fs::write(path("a"), "one\r\n").expect("written");
        std::fs::write(path("empty"), "").expect("written");
        // Neither a pipe nor an endless device is waited for.
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
        for (name, want) in [
            (path("a"), "one"),
            (path("empty"), ""),
            (path("none"), ""),
            (path("pipe"), ""),
            (path(""), ""),
            ("/dev/zero".to_owned(), ""),
        ] {
            assert_eq!(of(&name), want, "{name}");
            assert_eq!(by_thread(&name, read), want, "{name}");
        }
        assert!(!of("/proc/self/limits").is_empty());
        std::fs::write(path("a"), "two").expect("written");
        assert_eq!(of(&path("a")), "two");
        std::fs::remove_dir_all(directory).expect("removed");
    }

    #[test]
    fn a_slow_disk_gives_what_it_gave() {
        static GO: Mutex<()> = Mutex::new(());
        let path = "/nowhere/of-this-test";
        let slow = |_: &Path| {
            drop(GO.lock());
            "new".to_owned()
        };
        assert_eq!(by_thread(path, |_| "old".to_owned()), "old");
        let stop = GO.lock().expect("free");
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(by_thread(path, slow), "old");
        }
        assert!(start.elapsed() < Duration::from_secs(10));
        drop(stop);
        let deadline = Instant::now() + Duration::from_secs(10);
        while by_thread(path, slow) != "new" {
            assert!(Instant::now() < deadline);
        }
    }
}
