//! Files that do not answer: whoever needs them waits, and nobody else.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::support::{Server, eventually, get, scratch, site_with};

const PATIENCE: Duration = Duration::from_secs(20);

/// A file system whose server never says a word.
struct Silent {
    at: PathBuf,
    device: Option<File>,
}

impl Silent {
    fn mount(at: PathBuf) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        fcntl_setfd(device.as_fd(), FdFlags::empty()).unwrap();
        let options =
            format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", &options, "silent"]).arg(&at);
        assert!(mount.status().unwrap().success());
        fcntl_setfd(device.as_fd(), FdFlags::CLOEXEC).unwrap();
        Self { at, device: Some(device) }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // Whoever waits gets an error then.
        self.device = None;
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// Asks for each path often enough that all workers get it, and waits for no answer.
fn ask_and_leave(port: u16, paths: &[&'static str], seen: &mpsc::Sender<(&'static str, u16)>) {
    for path in paths.iter().copied() {
        for _ in 0..6 {
            let seen = seen.clone();
            std::thread::spawn(move || {
                let status = get(port, path).status;
                // The test may be over.
                let _ = seen.send((path, status));
            });
        }
    }
}

#[test]
#[ignore = "needs FUSE, and to be root"]
fn a_disk_that_does_not_answer_stops_nobody_else() {
    let folder = scratch();
    let silent = Silent::mount(folder.join("silent"));
    std::fs::create_dir_all(folder.join("www")).unwrap();
    std::fs::write(folder.join("www/fine.txt"), "fine").unwrap();
    let server = Server::start_in(
        folder,
        &site_with(
            "\troot /slow* silent\n\troot * www\n\
             \thandle_path /slow-try/* {\n\t\ttry_files {path} {path}/index.html\n\t\trespond tried\n\t}\n\
             \thandle_path /slow-expression/* {\n\t\t@there `!file({'try_files': ['/*']})`\n\t\trespond @there none\n\t}\n\
             \thandle_path /slow-files/* {\n\t\tfile_server browse\n\t}\n\
             \thandle /text {\n\t\trespond \"[{file.silent/text}]\"\n\t}\n\
             \ttry_files {path}\n\tfile_server\n",
        ),
    );
    let (tell, seen) = mpsc::channel();
    let stuck = ["/slow-try/x", "/slow-expression/", "/slow-files/x", "/slow-files/"];
    ask_and_leave(server.port, &stuck, &tell);
    // What was never read is waited for a moment.
    assert_eq!(get(server.port, "/text").body, "[]");
    let begin = Instant::now();
    for _ in 0..50 {
        assert_eq!(get(server.port, "/fine.txt").body, "fine");
        assert_eq!(get(server.port, "/text").body, "[]");
    }
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    assert!(seen.try_recv().is_err(), "it was silent");
    // The disk is gone: all that waited goes on.
    drop(silent);
    for _ in 0..stuck.len() * 6 {
        let (path, status) = seen.recv_timeout(PATIENCE).unwrap();
        let want: &[u16] = match path {
            "/slow-try/x" | "/slow-expression/" => &[200],
            // What was mounted upon is an empty folder.
            "/slow-files/" => &[200, 403, 404, 500],
            _ => &[403, 404, 500],
        };
        assert!(want.contains(&status), "{path}: {status}");
    }
}

#[test]
#[ignore = "needs FUSE, and to be root"]
fn a_server_ends_whatever_its_disk_does() {
    let folder = scratch();
    let silent = Silent::mount(folder.join("silent"));
    let mut server =
        Server::start_in(folder, &site_with("\troot silent\n\tfile_server\n\trespond /up up\n"));
    let (tell, _seen) = mpsc::channel();
    ask_and_leave(server.port, &["/x"], &tell);
    assert_eq!(get(server.port, "/up").body, "up");
    server.signal("TERM");
    // Requests that wait are given their time to end before.
    server.signal("INT");
    server.signal("INT");
    eventually("the server has ended", || server.child.try_wait().unwrap().is_some());
    drop(silent);
}

#[test]
fn pipes_and_folders_in_the_root_stop_nobody() {
    let folder = scratch();
    let www = folder.join("www");
    std::fs::create_dir_all(www.join("folder")).unwrap();
    std::fs::write(www.join("fine.txt"), "fine").unwrap();
    std::fs::write(www.join("page.html"), "<{{include \"/pipe\"}}>").unwrap();
    make_pipe(&www.join("pipe"));
    let server = Server::start_in(
        folder,
        &site_with(
            "\troot www\n\thandle /text/* {\n\t\trespond \"[{file.www/pipe}{file.www/folder}{file./dev/zero}]\"\n\t}\n\
             \thandle /page.html {\n\t\ttemplates\n\t\tfile_server\n\t}\n\
             \t@pipe file /pipe\n\theader @pipe X-Pipe {file_match.type}\n\
             \thandle {\n\t\ttry_files {path} /fine.txt\n\t\tfile_server\n\t}\n",
        ),
    );
    let begin = Instant::now();
    for _ in 0..8 {
        assert_eq!(get(server.port, "/text/").body, "[]");
        let fine = get(server.port, "/none");
        assert_eq!((fine.body.as_str(), fine.header("x-pipe")), ("fine", Some("file")));
        // A folder's and a pipe's own answers are whatever they are, but they come.
        for path in ["/pipe", "/folder", "/folder/", "/page.html"] {
            assert_ne!(get(server.port, path).status, 0, "{path}");
        }
    }
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}
