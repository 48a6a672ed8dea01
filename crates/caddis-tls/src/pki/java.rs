//! The trust store of Java at `JAVA_HOME`, changed by its `keytool`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::{Context, Error, Result};

/// Java's own password for the store, which guards nothing.
const PASSWORD: &str = "changeit";

/// A Java with its store.
#[derive(Debug)]
pub(super) struct Java {
    keytool: PathBuf,
    store: PathBuf,
}

impl Java {
    /// The Java of the environment, where it has a `keytool` and a store; below `root` alone, if
    /// there is one.
    pub(super) fn find(root: Option<&Path>) -> Option<Self> {
        let home = std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty())?;
        let home = Path::new(&home);
        if root.is_some_and(|root| !home.starts_with(root)) {
            return None;
        }
        Self::at(home)
    }

    fn at(home: &Path) -> Option<Self> {
        let keytool = home.join("bin/keytool");
        // That of a development kit goes before the other, as it is the one in use.
        let stores = ["jre/lib/security/cacerts", "lib/security/cacerts"];
        let store = stores.iter().map(|store| home.join(store)).find(|store| store.exists())?;
        keytool.exists().then_some(Self { keytool, store })
    }

    /// The store's file.
    pub(super) fn store(&self) -> &Path {
        &self.store
    }

    /// Puts a root in under an alias, unless there is one already.
    pub(super) fn install(&self, alias: &str, file: &Path) -> Result<()> {
        if self.has(alias) {
            return Ok(());
        }
        let file = file.as_os_str().to_string_lossy();
        self.run("-importcert", &["-noprompt", "-file", &file, "-alias", alias])
    }

    /// Takes an alias out; says whether it was there.
    pub(super) fn uninstall(&self, alias: &str) -> Result<bool> {
        if !self.has(alias) {
            return Ok(false);
        }
        self.run("-delete", &["-alias", alias])?;
        Ok(true)
    }

    fn has(&self, alias: &str) -> bool {
        self.run("-list", &["-alias", alias]).is_ok()
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> Result<()> {
        let output = Command::new(&self.keytool)
            .arg(verb)
            .arg("-keystore")
            .arg(&self.store)
            .args(["-storepass", PASSWORD])
            .args(arguments)
            .output()
            .context(self.keytool.display())?;
        if output.status.success() {
            return Ok(());
        }
        // It tells errors on its standard output.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let place = self.store.display();
        Err(Error::new(format!("keytool {verb}: {}: {place}: {}", output.status, text.trim())))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::Java;
    use crate::testing::TempDir;

    /// Keeps aliases in the store, a line each.
    const KEYTOOL: &str = r#"#!/bin/sh
verb=$1 store=$3 alias= file=
[ "$2 $4 $5" = "-keystore -storepass changeit" ] || exit 9
shift 5
while [ $# -gt 0 ]; do
	case $1 in
	-alias) alias=$2; shift ;;
	-file) file=$2; shift ;;
	esac
	shift
done
case $verb in
-list) grep -qx "$alias" "$store" || { echo "keytool error: Alias <$alias> does not exist"; exit 1; } ;;
-importcert) [ -r "$file" ] && echo "$alias" >>"$store" || { echo "keytool error: $file"; exit 1; } ;;
-delete) sed -i "/^$alias\$/d" "$store" ;;
esac
"#;

    #[test]
    fn roots_come_and_go() {
        let dir = TempDir::new();
        let home = dir.path();
        assert!(Java::at(home).is_none());
        fs::create_dir_all(home.join("bin")).unwrap();
        fs::create_dir_all(home.join("lib/security")).unwrap();
        fs::write(home.join("lib/security/cacerts"), "other 1\n").unwrap();
        assert!(Java::at(home).is_none());
        fs::write(home.join("bin/keytool"), KEYTOOL).unwrap();
        fs::set_permissions(home.join("bin/keytool"), fs::Permissions::from_mode(0o755)).unwrap();
        let root = home.join("root.pem");
        fs::write(&root, "x").unwrap();
        let java = Java::at(home).unwrap();
        let kept = || fs::read_to_string(java.store()).unwrap();
        assert!(!java.uninstall("a 2").unwrap());
        for _ in 0..2 {
            java.install("a 2", &root).unwrap();
            assert_eq!(kept(), "other 1\na 2\n");
        }
        assert!(java.uninstall("a 2").unwrap());
        assert_eq!(kept(), "other 1\n");
        let error = java.install("b", &home.join("none")).unwrap_err().to_string();
        assert!(error.contains("keytool -importcert: exit status: 1"), "{error}");
    }
}
