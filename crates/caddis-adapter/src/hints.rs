//! What to do about a mistake, where the place that found it did not say.

use caddis_caddyfile::{Diagnostic, Segment, Token, nearest};
use caddis_core::Registry;
use smol_str::SmolStr;

use crate::{plugins, usage};

/// The label of mistakes that say nothing about their place.
const PLAIN: &str = "here";
const ARGUMENTS: &str = "wrong argument count or unexpected line ending after '";

/// Adds help and words to a mistake in this directive or option.
pub(crate) fn improve(
    mut error: Diagnostic,
    segment: Option<&Segment>,
    registry: &Registry,
) -> Diagnostic {
    if error.labels.is_empty()
        && let Some(name) = segment.and_then(Segment::name)
    {
        // Some modules name no place.
        error = error.labelled(name, "in this");
    }
    if let Some(plain) = without_semicolon(&error, segment) {
        let help = format!("lines end without `;`: write `{plain}`");
        error.meant.get_or_insert(plain);
        error.help = Some(help);
    }
    if error.help.is_none() {
        match help(&error, segment, registry) {
            Some(Help::Meant(word)) => error = error.meant(&word),
            Some(Help::Line(line)) => error = error.help(line),
            None => {}
        }
    }
    point_at_word(&mut error, segment);
    point_at_name(&mut error, segment);
    if error.meant.is_some() {
        // The sentence may be about another word than the one at which reading ended.
        let word = word_at(&error, segment);
        let is_near =
            |meant: &SmolStr| word.is_some_and(|word| nearest(word, [meant.as_str()]).is_some());
        error.meant = error.meant.take().filter(is_near);
    }
    if let Some(word) = word(&error.message)
        && let Some((_, label)) = error.labels.first_mut().filter(|(_, label)| label == PLAIN)
    {
        word.clone_into(label);
    }
    if error.code == "caddyfile::error" && error.message.contains("module not registered: ") {
        error.code = "adapter::unknown_module";
    }
    error
}

/// What to do about a mistake.
enum Help {
    /// The word at the main label should be this one.
    Meant(String),
    Line(String),
}

fn help(error: &Diagnostic, segment: Option<&Segment>, registry: &Registry) -> Option<Help> {
    let message = error.message.as_str();
    if let Some((_, id)) = message.split_once("module not registered: ") {
        let id = id.split([',', ' ', ';']).next().unwrap_or(id);
        return module(id, registry);
    }
    if message.contains("unrecognized matcher name: @") {
        let name = message.rsplit('@').next().unwrap_or_default();
        let name = name.split([',', ' ']).next().unwrap_or(name);
        return Some(Help::Line(format!(
            "no matcher of this name can be seen from here; define it in this site, for example `@{name} path /{name}/*`"
        )));
    }
    if let Some(joined) = torn_value(error, segment) {
        return Some(Help::Line(format!("a number and its unit are one word: write `{joined}`")));
    }
    if message.contains("time: ")
        && ["invalid duration", "unknown unit", "missing unit"].iter().any(|s| message.contains(s))
    {
        return Some(Help::Line(
            "a duration is a number with its unit, such as `500ms`, `30s` or `1h30m`".into(),
        ));
    }
    if message.contains(ARGUMENTS) || message.contains("expecting argument") {
        return usage_of(error, segment?).map(Help::Line);
    }
    if is_second(message) {
        return Some(Help::Line("it stands in this block before; keep one of the two".into()));
    }
    let remedy = REMEDIES.iter().find(|(part, _)| message.contains(part));
    remedy.map(|(_, remedy)| Help::Line((*remedy).to_owned()))
}

/// The word at the main label without the `;` at its end.
fn without_semicolon(error: &Diagnostic, segment: Option<&Segment>) -> Option<SmolStr> {
    let plain = word_at(error, segment)?.strip_suffix(';')?;
    (!plain.is_empty()).then(|| plain.into())
}

/// A number and the unit after it, as one word, if the main label is at one of the two.
fn torn_value(error: &Diagnostic, segment: Option<&Segment>) -> Option<String> {
    const UNITS: [&str; 16] = [
        "ns", "us", "ms", "s", "m", "h", "d", "b", "kb", "mb", "gb", "tb", "kib", "mib", "gib",
        "tib",
    ];
    let (span, _) = error.labels.first()?;
    let tokens = &segment?.0;
    let at = tokens.iter().position(|token| token.span == *span)?;
    let is_number = |at: usize| {
        let text = tokens[at].text.as_str();
        text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !text.is_empty()
    };
    let start = [Some(at), at.checked_sub(1)].into_iter().flatten().find(|at| is_number(*at))?;
    let unit = tokens.get(start + 1)?;
    let is_unit = UNITS.contains(&unit.text.to_ascii_lowercase().as_str())
        && !tokens[start].next_is_on_new_line(unit);
    is_unit.then(|| format!("{}{}", tokens[start].text, unit.text))
}

