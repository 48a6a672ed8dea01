//! Numbers, encodings, checksums, paths and random texts.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256, Sha512};

use super::{Args, Res};
use crate::handlers::templates::{eval::Stop, value::Val};

pub(super) fn of_numbers(args: &Args<'_>) -> Res<Option<Val>> {
    let ints = || args.values.iter().map(Val::int);
    let floats = || args.values.iter().map(Val::float);
    let by_zero = || Stop::text("integer divide by zero");
    let round = |value: f64, digits: i64| {
        let scale = 10f64.powi(i32::try_from(digits.clamp(0, 15)).unwrap_or(0));
        (value * scale).round() / scale
    };
    Ok(Some(match args.name {
        "add" => Val::Int(ints().fold(0, i64::wrapping_add)),
        "add1" => Val::Int(args.int(0)?.wrapping_add(1)),
        "sub" => Val::Int(args.int(0)?.wrapping_sub(args.int(1)?)),
        "mul" => Val::Int(ints().fold(1, i64::wrapping_mul)),
        "div" => Val::Int(args.int(0)?.checked_div(args.int(1)?).ok_or_else(by_zero)?),
        "mod" => Val::Int(args.int(0)?.checked_rem(args.int(1)?).ok_or_else(by_zero)?),
        "max" | "biggest" => Val::Int(ints().max().unwrap_or(0)),
        "min" => Val::Int(ints().min().unwrap_or(0)),
        "addf" => Val::Float(floats().sum()),
        "subf" => Val::Float(args.float(0)? - args.float(1)?),
        "mulf" => Val::Float(floats().product()),
        "divf" => Val::Float(args.float(0)? / args.float(1)?),
        "floor" => Val::Float(args.float(0)?.floor()),
        "ceil" => Val::Float(args.float(0)?.ceil()),
        "round" => Val::Float(round(args.float(0)?, args.int(1)?)),
        "int" | "int64" | "atoi" => Val::Int(args.int(0)?),
        "float64" => Val::Float(args.float(0)?),
        "toDecimal" => Val::Int(i64::from_str_radix(args.text(0)?.trim(), 8).unwrap_or(0)),
        _ => return Ok(None),
    }))
}

pub(super) fn of_codings(args: &Args<'_>) -> Res<Option<Val>> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(Some(Val::str(&match args.name {
        "b64enc" => BASE64_STANDARD.encode(args.text(0)?),
        "b64dec" => match BASE64_STANDARD.decode(args.text(0)?) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => error.to_string(),
        },
        "sha256sum" => hex(&Sha256::digest(args.text(0)?)),
        "sha512sum" => hex(&Sha512::digest(args.text(0)?)),
        "base" => {
            args.text(0)?.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
        }
        "dir" => match args.text(0)?.rsplit_once('/') {
            Some((dir, _)) => crate::path::clean(dir).into_owned(),
            None => ".".to_owned(),
        },
        "ext" => crate::path::extension(&args.text(0)?).to_owned(),
        "clean" => crate::path::clean(&args.text(0)?).into_owned(),
        "isAbs" => return Ok(Some(Val::Bool(args.text(0)?.starts_with('/')))),
        "randAlphaNum" | "randAlpha" | "randNumeric" | "randAscii" => {
            let count = args.size(0)?.min(10_000);
            std::iter::repeat_with(|| {
                if args.name == "randNumeric" {
                    fastrand::digit(10)
                } else {
                    fastrand::alphanumeric()
                }
            })
            .take(count)
            .collect()
        }
        "uuidv4" => {
            let number =
                (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
            let text = format!("{number:032x}");
            [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
        }
        _ => return Ok(None),
    })))
}
