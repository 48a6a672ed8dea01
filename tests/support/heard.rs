//! Events of certificates, written down by a program that the server runs.

use std::{fs, path::PathBuf};

use super::scratch;

/// What a server tells of its certificates.
pub struct Heard {
    folder: PathBuf,
}

impl Heard {
    pub fn new() -> Self {
        let folder = scratch();
        // In one write, so that lines of several programs do not mix.
        let script = "line=\"$*\"\nprintf '%s\\n' \"$line\" >>\"$(dirname \"$0\")/heard\"\n";
        fs::write(folder.join("hook.sh"), script).unwrap();
        Self { folder }
    }

    /// The global option: `NAME IDENTIFIER RENEWAL ERROR` is written down for these events.
    pub fn option(&self, events: &[&str]) -> String {
        let hook = self.folder.join("hook.sh");
        let lines = events.iter().map(|event| {
            format!(
                "\t\ton {event} exec sh {} {event} {{event.data.identifier}} \
                 {{event.data.renewal}} {{event.data.error}}\n",
                hook.display()
            )
        });
        format!("\tevents {{\n{}\t}}\n", lines.collect::<String>())
    }

    pub fn text(&self) -> String {
        fs::read_to_string(self.folder.join("heard")).unwrap_or_default()
    }

    /// The first line that begins so.
    pub fn line(&self, start: &str) -> Option<String> {
        self.text().lines().find(|line| line.starts_with(start)).map(str::to_owned)
    }

    pub fn count(&self, start: &str) -> usize {
        self.text().lines().filter(|line| line.starts_with(start)).count()
    }
}
