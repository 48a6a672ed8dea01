//! `https-without-certificate`: TLS for which there is no certificate.

use super::addresses::Ports;
use super::subject::Text;
use super::{Findings, Lint, Run};
use crate::address::Address;

pub(super) static HTTPS_WITHOUT_CERTIFICATE: Lint = Lint {
    code: "https-without-certificate",
    summary: "a site on HTTPS for which no certificate is got or given",
    explanation: "\
Certificates are got for the names in site addresses. A site `:443` has no name, and with
`auto_https off` (or `disable_certs`) none is got for anybody; where no `tls` says where certificates
are, every handshake fails. Write the name of the site, give the certificate's files
(`tls cert.pem key.pem`), write `http://` where a proxy in front ends TLS, or use
`auto_https disable_redirects` where only the redirects are unwanted.",
    run: Run::Text(run),
};

fn run(text: &Text<'_>, findings: &mut Findings) {
    let ports = Ports::of(text);
    let blocks = || text.file.blocks.iter();
    // What is not there yet may be a name.
    if text.file.sources.unset_variables().next().is_some() {
        return;
    }
    // A certificate that is given for one site may cover others, too.
    if blocks().flat_map(|block| &block.segments).any(|one| one.directive() == "tls")
        || ["default_sni", "fallback_sni"].iter().any(|name| text.option(name).is_some())
    {
        return;
    }
    let addresses = || {
        let sites = text.real_sites();
        sites.flat_map(|site| site.block.keys.iter().zip(site.addresses()))
    };
    let auto = text.option("auto_https");
    let off = auto.filter(|option| option.mentions("off") || option.mentions("disable_certs"));
    let is_secure = |address: &Address| match off {
        // The port of a name stays that of HTTPS.
        Some(_) if address.scheme.is_empty() && address.port.is_empty() => !address.host.is_empty(),
        _ => ports.is_secure(address),
    };
    let names_one = |address: &Address| !address.host.is_empty() && ports.is_secure(address);
    if off.is_none() && addresses().any(|(_, address)| names_one(&address)) {
        return;
    }
    for (key, _) in addresses().filter(|(_, address)| is_secure(address)) {
        let message = format!("there is no certificate for {}", key.text);
        let why = if off.is_some() { "speaks TLS" } else { "no name to get one for" };
        let finding = findings.add(key, message, why);
        finding.help = Some(match off {
            Some(option) => {
                finding.labels.push((option.token().span, "so none is got".into()));
                "give the site one with `tls`, or write `http://` before the name".into()
            }
            None => "write the name of the site, or give it a certificate with `tls`".into(),
        });
    }
}
