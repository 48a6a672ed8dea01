use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::json;
use time::{OffsetDateTime, macros::datetime};

use super::{RollPlan, backups, tidy};
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
    let backups = backups(&path).unwrap();
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
        ("a-1-size.log", 1),
        ("a-2-size.log", 2),
        ("a-3-time.log", 3),
        ("a-9-size.log.gz", 9),
        ("b-1-size.log", 1),
        ("a-x.log", 1),
    ] {
        fs::write(directory.join(name), "content\n").unwrap();
        let file = fs::File::options().write(true).open(directory.join(name)).unwrap();
        file.set_modified(now - Duration::from_secs(days * 86_400)).unwrap();
    }
    tidy(&plan(json!({"roll_keep": 2, "roll_keep_days": 5})), &path, now).unwrap();
    assert_eq!(
        names(&directory),
        ["a-1-size.log.gz", "a-2-size.log.gz", "a-x.log", "b-1-size.log"]
    );
    let packed = fs::File::open(directory.join("a-1-size.log.gz")).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    assert_eq!(text, "content\n");
    tidy(&plan(json!({"roll_keep_days": 1, "roll_keep": 9})), &path, now + Duration::from_secs(1))
        .unwrap();
    assert_eq!(names(&directory), ["a-x.log", "b-1-size.log"]);
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
    for wrong in [
        json!({"roll_minutes": [60]}),
        json!({"roll_at": ["25:00"]}),
        json!({"roll_compression": "lz"}),
    ] {
        assert!(RollPlan::compile(&serde_json::from_value(wrong.clone()).unwrap()).is_err());
    }
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
    let (one, two) = (plan.open(&state).unwrap(), plan.open(&state).unwrap());
    assert!(std::sync::Arc::ptr_eq(&one, &two));
    let wrong = json!({"output": "file", "filename": directory});
    assert!(WriterPlan::compile(Some(&wrong)).unwrap().open(&state).is_err());
    fs::remove_dir_all(directory).unwrap();
}
