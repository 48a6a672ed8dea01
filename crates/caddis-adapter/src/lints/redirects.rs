//! `redir-target-is-code` and `redirect-loop`: redirects that lead nowhere.

use super::addresses::Ports;
use super::subject::{Site, Statement, Text};
use super::{Findings, Lint, Run};
use crate::address::Address;

pub(super) static REDIR_TARGET_IS_CODE: Lint = Lint {
    code: "redir-target-is-code",
    summary: "a redirect whose target is a status code",
    explanation: "\
A first argument that begins with `/` is a matcher. So `redir /new 302` sends requests for `/new` to
the relative place `302`, instead of sending every request to `/new` with status 302. Put `*` before
the target: `redir * /new 302`.",
    run: Run::Text(code),
};

pub(super) static REDIRECT_LOOP: Lint = Lint {
    code: "redirect-loop",
    summary: "a redirect of every request to the same site",
    explanation: "\
A `redir` without a matcher answers every request of its site. Where its target is the same site, the
browser comes back, is sent there again, and gives up (\"too many redirects\"). Usually the redirect is
meant for other names (give them a site of their own: `www.example.com { redir https://example.com{uri} }`)
or from HTTP to HTTPS, which happens by itself.",
    run: Run::Text(loops),
};

fn code(text: &Text<'_>, findings: &mut Findings) {
    text.each_directive(&mut |statement| {
        let (Some(matcher), [_, _, target]) = (statement.matcher(), statement.words) else {
            return;
        };
        let is_code = (target.text.len() == 3 && target.text.parse::<u16>().is_ok())
            || ["permanent", "temporary", "html"].contains(&target.text.as_str());
        if statement.name() != "redir" || !is_code {
            return;
        }
        let (from, to) = (&matcher.text, &target.text);
        let message = format!("this redirects requests for {from} to the relative place '{to}'");
        let finding = findings.add(target, message, "taken as the target");
        finding.labels.push((matcher.span, "taken as the matcher".into()));
        finding.help = Some(format!("to send every request to {from}: `redir * {from} {to}`"));
    });
}

fn loops(text: &Text<'_>, findings: &mut Findings) {
    let ports = Ports::of(text);
    for site in text.real_sites() {
        let addresses = site.addresses();
        for redir in unconditional(&site.body).filter(|one| one.name() == "redir") {
            let at = 1 + usize::from(redir.word(1) == Some("*"));
            let Some(target) = redir.words.get(at) else { continue };
            // In a snippet it may be for another of the sites that import it.
            if target.imports().is_some() {
                continue;
            }
            let Some(url) = Url::parse(&target.text) else { continue };
            let own = addresses.iter().position(|own| url.leads_to(own, &ports));
            let Some(key) = own.and_then(|at| site.block.keys.get(at)) else { continue };
            let message = format!("every request for {} is sent back to this site", key.text);
            let finding = findings.add(target, message, "leads here again");
            finding.labels.push((key.span, "this site".into()));
            finding.help = Some(help(site, &url));
        }
    }
}

fn help(site: &Site<'_>, url: &Url<'_>) -> String {
    if site.block.keys.len() > 1 && !url.is_any_host() {
        return format!("give the names other than {} a site of their own", url.host);
    }
    if url.scheme == "https" {
        return "redirects from HTTP to HTTPS happen by themselves; remove this line".into();
    }
    "give the redirect a matcher, or another target".into()
}

/// The directives that every request of a site comes to, those in `handle` and `route` too.
fn unconditional<'s, 'a>(body: &'s [Statement<'a>]) -> impl Iterator<Item = &'s Statement<'a>> {
    let mut stack: Vec<&Statement<'a>> = body.iter().rev().collect();
    std::iter::from_fn(move || {
        loop {
            let next = stack.pop()?;
            if next.matcher().is_some_and(|matcher| matcher.text != "*") {
                continue;
            }
            if ["handle", "route"].contains(&next.name()) {
                stack.extend(next.body.iter().rev());
                continue;
            }
            return Some(next);
        }
    })
}

/// Where a redirect leads.
struct Url<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<&'a str>,
}

impl<'a> Url<'a> {
    /// Parts a whole URL; none for places within a site.
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        // `{host}{uri}`: the end of the first placeholder ends the host.
        let end = match rest.strip_prefix('{') {
            Some(inner) => inner.find('}').map_or(rest.len(), |at| at + 2),
            None => rest.find(['/', '{', '?', '#']).unwrap_or(rest.len()),
        };
        let (authority, after) = rest.split_at(end);
        let is_whole = after.is_empty() || after.starts_with(['/', '{', '?', '#', ':']);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !authority.starts_with(['[', '{']) => (host, Some(port)),
            _ => (authority, after.strip_prefix(':').map(digits)),
        };
        is_whole.then_some(Self { scheme, host, port })
    }

    /// Whether the host is that of the request.
    fn is_any_host(&self) -> bool {
        ["{host}", "{http.request.host}", "{hostport}", "{http.request.hostport}"]
            .contains(&self.host)
    }

    fn leads_to(&self, own: &Address, ports: &Ports<'_>) -> bool {
        let scheme = if ports.is_secure(own) { "https" } else { "http" };
        let keeps_port = self.host.contains("hostport");
        let usual = if scheme == "https" { "443" } else { "80" };
        let same_host = !own.host.is_empty() && self.host.eq_ignore_ascii_case(&own.host);
        self.scheme == scheme
            && own.path.is_empty()
            && (same_host || self.is_any_host())
            && (keeps_port || self.port.unwrap_or(usual) == ports.port(own))
    }
}

fn digits(text: &str) -> &str {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let parts =
            |text: &'static str| Url::parse(text).map(|url| (url.scheme, url.host, url.port));
        assert_eq!(parts("https://a.b{uri}"), Some(("https", "a.b", None)));
        assert_eq!(parts("https://{host}{uri}"), Some(("https", "{host}", None)));
        assert_eq!(parts("http://{host}:81/x"), Some(("http", "{host}", Some("81"))));
        assert_eq!(parts("http://a:82{uri}"), Some(("http", "a", Some("82"))));
        assert_eq!(parts("http://[::1]/"), Some(("http", "[::1]", None)));
        assert_eq!(parts("/new{uri}"), None);
        assert_eq!(parts("https://{labels.1}.x{uri}"), None);
    }
}
