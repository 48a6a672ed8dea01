//! `caddis upgrade`, `add-package` and `remove-package`: what Caddy gets from its download service
//! comes from elsewhere here, and they say from where.

use super::Outcome;
use crate::{args::Packages, registry};

/// There is no download service.
pub(crate) fn upgrade() -> Outcome {
    Err("caddis does not replace itself; install a newer version the way this one was installed \
         (package manager, container image, or `cargo install` from its source), then restart it"
        .into())
}

/// What there is, is compiled in.
pub(crate) fn add(flags: &Packages) -> Outcome {
    let all = named(flags)?;
    let ids = registry::standard().module_ids();
    let built_in: Vec<_> = all.iter().filter_map(|package| built_in(package, &ids)).collect();
    if built_in.len() == all.len() {
        let ids = built_in.join(", ");
        return Err(format!("nothing to add: {ids} is built in; `caddis list-modules` lists all"));
    }
    Err(format!(
        "caddis has no plugins to download, and packages of Go cannot be loaded: {}; \
         `caddis list-modules` lists what is built in",
        all.join(", ")
    ))
}

/// What is compiled in stays.
pub(crate) fn remove(flags: &Packages) -> Outcome {
    let all = named(flags)?;
    Err(format!(
        "caddis has no plugins to remove: {}; what a config does not use costs nothing",
        all.join(", ")
    ))
}

fn named(flags: &Packages) -> Result<&[String], String> {
    match flags.packages.is_empty() {
        true => Err("at least one package name must be specified".into()),
        false => Ok(&flags.packages),
    }
}

/// The module that stands in for a package of Caddy's plugins, by the package's last element:
/// `github.com/caddy-dns/cloudflare` is `dns.providers.cloudflare`.
fn built_in(package: &str, ids: &[&'static str]) -> Option<&'static str> {
    let path = package.rsplit_once('@').map_or(package, |(path, _)| path).trim_end_matches('/');
    let (owner, last) = path.rsplit_once('/')?;
    if owner.ends_with("/caddy-dns") {
        let id = format!("dns.providers.{last}");
        return ids.iter().copied().find(|known| *known == id);
    }
    // The storages and the event handler whose plugins have names of their own.
    let storage = ["redis", "postgres", "s3"].into_iter().find(|kind| last.contains(kind));
    if last.contains("storage") {
        let id = format!("caddy.storage.{}", storage?);
        return ids.iter().copied().find(|known| *known == id);
    }
    ids.iter()
        .copied()
        .find(|known| last.contains("events-exec") && *known == "events.handlers.exec")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_are_built_in() {
        let ids = registry::standard().module_ids();
        for (package, want) in [
            ("github.com/caddy-dns/cloudflare", Some("dns.providers.cloudflare")),
            ("github.com/caddy-dns/route53@v1.5.0", Some("dns.providers.route53")),
            ("github.com/pberkel/caddy-storage-redis", Some("caddy.storage.redis")),
            ("github.com/techknowlogick/certmagic-s3", None),
            ("github.com/mholt/caddy-events-exec", Some("events.handlers.exec")),
            ("github.com/caddy-dns/nope", None),
            ("nope", None),
        ] {
            assert_eq!(built_in(package, &ids), want, "{package}");
        }
    }
}
