//! `caddis fmt`: the Caddyfile in its standard form.

use std::{
    io::{Read, Write},
    process::ExitCode,
};

use super::Outcome;
use crate::args::Fmt;

/// Formats a file or standard input. Exit code 1 where the file differs (and was not written).
pub(crate) fn fmt(flags: &Fmt) -> Outcome {
    let name = flags.path.as_deref().or(flags.config.as_deref()).unwrap_or("Caddyfile");
    let stdin = name == "-";
    let text = if stdin {
        let mut text = Vec::new();
        std::io::stdin()
            .read_to_end(&mut text)
            .map_err(|error| format!("reading stdin: {error}"))?;
        text
    } else {
        std::fs::read(name).map_err(|error| format!("reading input file: open {name}: {error}"))?
    };
    let formatted = caddis_caddyfile::format(&text);
    if flags.overwrite && !stdin {
        if formatted != text {
            std::fs::write(name, &formatted)
                .map_err(|error| format!("overwriting formatted file: {error}"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = std::io::stdout().lock();
    let shown = if flags.diff { difference(&text, &formatted) } else { formatted.clone() };
    // A reader that went away is no failure of formatting.
    let _ = out.write_all(&shown);
    let same = text.iter().filter(|byte| **byte != b'\r').eq(&formatted);
    if stdin || same {
        return Ok(ExitCode::SUCCESS);
    }
    let line = first_difference(&text, &formatted);
    Err(format!("{name}:{line}: Caddyfile input is not formatted; use --overwrite to format it"))
}

fn first_difference(text: &[u8], formatted: &[u8]) -> usize {
    let lines = |text: &[u8]| -> Vec<Vec<u8>> {
        text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    };
    let (left, right) = (lines(text), lines(formatted));
    left.iter().zip(&right).position(|(a, b)| a != b).unwrap_or(left.len().min(right.len())) + 1
}

/// Removed lines with `- `, added ones with `+ `, others with two spaces.
fn difference(text: &[u8], formatted: &[u8]) -> Vec<u8> {
    let (left, right) = (String::from_utf8_lossy(text), String::from_utf8_lossy(formatted));
    let (left, right): (Vec<_>, Vec<_>) = (left.lines().collect(), right.lines().collect());
    let mut out = String::new();
    let (mut at, mut other) = (0, 0);
    while at < left.len() || other < right.len() {
        match (left.get(at), right.get(other)) {
            (Some(old), Some(new)) if old == new => {
                out.push_str(&format!("  {old}\n"));
                at += 1;
                other += 1;
            }
            (Some(old), new) => {
                out.push_str(&format!("- {old}\n"));
                at += 1;
                if let Some(new) = new
                    && old.trim() == new.trim()
                {
                    out.push_str(&format!("+ {new}\n"));
                    other += 1;
                }
            }
            (None, Some(new)) => {
                out.push_str(&format!("+ {new}\n"));
                other += 1;
            }
            (None, None) => break,
        }
    }
    out.into_bytes()
}
