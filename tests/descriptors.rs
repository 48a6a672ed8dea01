//! Listening sockets that another process opened, as systemd does.

use std::{
    net::{TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::support::{caddis, eventually, free_port, get, quic::Quic, request, scratch};

/// The program with this socket as descriptor 3; killed when dropped.
struct Activated {
    child: Child,
    folder: PathBuf,
    admin: u16,
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(caddyfile: &str, admin: &str) -> String {
    format!(
        "{{\n\tadmin {admin}\n\tskip_install_trust\n\tauto_https disable_redirects\n}}\n{caddyfile}"
    )
}

fn spawn(folder: &Path, socket: OwnedFd) -> Child {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let like = caddis(folder);
    Command::new("bash")
        .args(["-c", "exec \"$0\" run --config Caddyfile 3<&0 </dev/null"])
        .arg(env!("CARGO_BIN_EXE_caddis"))
        .current_dir(folder)
        .envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("SOCKET", "3")
        .stdin(Stdio::from(socket))
        .stdout(Stdio::from(log.try_clone().unwrap()))
        .stderr(Stdio::from(log))
        .spawn()
        .unwrap()
}

impl Activated {
    fn start(caddyfile: &str, socket: OwnedFd) -> Self {
        let (folder, admin) = (scratch(), free_port());
        std::fs::write(folder.join("Caddyfile"), text(caddyfile, &format!("127.0.0.1:{admin}")))
            .unwrap();
        let child = spawn(&folder, socket);
        let server = Self { child, folder, admin };
        eventually("the server runs", || TcpStream::connect(("127.0.0.1", admin)).is_ok());
        server
    }

    /// Loads another config; gives the status and what was said.
    fn load(&self, caddyfile: &str) -> (u16, String) {
        let body = text(caddyfile, &format!("127.0.0.1:{}", self.admin));
        let headers = [("Content-Type", "text/caddyfile")];
        let answer = request(self.admin, "POST", "/load", &headers, &body).unwrap();
        (answer.status, answer.body)
    }
}

#[test]
fn a_site_on_an_inherited_socket() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let site = |body: &str| {
        format!("http://localhost {{\n\tbind fd/{{env.SOCKET}}\n\trespond {body}\n}}\n")
    };
    let server = Activated::start(&site("one"), socket.into());
    for _ in 0..8 {
        assert_eq!(get(port, "/").body, "one");
    }
    // The socket stays through a reload, and comes back after a config without it.
    assert_eq!(server.load(&site("two")).0, 200);
    eventually("the new config answers", || get(port, "/").body == "two");
    let other = format!("http://127.0.0.1:{} {{\n\trespond other\n}}\n", free_port());
    assert_eq!(server.load(&other).0, 200);
    assert_eq!(server.load(&site("three")).0, 200);
    eventually("the socket answers again", || get(port, "/").body == "three");
    // What is no listening socket changes nothing.
    for (bind, part) in [
        ("fd/1", "it is not a"),
        ("fd/999", "it is not open"),
        ("fd/x", "invalid file descriptor"),
        ("fdgram/3", "network 'fdgram' cannot handle HTTP/1 or HTTP/2 connections"),
    ] {
        let site = format!("http://localhost {{\n\tbind {bind}\n\trespond bad\n}}\n");
        let (status, said) = server.load(&site);
        assert!(status == 400 && said.contains(part), "{bind}: {status} {said}");
    }
    assert_eq!(get(port, "/").body, "three");
    assert!(server.folder.join("log").exists());
}

#[test]
fn an_inherited_unix_socket() {
    use std::io::{Read, Write};
    let folder = scratch();
    let path = folder.join("listen.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let site = "http://localhost {\n\tbind fd/3\n\trespond unix\n}\n";
    let _server = Activated::start(site, socket.into());
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nunix"), "{answer}");
}

#[test]
fn the_admin_endpoint_on_an_inherited_socket() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let folder = scratch();
    std::fs::write(folder.join("Caddyfile"), text("", "fd/3")).unwrap();
    let admin = port;
    let child = spawn(&folder, socket.into());
    let _server = Activated { child, folder, admin };
    eventually("the endpoint answers", || {
        request(admin, "GET", "/config/", &[], "").is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn http3_on_an_inherited_socket() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let site = "https://localhost {\n\ttls internal\n\tbind fdgram/3 {\n\t\tprotocols h3\n\t}\n\
                \trespond quic\n}\n";
    let server = Activated::start(site, socket.into());
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    eventually("the authority is there", || root.exists());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = Quic::connect(port, "localhost", &root).await.unwrap();
        let got = client.get("https://localhost/").await.unwrap();
        assert_eq!((got.status, got.text()), (200, "quic".to_owned()));
    });
}

#[test]
fn an_abstract_unix_socket() {
    use std::{
        io::{Read, Write},
        os::{linux::net::SocketAddrExt, unix::net::SocketAddr},
    };
    let name = format!("caddis-test-{}", std::process::id());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = format!("http://localhost {{\n\tbind unix/@{name}\n\trespond abstract\n}}\n");
    let server = Activated::start(&site, socket.into());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nabstract"), "{answer}");
    assert!(!server.folder.join(format!("@{name}")).exists());
}
