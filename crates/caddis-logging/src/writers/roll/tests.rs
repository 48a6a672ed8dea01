use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;
use time::{OffsetDateTime, macros::datetime};

use super::{Reason, RollPlan, Roller, backups, tidy};
use crate::writers::{
    Sink, WriterPlan,
    file::{FilePlan, FileSink},
    scratch,
};

fn plan(json: serde_json::Value) -> RollPlan {
    RollPlan::compile(&serde_json::from_value(json).unwrap()).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_full_file_is_rolled_between_lines() {
    let directory = scratch("roll-size");
    let path = directory.join("sub/access.log");
    let json = json!({"filename": path, "roll_size_mb": 1, "roll_gzip": false});
    let mut sink = FileSink::open(&FilePlan::compile(json).unwrap()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let parent = path.parent().unwrap();
    assert_eq!(fs::metadata(parent).unwrap().permissions().mode() & 0o777, 0o700);

    let mut lines = vec![b'x'; 700 << 10];
    lines.push(b'\n');
    let one = lines.len();
    lines.extend_from_slice(&vec![b'y'; 700 << 10]);
    lines.push(b'\n');
    let two = lines.len();
    sink.write(&lines, &[one, two]);
    assert_eq!(fs::metadata(&path).unwrap().len(), (two - one) as u64);
    let backups = backups(&plan(json!({})), &path).unwrap();
    assert_eq!(backups.len(), 1);
    assert_eq!(fs::metadata(&backups[0].0).unwrap().len(), one as u64);
    let name = backups[0].0.file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("access-20") && name.ends_with("-size.log"), "{name}");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn old_backups_are_compressed_and_removed() {
    let directory = scratch("roll-tidy");
    let path = directory.join("a.log");
    let now = SystemTime::now();
    for (name, days) in [
        ("a-2026-01-09T00-00-00.000-size.log", 1),
        ("a-2026-01-08T00-00-00.000+1-size.log", 2),
        ("a-2026-01-07T00-00-00.000-time.log", 3),
        ("a-2026-01-01T00-00-00.000-size.log.gz", 9),
        ("b-2026-01-01T00-00-00.000-size.log", 9),
        // Other logs, and what older versions of Caddy rolled.
        ("a-x.log", 9),
        ("a-upload-size.log", 9),
        ("a-2-time.log", 9),
        ("a-2026-01-01T00-00-00.000.log.gz", 9),
    ] {
        fs::write(directory.join(name), "content\n").unwrap();
        let file = fs::File::options().write(true).open(directory.join(name)).unwrap();
        file.set_modified(now - Duration::from_secs(days * 86_400)).unwrap();
    }
    tidy(&plan(json!({"roll_keep": 2, "roll_keep_days": 5})), &path, now).unwrap();
    let others = [
        "a-2-time.log",
        "a-2026-01-01T00-00-00.000.log.gz",
        "a-upload-size.log",
        "a-x.log",
        "b-2026-01-01T00-00-00.000-size.log",
    ];
    let kept = ["a-2026-01-08T00-00-00.000+1-size.log.gz", "a-2026-01-09T00-00-00.000-size.log.gz"];
    let mut all = [&others[..], &kept[..]].concat();
    all.sort_unstable();
    assert_eq!(names(&directory), all);
    let packed = fs::File::open(directory.join(kept[1])).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    assert_eq!(text, "content\n");
    tidy(&plan(json!({"roll_keep_days": 1, "roll_keep": 9})), &path, now + Duration::from_secs(1))
        .unwrap();
    assert_eq!(names(&directory), others);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn the_clock_rolls() {
    let next = |json: serde_json::Value, at: OffsetDateTime| plan(json).next(at);
    let noon = datetime!(2026-01-02 12:10:30 UTC);
    assert_eq!(next(json!({}), noon), None);
    assert_eq!(
        next(json!({"roll_minutes": [0, 30]}), noon),
        Some(datetime!(2026-01-02 12:30:00 UTC))
    );
    assert_eq!(
        next(json!({"roll_at": ["00:00", "12:00"]}), noon),
        Some(datetime!(2026-01-03 00:00:00 UTC))
    );
    assert_eq!(
        next(json!({"roll_interval": "1h", "roll_at": ["18:00"]}), noon),
        Some(datetime!(2026-01-02 13:10:30 UTC))
    );
    // Times that are none are left out, as in Caddy.
    assert_eq!(
        next(json!({"roll_minutes": [60, 30], "roll_at": ["25:00", "x"]}), noon),
        Some(datetime!(2026-01-02 12:30:00 UTC))
    );
    let wrong = serde_json::from_value(json!({"roll_compression": "lz"})).unwrap();
    assert!(RollPlan::compile(&wrong).is_err());
    // A layout from which no time can be read gives way to the usual one.
    assert_eq!(plan(json!({"backup_time_format": "05-05 x Mon 2"})), plan(json!({})));
}

#[test]
fn the_clock_needs_no_lines() {
    let directory = scratch("roll-tick");
    let path = directory.join("a.log");
    let json = json!({"filename": path, "roll_interval": "1ms", "roll_gzip": false});
    let mut sink = FileSink::open(&FilePlan::compile(json).unwrap()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let wait = |sink: &FileSink| {
        while sink.next().unwrap() > Duration::ZERO {
            assert!(Instant::now() < deadline, "the clock stands still");
        }
    };
    // An empty file stays.
    wait(&sink);
    sink.tick();
    assert_eq!(names(&directory), ["a.log"]);
    sink.write(b"one\n", &[4]);
    wait(&sink);
    sink.tick();
    let names = names(&directory);
    assert!(names.len() == 2 && names[0].ends_with("-time.log"), "{names:?}");
    assert_eq!(fs::read_to_string(directory.join(&names[0])).unwrap(), "one\n");
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_new_file_keeps_the_bits_of_the_old() {
    let directory = scratch("roll-mode");
    let path = directory.join("a.log");
    let bits = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let line = vec![b'x'; 700 << 10];
    for (wished, want) in [(json!(null), 0o640), (json!("0604"), 0o604)] {
        fs::write(&path, "old\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let json = json!({"filename": path, "mode": wished, "roll_size_mb": 1});
        let mut sink = FileSink::open(&FilePlan::compile(json).unwrap()).unwrap();
        assert_eq!(bits(&path), want, "a file that is there");
        sink.write(&line, &[line.len()]);
        sink.write(&line, &[line.len()]);
        assert_eq!(fs::metadata(&path).unwrap().len(), line.len() as u64, "rolled");
        assert_eq!(bits(&path), want, "a file after rolling");
        fs::remove_file(&path).unwrap();
        sink.forget_look();
        sink.write(b"x\n", &[2]);
        assert_eq!(bits(&path), want, "a file after it was removed");
    }
    let made = |json: serde_json::Value| {
        let path = directory.join("made/a.log");
        let mut json = json;
        json["filename"] = json!(path);
        FileSink::open(&FilePlan::compile(json).unwrap()).unwrap();
        let made = bits(path.parent().unwrap());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        made
    };
    assert_eq!(made(json!({"dir_mode": "0"})), 0o700);
    assert_eq!(made(json!({"dir_mode": " From_File ", "mode": "0400"})), 0o700);
    assert_eq!(made(json!({"dir_mode": "from_file", "mode": "0640"})), 0o750);
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o740)).unwrap();
    assert_eq!(made(json!({"dir_mode": "inherit"})), 0o750);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn where_rolling_fails_the_file_is_written_on() {
    let directory = scratch("roll-fails");
    let path = directory.join("a.log");
    let now = datetime!(2026-01-02 12:10:30 UTC);
    fs::write(&path, "old\n").unwrap();
    let mut roller = Roller::new(plan(json!({})), path.clone(), now);
    let refused = roller.roll(Reason::Size, now, || Err(io::ErrorKind::PermissionDenied.into()));
    assert!(refused.is_err());
    assert_eq!(names(&directory), ["a.log"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\n");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_a_full_disk_takes_not_is_counted() {
    let json = json!({"filename": "/dev/full"});
    let mut sink = FileSink::open(&FilePlan::compile(json).unwrap()).unwrap();
    assert_eq!(sink.write(b"one\ntwo\n", &[4, 8]), 2);
}

#[test]
fn a_pipe_needs_no_reader() {
    let directory = scratch("roll-pipe");
    let path = directory.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let json = json!({"filename": path});
    let mut sink = FileSink::open(&FilePlan::compile(json).unwrap()).unwrap();
    assert_eq!(sink.write(b"one\n", &[4]), 0);
    // Who comes later reads what waits in the pipe.
    let mut reader = io::BufReader::new(fs::File::open(&path).unwrap());
    let mut line = String::new();
    io::BufRead::read_line(&mut reader, &mut line).unwrap();
    assert_eq!(line, "one\n");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_moved_file_is_opened_anew() {
    let directory = scratch("roll-moved");
    let path = directory.join("a.log");
    let json = json!({"filename": path, "roll": false});
    let mut sink = FileSink::open(&FilePlan::compile(json).unwrap()).unwrap();
    sink.write(b"one\n", &[4]);
    fs::rename(&path, directory.join("moved")).unwrap();
    sink.forget_look();
    sink.write(b"two\n", &[4]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    assert_eq!(fs::read_to_string(directory.join("moved")).unwrap(), "one\n");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn writers_are_shared_by_key() {
    let directory = scratch("roll-shared");
    let json = json!({"output": "file", "filename": directory.join("a.log")});
    let plan = WriterPlan::compile(Some(&json)).unwrap();
    let state = caddis_core::State::default();
    let metrics = caddis_core::metrics::Metrics::default();
    let open = || plan.open(&state, &metrics);
    let (one, two) = (open().unwrap(), open().unwrap());
    assert!(std::sync::Arc::ptr_eq(&one, &two));
    let wrong = json!({"output": "file", "filename": directory});
    assert!(WriterPlan::compile(Some(&wrong)).unwrap().open(&state, &metrics).is_err());
    fs::remove_dir_all(directory).unwrap();
}