/// The word at the main label.
fn word_at<'a>(error: &Diagnostic, segment: Option<&'a Segment>) -> Option<&'a str> {
    let (span, _) = error.labels.first()?;
    let token = segment?.0.iter().find(|token| token.span == *span && !token.is_quoted())?;
    Some(&token.text)
}

/// Whether something is given that may be given once only.
pub(crate) fn is_second(message: &str) -> bool {
    const ENDS: [&str; 5] = ["specified", "defined", "set", "configured", "enabled"];
    let ends = |end: &&str| message.ends_with(&format!("already {end}"));
    // A transport in `php_fastcgi` has a remedy of its own.
    ENDS.iter().any(ends)
        || ["specified more than once in the same", "already specified: ", "a second time"]
            .iter()
            .any(|part| message.contains(part))
}

/// What to do, by a part of the sentence.
const REMEDIES: &[(&str, &str)] = &[
    (
        "no named response matcher defined",
        "define it in this block, for example `@name status 5xx`",
    ),
    ("is not allowed in the log directive", "it belongs into the global option `log`"),
    ("hostnames is not allowed", "it belongs into the directive `log` of a site"),
    ("invalid proxy protocol version", "one of: v1, v2"),
    ("conflicts with a Caddyfile placeholder shorthand", "give the destination another name"),
    ("invalid start port", "an address is `host:port`, the port a number from 0 to 65535"),
    ("invalid end port", "a range of ports is `first-last`, such as 8000-8003"),
    ("strconv.ParseUint", "a mode is written in octal, such as 0640"),
    (
        "Not a supported redir code",
        "the last word is a status such as 301, or temporary, permanent or html; the target may not have spaces unless it is quoted",
    ),
    (
        "Redir code not in the 3xx range",
        "the last word is 301, 302, 303, 307, 308, 401, temporary, permanent or html; the target may not have spaces unless it is quoted",
    ),
    (
        "must use the same scheme",
        "put upstreams of another scheme into a `reverse_proxy` of their own",
    ),
    (
        "is HTTP, but attempts to configure TLS",
        "remove the directive `tls`, or serve the site by HTTPS (leave `http://` and port 80 away)",
    ),
    (
        "username and password cannot be empty",
        "write the name and the hash of the password, which `caddis hash-password` makes",
    ),
    ("invalid byte size", "a size is a number with its unit, such as `4KiB` or `10MB`"),
    ("parsing size", "a size is a number with its unit, such as `4KiB` or `10MB`"),
    ("is not an ordered HTTP handler", "put it at the top of the site, or into a `route` block"),
    ("setting DNS challenge options", "add `dns <provider> …` to this block"),
    ("cannot create both ACME and internal", "leave `internal` or the options of ACME away"),
    ("cannot mix issuer subdirective", "move the other options into the block of the issuer"),
    (
        "upstream address scheme is HTTP but",
        "write `https://` before the address, or leave `tls` away",
    ),
    ("transport module does not support", "leave `https://` away: FastCGI has no TLS"),
    ("blocks are not supported", "write it on one line"),
    ("only handler directives can be used", "move it out of this block, to the top of the site"),
    ("no certificates specified", "name at least one"),
    ("no authorities specified", "name one, such as `local`"),
    ("too many arguments; should only be", "a path with spaces needs quotes"),
    ("without DNS provider config", "name the provider, such as `acme_dns cloudflare {env.TOKEN}`"),
    ("expected at least one config parameter", "add `ask <url>` or `permission <module>`"),
    (
        "wrong cipher suite name or cipher suite not supported",
        "leave `ciphers` away: the default list has strong suites only",
    ),
    (
        "bad status value",
        "a status has three digits, such as 404; 4xx stands for all that begin with 4",
    ),
    (
        "malformed header matcher",
        "write the field and a value; `*` as the value matches any, and `!Field` one that is not there",
    ),
    (
        "too many outputs",
        "a line has one value for each destination, a value with spaces needs quotes",
    ),
    ("duplicate global log option", "give each log its own name"),
    ("without a listener address", "write the address before the block, such as `servers :443 {`"),
];

