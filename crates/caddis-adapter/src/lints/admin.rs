//! `open-admin` and `trusts-everyone`: doors that stand open.

use caddis_config::NetworkAddress;

use super::subject::{Statement, Text};
use super::{Findings, Lint, Run};

pub(super) static OPEN_ADMIN: Lint = Lint {
    code: "open-admin",
    summary: "an admin endpoint that other machines can reach",
    explanation: "\
Whoever reaches the admin endpoint can replace the whole configuration, read files through it and stop
the server; there is no password. Let it listen on `localhost` or a unix socket, or switch it off
(`admin off`). Inside a container, publish the port to the host's loopback only and allow this lint.",
    run: Run::Text(open_admin),
};

pub(super) static TRUSTS_EVERYONE: Lint = Lint {
    code: "trusts-everyone",
    summary: "every client is a trusted proxy",
    explanation: "\
With `trusted_proxies` of `0.0.0.0/0` or `::/0`, any client can name whatever address it likes in
`X-Forwarded-For`: logs, `client_ip` matchers and rate limits then believe it. List the addresses of
your proxies, or `private_ranges`.",
    run: Run::Text(trusts_everyone),
};

fn open_admin(text: &Text<'_>, findings: &mut Findings) {
    let Some(admin) = text.option("admin") else { return };
    let Some(address) = admin.words.get(1).filter(|word| word.text != "off") else { return };
    let Ok(parsed) = NetworkAddress::parse_with_defaults(&address.text, "tcp", 2019) else {
        return;
    };
    if parsed.is_unix() || parsed.is_fd() || parsed.is_loopback() || parsed.host == "localhost" {
        return;
    }
    let message = "the admin endpoint can be reached from other machines";
    findings.add(address, message, "not a loopback address").help =
        Some(format!("write `admin localhost:{}`", parsed.start_port));
}

fn trusts_everyone(text: &Text<'_>, findings: &mut Findings) {
    let mut see = |statement: &Statement<'_>| {
        if statement.name() != "trusted_proxies" {
            return;
        }
        for word in &statement.words[1..] {
            if ["0.0.0.0/0", "::/0"].contains(&word.text.as_str()) {
                let message = "every client is trusted to name its own address";
                findings.add(word, message, "all addresses").help =
                    Some("list the proxies in front of this server, or `private_ranges`".into());
            }
        }
    };
    text.each(&mut |statement, _| see(statement));
    for servers in text.options.iter().filter(|option| option.name() == "servers") {
        servers.body.iter().for_each(&mut see);
    }
}
