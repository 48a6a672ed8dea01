//! Storages that a fleet shares, each a real one of its own on a free port: Redis, PostgreSQL
//! (`apt-get install redis-server postgresql`), s3s-fs, and a small S3 service that checks signatures
//! and can be told to have faults.

mod postgres;
mod redis;
mod s3;
mod s3s;

use std::{
    fs,
    path::Path,
    process::{Child, Command},
};

pub use postgres::Postgres;
pub use redis::{Redis, Redises};
pub use s3::S3;
pub use s3s::S3s;

/// A storage that can go away and come back.
pub trait Store {
    /// The `storage` option of a server, more lines in its block.
    fn option(&self, lines: &str) -> String;
    /// Ends it; what it holds is kept.
    fn down(&mut self);
    /// Starts it again.
    fn up(&mut self);
    /// Makes it deaf, or hear again.
    fn freeze(&self, frozen: bool);
}

/// The option for a bucket `certs` on this machine.
fn s3_option(port: u16, lines: &str) -> String {
    format!(
        "\tstorage s3 {{\n\t\thost 127.0.0.1:{port}\n\t\tinsecure true\n\t\tbucket certs\n\t\tprefix fleet\n\t\taccess_id {}\n\t\tsecret_key {}\n{lines}\t}}\n",
        S3::ID,
        S3::SECRET
    )
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(status.unwrap().success());
}

fn end(child: &mut Option<Child>, with: &str) {
    if let Some(mut child) = child.take() {
        // A frozen process ends when it goes on.
        signal(&child, "CONT");
        signal(&child, with);
        child.wait().unwrap();
    }
}

/// A root, and a certificate for the storage's own TLS.
fn certificates(folder: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    fs::write(folder.join("ca.pem"), root.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(root, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), leaf.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}
