//! Where a log is written to.
//!
//! ```text
//! stdout   stderr   discard
//! file <filename> {
//!     mode              <octal>
//!     dir_mode          inherit | from_file | <octal>
//!     roll_disabled
//!     roll_size         <size>
//!     roll_uncompressed
//!     roll_compression  none | gzip | zstd
//!     roll_local_time
//!     roll_keep         <count>
//!     roll_keep_for     <duration>
//!     roll_interval     <duration>
//!     roll_minutes      <minute…>
//!     roll_at           <time…>
//!     backup_time_format <layout>
//! }
//! net <address> {
//!     dial_timeout <duration>
//!     soft_start
//! }
//! ```

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::Duration;
use serde_json::{Value as Json, json};

use crate::fields::Fields;
use crate::modules::{Kind, duration, integer, next_arg, no_args, one_arg, size, some_args};

/// Log writers.
pub(super) const WRITERS: Kind = Kind {
    namespace: "caddy.logging.writers",
    key: "output",
    modules: &[
        ("stdout", standard),
        ("stderr", standard),
        ("discard", standard),
        ("file", file),
        ("net", net),
    ],
};

/// Reads the writer whose name is the next argument.
///
/// # Errors
/// There is no such writer, or its own mistake.
pub(super) fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    let name = next_arg(d)?;
    if ["stdout", "stderr", "discard"].contains(&name.as_str()) {
        // Caddy stops at the name: what follows on the line is read as the next subdirective.
        return Ok(json!({ "output": name }));
    }
    WRITERS.parse(d)
}

fn standard(_: &mut Dispenser) -> ParseResult<Json> {
    Ok(json!({}))
}

fn file(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut fields = Fields::default();
    fields.text("filename", next_arg(d)?);
    no_args(d)?;
    while d.next_block(0) {
        let word = d.val().to_owned();
        match word.as_str() {
            "mode" => {
                let text = one_arg(d)?;
                let mode = octal(d, &text, "parsing mode")?;
                if mode != 0 {
                    fields.set("mode", format!("{mode:04o}"));
                }
            }
            "dir_mode" => {
                let text = one_arg(d)?;
                let text = text.trim();
                if !["inherit", "from_file"].contains(&text.to_lowercase().as_str()) {
                    octal(d, text, "parsing dir_mode")?;
                }
                fields.text("dir_mode", text.to_owned());
            }
            _ => rolling(d, &word, &mut fields)?,
        }
    }
    Ok(fields.into())
}

/// The settings that say when a file is put aside, and what happens to it then.
fn rolling(d: &mut Dispenser, word: &str, fields: &mut Fields) -> ParseResult<()> {
    match word {
        "roll_disabled" => {
            no_args(d)?;
            fields.set("roll", false);
        }
        "roll_size" => {
            let text = one_arg(d)?;
            let bytes = size(d, &text, "parsing size")?.bytes();
            let mebibytes = bytes.div_ceil(1 << 20);
            fields.integer("roll_size_mb", i64::try_from(mebibytes).unwrap_or(i64::MAX));
        }
        "roll_uncompressed" => {
            no_args(d)?;
            fields.set("roll_gzip", false);
        }
        "roll_compression" => {
            let name = one_arg(d)?.trim().to_lowercase();
            if !["none", "gzip", "zstd"].contains(&name.as_str()) {
                let message = "parsing roll_compression: must be 'none', 'gzip' or 'zstd'";
                return Err(d.err(message));
            }
            fields.text("roll_compression", name);
        }
        "roll_local_time" => {
            no_args(d)?;
            fields.flag("roll_local_time");
        }
        "roll_keep" => {
            let text = one_arg(d)?;
            fields.integer("roll_keep", integer(d, &text, "parsing roll_keep number")?);
        }
        "roll_keep_for" => {
            let text = one_arg(d)?;
            let keep = duration(d, &text, "parsing roll_keep_for duration")?;
            fields.integer("roll_keep_days", days(d, keep)?);
        }
        "roll_interval" => {
            let text = one_arg(d)?;
            let interval = duration(d, &text, "parsing roll_interval duration")?;
            fields.integer("roll_interval", interval.as_nanos());
        }
        "roll_minutes" => {
            let mut minutes = Vec::new();
            for part in listed(d, word)? {
                minutes.push(integer(d, &part, "parsing roll_minutes number")?);
            }
            fields.list("roll_minutes", minutes);
        }
        "roll_at" => fields.list("roll_at", listed(d, word)?),
        "backup_time_format" => fields.text("backup_time_format", one_arg(d)?),
        _ => return Err(unknown(d)),
    }
    Ok(())
}

fn unknown(d: &Dispenser) -> caddis_caddyfile::Diagnostic {
    const KNOWN: [&str; 13] = [
        "mode",
        "dir_mode",
        "roll_disabled",
        "roll_size",
        "roll_uncompressed",
        "roll_compression",
        "roll_local_time",
        "roll_keep",
        "roll_keep_for",
        "roll_interval",
        "roll_minutes",
        "roll_at",
        "backup_time_format",
    ];
    let error = d.err(format_args!("unrecognized subdirective '{}'", d.val()));
    d.did_you_mean(error, KNOWN)
}

/// Whole days, rounded up.
fn days(d: &Dispenser, keep: Duration) -> ParseResult<i64> {
    const DAY: i64 = 24 * 3_600 * 1_000_000_000;
    let nanos = keep.as_nanos();
    if nanos < 0 {
        return Err(d.err(format_args!("negative roll_keep_for duration: {keep}")));
    }
    Ok(nanos / DAY + i64::from(nanos % DAY != 0))
}

/// Arguments that may also be joined by commas.
fn listed(d: &mut Dispenser, word: &str) -> ParseResult<Vec<String>> {
    let mut parts = Vec::new();
    for arg in some_args(d)? {
        for part in arg.split(',').map(str::trim) {
            if part.is_empty() {
                return Err(d.err(format_args!("parsing {word}: empty value")));
            }
            parts.push(part.to_owned());
        }
    }
    Ok(parts)
}

/// Permission bits.
fn octal(d: &Dispenser, text: &str, what: &str) -> ParseResult<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    u32::from_str_radix(text, 8).ok().filter(|_| digits).ok_or_else(|| {
        let padded = format!("{text:0>4}");
        d.err(format_args!("{what}: strconv.ParseUint: parsing {padded:?}: invalid syntax"))
    })
}

fn net(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut fields = Fields::default();
    fields.text("address", next_arg(d)?);
    no_args(d)?;
    while d.next_block(0) {
        match d.val() {
            "dial_timeout" => {
                let text = next_arg(d)?;
                let timeout = Duration::parse(&text)
                    .map_err(|_| d.err(format_args!("invalid duration: {text}")))?;
                no_args(d)?;
                fields.integer("dial_timeout", timeout.as_nanos());
            }
            "soft_start" => {
                no_args(d)?;
                fields.flag("soft_start");
            }
            other => {
                let error = d.err(format_args!("unrecognized subdirective '{other}'"));
                return Err(d.did_you_mean(error, ["dial_timeout", "soft_start"]));
            }
        }
    }
    Ok(fields.into())
}
