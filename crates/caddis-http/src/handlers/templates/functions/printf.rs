//! Go's `Sprint` and `Sprintf`.

use std::fmt::Write;

use crate::handlers::templates::value::Val;

/// Widths and precisions beyond this are cut.
const WIDEST: usize = 10_000;
/// Printing ends about here.
const LARGEST: usize = 1 << 24;

/// Go's `Sprint`: spaces stand between operands that are both no texts.
pub(super) fn sprint(values: &[Val]) -> String {
    let mut out = String::new();
    let mut last_is_text = true;
    for (at, value) in values.iter().enumerate() {
        let is_text = matches!(value, Val::Str(_));
        if at > 0 && !is_text && !last_is_text {
            out.push(' ');
        }
        out.push_str(&value.shown());
        last_is_text = is_text;
    }
    out
}

#[derive(Debug, Default, Clone, Copy)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Go's `Sprintf`.
pub(super) fn format(pattern: &str, values: &[Val]) -> String {
    let mut out = String::new();
    let mut next = 0;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if out.len() > LARGEST {
            return out;
        }
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => spec.zero = true,
            }
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            if chars.next_if_eq(&'*').is_some() {
                let width = values.get(next).map(Val::int);
                next += 1;
                return width;
            }
            let mut found = None;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                let digit = i64::from(digit.to_digit(10).unwrap_or(0));
                found = Some(found.unwrap_or(0i64).saturating_mul(10).saturating_add(digit));
            }
            found
        };
        if let Some(width) = number(&mut chars) {
            spec.minus |= width < 0;
            let width = usize::try_from(width.unsigned_abs()).unwrap_or(WIDEST);
            spec.width = Some(width.min(WIDEST));
        }
        if chars.next_if_eq(&'.').is_some() {
            let precision = number(&mut chars).unwrap_or(0);
            spec.precision = Some(usize::try_from(precision).unwrap_or(0).min(WIDEST));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match values.get(next) {
            Some(value) => one(spec, verb, value, &mut out, 0),
            None => put(&mut out, format_args!("%!{verb}(MISSING)")),
        }
        next += 1;
    }
    if let Some(extra) = values.get(next..).filter(|extra| !extra.is_empty()) {
        out.push_str("%!(EXTRA ");
        for (at, value) in extra.iter().enumerate() {
            out.push_str(if at > 0 { ", " } else { "" });
            match value {
                Val::Nil => out.push_str("<nil>"),
                value => put(&mut out, format_args!("{}={}", value.type_name(), value.shown())),
            }
        }
        out.push(')');
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _ = out.write_fmt(text);
}

fn one(spec: Spec, verb: char, value: &Val, out: &mut String, depth: usize) {
    if depth > 50 || out.len() > LARGEST {
        return;
    }
    // Of values as they are, the sign is for fields' names, which none has.
    let spec = Spec { plus: spec.plus && verb != 'v', ..spec };
    match (verb, value) {
        ('T', _) => return pad(spec, value.type_name(), out),
        ('v', Val::Nil) => return pad(spec, "<nil>", out),
        (_, Val::Nil) => return put(out, format_args!("%!{verb}(<nil>)")),
        ('v', Val::Str(text)) if spec.sharp => return pad(spec, &quoted(text), out),
        (_, Val::List(items)) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { " " } else { "" });
                one(spec, verb, item, out, depth + 1);
            }
            return out.push(']');
        }
        (_, Val::Map(items)) => {
            out.push_str("map[");
            for (at, (key, item)) in items.borrow().iter().enumerate() {
                out.push_str(if at > 0 { " " } else { "" });
                one(spec, verb, &Val::str(key), out, depth + 1);
                out.push(':');
                one(spec, verb, item, out, depth + 1);
            }
            return out.push(']');
        }
        _ => {}
    }
    let text = match value {
        Val::Str(text) => of_text(spec, verb, text),
        Val::Bool(flag) if "vt".contains(verb) => Some(flag.to_string()),
        Val::Float(number) => return of_float(spec, verb, *number, value, out),
        Val::Named(_, _, text) if "vsq".contains(verb) => of_text(spec, verb, text),
        Val::Duration(_) if "vsq".contains(verb) => of_text(spec, verb, &value.shown()),
        Val::Time(_) | Val::Object(_) if "vsq".contains(verb) => {
            of_text(spec, verb, &value.shown())
        }
        _ => match value.whole() {
            Some(number) => return of_int(spec, verb, number, value, out),
            None => None,
        },
    };
    match text {
        Some(text) => pad(Spec { zero: false, ..spec }, &text, out),
        None => wrong(verb, value, out),
    }
}

fn wrong(verb: char, value: &Val, out: &mut String) {
    put(out, format_args!("%!{verb}({}={})", value.type_name(), value.shown()));
}

fn of_text(spec: Spec, verb: char, text: &str) -> Option<String> {
    let cut = |text: &str| match spec.precision {
        Some(most) => text.chars().take(most).collect(),
        None => text.to_owned(),
    };
    Some(match verb {
        'v' | 's' => cut(text),
        'q' if spec.sharp && !text.contains('`') => format!("`{}`", cut(text)),
        'q' => quoted(&cut(text)),
        'x' => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        'X' => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        _ => return None,
    })
}

