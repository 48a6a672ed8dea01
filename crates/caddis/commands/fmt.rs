//! `caddis fmt`: the Caddyfile in its standard form (spec A047).

use std::{
    io::{Read, Write},
    process::ExitCode,
};

use super::Outcome;
use crate::{args::Fmt, source::plain};

/// Cells of the table that finds the lines two texts share; larger texts are shown as replaced.
const LARGEST_TABLE: usize = 16 << 20;

/// Formats a file or standard input. Exit code 1 where the file differs (and was not written).
pub(crate) fn fmt(flags: &Fmt) -> Outcome {
    let path = flags.paths.first().map(String::as_str).filter(|path| !path.is_empty());
    let config = Some(flags.config.as_str()).filter(|path| !path.is_empty());
    if flags.paths.len() > 1 || (path.is_some() && config.is_some()) {
        let all = flags.paths.join(" ");
        return Err(format!("fmt does not support multiple files {} {all}", flags.config));
    }
    let name = path.or(config).unwrap_or("Caddyfile");
    if name == "-" {
        return standard_input();
    }
    let text = std::fs::read(name)
        .map_err(|error| format!("reading input file: open {name}: {}", plain(&error)))?;
    let formatted = caddis_caddyfile::format(&text);
    if flags.overwrite {
        if formatted != text {
            std::fs::write(name, &formatted).map_err(|error| {
                format!("overwriting formatted file: open {name}: {}", plain(&error))
            })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if flags.diff {
        print(&difference(&text, &formatted));
    } else {
        print(&formatted);
    }
    let Some(line) = caddis_caddyfile::first_difference(&text) else {
        return Ok(ExitCode::SUCCESS);
    };
    Err(format!(
        "{name}:{line}: Caddyfile input is not formatted; Tip: use '--overwrite' to update your Caddyfile in-place instead of previewing it. Consult '--help' for more options"
    ))
}

/// Formats standard input; other flags have no meaning there.
fn standard_input() -> Outcome {
    let mut text = Vec::new();
    std::io::stdin()
        .read_to_end(&mut text)
        .map_err(|error| format!("reading stdin: {}", plain(&error)))?;
    print(&caddis_caddyfile::format(&text));
    Ok(ExitCode::SUCCESS)
}

fn print(text: &[u8]) {
    // A reader that went away is no failure of formatting.
    let _ = std::io::stdout().lock().write_all(text);
}

/// All lines: removed ones after `- `, added ones after `+ `, others after two spaces.
fn difference(text: &[u8], formatted: &[u8]) -> Vec<u8> {
    let old: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let new: Vec<&[u8]> = formatted.split(|byte| *byte == b'\n').collect();
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev());
    let tail = tail.take_while(|(a, b)| a == b).count();
    let mut out = Vec::with_capacity(text.len() + formatted.len());
    let mut line = |mark: &[u8], line: &[u8]| {
        out.extend_from_slice(mark);
        out.extend_from_slice(line);
        out.push(b'\n');
    };
    old[..head].iter().for_each(|same| line(b"  ", same));
    middle(&old[head..old.len() - tail], &new[head..new.len() - tail], &mut line);
    old[old.len() - tail..].iter().for_each(|same| line(b"  ", same));
    out
}

/// The lines between the first and the last difference.
fn middle(old: &[&[u8]], new: &[&[u8]], line: &mut impl FnMut(&[u8], &[u8])) {
    let width = new.len() + 1;
    if width.saturating_mul(old.len() + 1) > LARGEST_TABLE {
        old.iter().for_each(|removed| line(b"- ", removed));
        new.iter().for_each(|added| line(b"+ ", added));
        return;
    }
    // Cell (i, j): how many lines the first i old and the first j new ones share, in order.
    let mut shared = vec![0_u32; width * (old.len() + 1)];
    for i in 1..=old.len() {
        for j in 1..=new.len() {
            shared[i * width + j] = if old[i - 1] == new[j - 1] {
                shared[(i - 1) * width + j - 1] + 1
            } else {
                shared[(i - 1) * width + j].max(shared[i * width + j - 1])
            };
        }
    }
    let (mut i, mut j) = (old.len(), new.len());
    let mut lines: Vec<(&[u8], &[u8])> = Vec::with_capacity(i + j);
    while i > 0 || j > 0 {
        let here = shared[i * width + j];
        if i > 0 && j > 0 && old[i - 1] == new[j - 1] {
            i -= 1;
            j -= 1;
            lines.push((b"  ", old[i]));
        } else if j > 0 && (i == 0 || here == shared[i * width + j - 1]) {
            j -= 1;
            lines.push((b"+ ", new[j]));
        } else {
            i -= 1;
            lines.push((b"- ", old[i]));
        }
    }
    lines.iter().rev().for_each(|(mark, text)| line(mark, text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_differences() {
        let shown = difference(b"a\n b\nc", b"a\nb\nc\n");
        assert_eq!(String::from_utf8_lossy(&shown), "  a\n-  b\n+ b\n  c\n+ \n");
        assert_eq!(difference(b"a\n", b"a\n"), b"  a\n  \n");
        // Of equal lines the last one stays, and what is removed stands before what is added.
        let shown = difference(b"a{\nx\n}\n}\nb  {\n}", b"a {\n\tx\n}\nb {\n}");
        let shown = String::from_utf8_lossy(&shown);
        assert_eq!(shown, "- a{\n- x\n- }\n+ a {\n+ \tx\n  }\n- b  {\n+ b {\n  }\n");
    }
}
