//! `caddis storage export` and `caddis storage import`: a config's storage as a tar archive.

use std::{fs, io, os::unix::fs::OpenOptionsExt, process::ExitCode};

use caddis_tls::storage::{self, Storage, archive};

use super::{HALFWAY, Outcome, drawn};
use crate::{
    args::{Config, StorageCommand, StorageExport, StorageImport},
    registry, source,
};

/// Runs one of them.
pub(crate) fn storage(command: &StorageCommand) -> Outcome {
    match command {
        StorageCommand::Export(flags) => export(flags),
        StorageCommand::Import(flags) => import(flags),
    }
}

fn export(flags: &StorageExport) -> Outcome {
    let storage = open(&flags.config)?;
    let output = flags.output.as_deref().filter(|path| !path.is_empty());
    let output = output.ok_or("--output is required")?;
    let exported = if output == "-" {
        archive::export(&*storage, io::BufWriter::new(io::stdout().lock()))
    } else {
        // Private keys are in it.
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(output)
            .map_err(|error| format!("opening output file: {output}: {error}"))?;
        archive::export(&*storage, io::BufWriter::new(file))
    };
    match exported {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(archive::ArchiveError::Storage(error)) => Ok(halfway(&error.to_string())),
        Err(error) => Ok(halfway(&format!("writing archive: {error}"))),
    }
}

fn import(flags: &StorageImport) -> Outcome {
    let storage = open(&flags.config)?;
    let input = flags.input.as_deref().filter(|path| !path.is_empty());
    let input = input.ok_or("--input is required")?;
    let imported = if input == "-" {
        archive::import(&*storage, io::stdin().lock())
    } else {
        let file = fs::File::open(input).map_err(|error| {
            format!("opening input file: open {input}: {}", source::plain(&error))
        })?;
        archive::import(&*storage, io::BufReader::new(file))
    };
    match imported {
        Ok(_) => {
            crate::say::say!("Successfully imported storage");
            Ok(ExitCode::SUCCESS)
        }
        Err(archive::ArchiveError::Storage(error)) => Ok(halfway(&error.to_string())),
        Err(error) => Ok(halfway(&format!("reading archive: {error}"))),
    }
}

fn halfway(message: &str) -> ExitCode {
    super::failed(message);
    ExitCode::from(HALFWAY)
}

/// The storage of a config; the default one where it names none.
fn open(flags: &Config) -> Result<std::sync::Arc<dyn Storage>, String> {
    if flags.file().is_none() {
        return Err("--config is required".to_owned());
    }
    let loaded = source::load(flags, &registry::standard()).map_err(|failure| drawn(&failure))?;
    let config = loaded.and_then(|loaded| loaded.json.get("storage").cloned());
    let config = config.filter(|config| !config.is_null());
    storage::from_config(&config).map_err(|error| error.to_string())
}