/// Moves the main label to the word at the end of the sentence, in quotes or without, if that is on the
/// same line.
fn point_at_word(error: &mut Diagnostic, segment: Option<&Segment>) {
    let Some(segment) = segment else { return };
    let message = error.message.as_str();
    let Some(name) = message
        .strip_suffix('\'')
        .and_then(|text| text.rsplit('\'').next())
        .or_else(|| message.rsplit_once(": ").map(|(_, name)| name))
    else {
        return;
    };
    let Some((span, _)) = error.labels.first() else { return };
    let at = segment.0.iter().position(|token| token.span == *span);
    let Some(at) = at.filter(|at| segment.0[*at].text != name) else { return };
    let start = line_start(&segment.0, at);
    let word = segment.0[start..at].iter().rev().find(|token| token.text == name);
    if let (Some(word), Some((span, _))) = (word, error.labels.first_mut()) {
        *span = word.span;
    }
}

/// Moves the main label from the last brace of the directive to its name.
fn point_at_name(error: &mut Diagnostic, segment: Option<&Segment>) {
    let Some(segment) = segment else { return };
    let (Some(name), Some(end)) = (segment.0.first(), segment.0.last()) else { return };
    if let Some((span, label)) = error.labels.first_mut()
        && end.is_close_brace()
        && *span == end.span
        && label == PLAIN
    {
        *span = name.span;
        "in this block".clone_into(label);
    }
}

/// A short word for the main label.
fn word(message: &str) -> Option<&'static str> {
    let inner = message.rsplit("': ").next().unwrap_or(message);
    if message.contains(ARGUMENTS) || message.contains("expecting argument") {
        Some("an argument is missing after this, or this one is too many")
    } else if ["invalid duration", "unknown unit", "missing unit"]
        .iter()
        .any(|part| message.contains(part))
    {
        Some("not a duration")
    } else if message.contains("strconv.Atoi") && message.contains("invalid syntax") {
        Some("not a whole number")
    } else if message.contains("module not registered") {
        Some("no such module")
    } else if message.contains("unrecognized matcher name") {
        Some("not defined")
    } else if inner.starts_with("unrecognized") || inner.contains("unknown subdirective") {
        Some("not known here")
    } else {
        None
    }
}

fn module(id: &str, registry: &Registry) -> Option<Help> {
    let (namespace, name) = id.rsplit_once('.')?;
    let in_namespace =
        |known: &&'static str| known.rsplit_once('.').is_some_and(|(space, _)| space == namespace);
    let ids = registry
        .handlers
        .iter()
        .map(|module| module.id)
        .chain(registry.matchers.iter().map(|module| module.id))
        .chain(registry.other_ids.iter().copied());
    let known: Vec<&str> =
        ids.filter(in_namespace).filter_map(|known| known.rsplit('.').next()).collect();
    if let Some(near) = nearest(name, known.iter().copied()) {
        return Some(Help::Meant(near.to_owned()));
    }
    let few = !known.is_empty() && known.len() <= 16;
    let all = || few.then(|| format!("there are: {}", known.join(", ")));
    plugins::module_help(id).or_else(all).map(Help::Line)
}

/// How the directive is written, if the mistake is on its own line; else which word it is about.
fn usage_of(error: &Diagnostic, segment: &Segment) -> Option<String> {
    let (span, _) = error.labels.first()?;
    let at = segment.0.iter().position(|token| token.span == *span)?;
    let start = line_start(&segment.0, at);
    let name = &segment.0.get(start)?.text;
    let context = enclosing(&segment.0, start);
    usage::of(name, context.as_deref()).map(|usage| format!("usage: `{usage}`"))
}

fn line_start(tokens: &[Token], at: usize) -> usize {
    let new_line = |at: &usize| tokens[at - 1].next_is_on_new_line(&tokens[*at]);
    (1..=at).rev().find(new_line).unwrap_or(0)
}

/// The first word of the line that opens the block around a token.
fn enclosing(tokens: &[Token], at: usize) -> Option<String> {
    let mut depth = 0_usize;
    for before in (0..at).rev() {
        let token = &tokens[before];
        if token.is_close_brace() {
            depth += 1;
        } else if token.is_open_brace() {
            if depth == 0 {
                let start = line_start(tokens, before);
                return tokens.get(start).map(|token| token.text.to_string());
            }
            depth -= 1;
        }
    }
    None
}