fn of_int(spec: Spec, verb: char, number: i64, value: &Val, out: &mut String) {
    let size = number.unsigned_abs();
    let (prefix, digits) = match verb {
        'd' | 'v' => ("", size.to_string()),
        'x' => (if spec.sharp { "0x" } else { "" }, format!("{size:x}")),
        'X' => (if spec.sharp { "0X" } else { "" }, format!("{size:X}")),
        'o' => (if spec.sharp { "0" } else { "" }, format!("{size:o}")),
        'O' => ("0o", format!("{size:o}")),
        'b' => (if spec.sharp { "0b" } else { "" }, format!("{size:b}")),
        'c' | 'q' | 'U' => {
            let c = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            let text = match verb {
                'c' => c.to_string(),
                'q' => format!("'{c}'"),
                _ => format!("U+{number:04X}"),
            };
            return pad(Spec { zero: false, ..spec }, &text, out);
        }
        _ => return wrong(verb, value, out),
    };
    let sign = sign(spec, number < 0);
    let mut digits = digits;
    if let Some(least) = spec.precision {
        digits = format!("{}{digits}", "0".repeat(least.saturating_sub(digits.len())));
    } else if spec.zero && !spec.minus {
        let used = sign.len() + prefix.len() + digits.len();
        let missing = spec.width.unwrap_or(0).saturating_sub(used);
        digits = format!("{}{digits}", "0".repeat(missing));
    }
    pad(Spec { zero: false, ..spec }, &format!("{sign}{prefix}{digits}"), out);
}

fn of_float(spec: Spec, verb: char, number: f64, value: &Val, out: &mut String) {
    let size = number.abs();
    let digits = match (verb, spec.precision) {
        _ if !number.is_finite() && "vgGeEfF".contains(verb) => {
            let text = if number.is_nan() { "NaN" } else { "Inf" };
            let sign = if number.is_nan() { "" } else { sign(spec, number < 0.0) };
            let sign = if number == f64::INFINITY { "+" } else { sign };
            return pad(Spec { zero: false, ..spec }, &format!("{sign}{text}"), out);
        }
        ('f' | 'F', precision) => format!("{size:.*}", precision.unwrap_or(6).min(300)),
        ('e' | 'E', precision) => exponent(&format!("{size:.*e}", precision.unwrap_or(6).min(300))),
        ('v' | 'g' | 'G', None) => Val::Float(size).shown(),
        ('v' | 'g' | 'G', Some(precision)) => general(size, precision.clamp(1, 300)),
        _ => return wrong(verb, value, out),
    };
    let mut digits = if verb.is_uppercase() { digits.to_uppercase() } else { digits };
    let sign = sign(spec, number.is_sign_negative());
    if spec.zero && !spec.minus {
        let missing = spec.width.unwrap_or(0).saturating_sub(sign.len() + digits.len());
        digits = format!("{}{digits}", "0".repeat(missing));
    }
    pad(Spec { zero: false, ..spec }, &format!("{sign}{digits}"), out);
}

/// `%.3g`: so many digits, in the shorter form.
fn general(size: f64, precision: usize) -> String {
    let text = format!("{size:.*e}", precision - 1);
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let short = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if power < -4 || i64::from(power) >= precision as i64 {
        return exponent(&format!("{}e{power}", short(mantissa)));
    }
    let digits = usize::try_from(precision as i64 - 1 - i64::from(power)).unwrap_or(0);
    short(&format!("{size:.digits$}"))
}

/// Rust's exponent as Go writes it.
fn exponent(text: &str) -> String {
    let (mantissa, power) = text.split_once('e').unwrap_or((text, "0"));
    match power.strip_prefix('-') {
        Some(power) => format!("{mantissa}e-{power:0>2}"),
        None => format!("{mantissa}e+{power:0>2}"),
    }
}

fn sign(spec: Spec, negative: bool) -> &'static str {
    match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    }
}

fn pad(spec: Spec, text: &str, out: &mut String) {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    let fill = if spec.zero && !spec.minus { "0" } else { " " }.repeat(missing);
    if spec.minus {
        out.push_str(text);
        out.push_str(&fill);
    } else {
        out.push_str(&fill);
        out.push_str(text);
    }
}

/// Go's `strconv.Quote`.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => put(&mut out, format_args!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || (c.is_whitespace() && c != ' ') || c == '\u{feff}' => {
                put(&mut out, format_args!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_go() {
        let ints = [Val::Int(42), Val::Int(-7)];
        for (pattern, values, want) in [
            ("%05d|%+d", &ints[..], "00042|-7"),
            ("%x %X", &[Val::Int(255), Val::str("hi")], "ff 6869"),
            ("%-5s|%5s|%.2s", &[Val::str("a"), Val::str("b"), Val::str("cde")], "a    |    b|cd"),
            ("%q %v %t", &[Val::str("a\"b"), Val::Nil, Val::Bool(true)], "\"a\\\"b\" <nil> true"),
            (
                "%.2f %6.1f %e %g",
                &[3.14259, 2.0, 1500.0, 1e21].map(Val::Float),
                "3.14    2.0 1.500000e+03 1e+21",
            ),
            ("%d", &[Val::str("x")], "%!d(string=x)"),
            ("%d %d", &[Val::Int(1)], "1 %!d(MISSING)"),
            ("x", &[Val::Int(1)], "x%!(EXTRA int=1)"),
            ("100%", &[], "100%!(NOVERB)"),
            ("%c %U %T", &[Val::Int(65), Val::Int(8364), Val::Float(1.0)], "A U+20AC float64"),
        ] {
            assert_eq!(format(pattern, values), want, "{pattern}");
        }
        assert_eq!(sprint(&[Val::Int(1), Val::Int(2), Val::str("a"), Val::Int(3)]), "1 2a3");
    }
}
