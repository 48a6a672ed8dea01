//! Host names with letters beyond ASCII, in the form they travel (RFC 3492).

/// The name in lower case, labels that are not ASCII as `xn--…`; a label that is too long stays.
pub fn to_ascii(host: &str) -> String {
    if host.is_ascii() {
        return host.to_ascii_lowercase();
    }
    let lower = host.to_lowercase();
    let labels = lower.split(['.', '。']).map(|label| {
        if label.is_ascii() {
            return label.to_owned();
        }
        encode(label).map_or_else(|| label.to_owned(), |coded| format!("xn--{coded}"))
    });
    labels.collect::<Vec<_>>().join(".")
}

const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;

fn encode(label: &str) -> Option<String> {
    let chars: Vec<u32> = label.chars().map(u32::from).collect();
    let mut out: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(out.len()).ok()?;
    let total = u32::try_from(chars.len()).ok()?;
    if basic > 0 {
        out.push('-');
    }
    let (mut code, mut delta, mut bias, mut done) = (128_u32, 0_u32, 72_u32, basic);
    while done < total {
        let next = chars.iter().copied().filter(|char| *char >= code).min()?;
        delta = delta.checked_add((next - code).checked_mul(done + 1)?)?;
        code = next;
        for &char in &chars {
            if char < code {
                delta = delta.checked_add(1)?;
            }
            if char == code {
                digits(delta, bias, &mut out);
                bias = adapt(delta, done + 1, done == basic);
                delta = 0;
                done += 1;
            }
        }
        delta = delta.checked_add(1)?;
        code += 1;
    }
    Some(out)
}

fn digits(mut value: u32, bias: u32, out: &mut String) {
    let mut k = BASE;
    loop {
        let t = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
        if value < t {
            out.push(digit(value));
            return;
        }
        out.push(digit(t + (value - t) % (BASE - t)));
        value = (value - t) / (BASE - t);
        k += BASE;
    }
}

fn digit(value: u32) -> char {
    char::from_digit(value, BASE).map_or('0', |_| {
        let byte = u8::try_from(value).unwrap_or(0);
        char::from(if byte < 26 { b'a' + byte } else { b'0' + byte - 26 })
    })
}

fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > ((BASE - T_MIN) * T_MAX) / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + 38)
}

#[cfg(test)]
mod tests {
    use super::to_ascii;

    #[test]
    fn names_as_they_travel() {
        let cases = [
            ("Example.COM", "example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("*.ö.de", "*.xn--nda.de"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ];
        for (host, want) in cases {
            assert_eq!(to_ascii(host), want, "{host}");
        }
    }
}
