//! The TLS app: loaders, automation policies resolved per name, tickets, authorities.

mod ech;

use std::{
    cell::{OnceCell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use caddis_config::{
    AutomationPolicy, Ca, Config, ConfigError, IdentityConfig, Pki, tls::SessionTicketService,
};
use caddis_core::template::{Template, Unknown};
use caddis_tls::{
    AcmeConfig, Issuer, KeyType, Loaders, ManagedSubject, OnDemandPolicy, Permission, Ports,
    StapleRule, StapleRules, Taken, check_dns_provider, compile_acme, compile_getters,
    compile_loaders, compile_zerossl, on_demand_permission,
    pki::DEFAULT_CA,
    storage::{self, OtherStorage, Storage},
};
use serde_json::{Value as Json, json};

pub use ech::EchNeeds;
pub(crate) use ech::ServedNames;

use crate::{
    IdentityPlan, ManagedName,
    names::{internal_name, public_name, wildcard_covers},
};

/// How many on-demand names are kept in memory where the configuration does not say (spec T053).
const CAPACITY: usize = 10_000;
/// How often the storage is tidied where the configuration does not say (spec T093).
const CLEAN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// What the certificate manager is told at commit.
pub struct TlsPlan {
    /// Certificates to load.
    pub loaders: Loaders,
    /// Names to manage, with their issuers.
    pub subjects: Vec<ManagedSubject>,
    /// Those of them that are not managed where a given certificate has the name.
    pub unless_loaded: HashSet<String>,
    /// Policies with `on_demand`.
    pub on_demand: Vec<OnDemandPolicy>,
    /// How many on-demand names are kept in memory (`cache.capacity`).
    pub capacity: usize,
    /// What policies say of OCSP staples; absent where nothing is stapled.
    pub ocsp: Option<StapleRules>,
    /// How often the storage is tidied; never if absent.
    pub clean: Option<Duration>,
    /// Session ticket settings.
    pub tickets: Option<SessionTicketService>,
    /// DNS resolvers where a module names none of its own.
    pub resolvers: Vec<String>,
    /// Certificate authorities by id.
    pub authorities: BTreeMap<String, Ca>,
    /// Encrypted Client Hello, where it is wanted.
    pub ech: Option<EchNeeds>,
    /// The storage.
    pub storage: Arc<dyn Storage>,
}

impl TlsPlan {
    /// Resolves the TLS and PKI apps, given the names that automatic HTTPS found, those of which
    /// handlers want certificates for connections of their own, and all names that servers have.
    ///
    /// # Errors
    /// Unknown modules, settings that cannot be.
    pub(crate) fn compile(
        config: &Config,
        managed: &[ManagedName],
        own: &BTreeSet<String>,
        served: &ServedNames,
    ) -> Result<Self, ConfigError> {
        let app = config.apps.tls.clone().unwrap_or_default();
        if app.dns.as_ref().is_some_and(Json::is_null) {
            let message = "module name not specified with key 'name'";
            return Err(ConfigError::new("apps.tls.dns", message));
        }
        let ech = ech::compile(config, served)?;
        let capacity = match usize::try_from(app.cache.map_or(0, |cache| cache.capacity)) {
            Ok(0) => CAPACITY,
            Ok(capacity) => capacity,
            Err(_) => {
                let message = "tls: invalid configuration: cache capacity must be >= 0";
                return Err(ConfigError::new("apps.tls.cache.capacity", message));
            }
        };
        if let Some(provider) = &app.dns {
            // Also where no issuer takes it.
            check_dns_provider(provider).map_err(|error| error.under("apps.tls.dns"))?;
        }
        let loaders = compile_loaders(&app.certificates)
            .map_err(|error| error.under("certificates").under("apps.tls"))?;
        let automation = app.automation.clone().unwrap_or_default();
        let permission = on_demand_permission(automation.on_demand.as_ref())
            .map_err(|error| error.under("apps.tls.automation.on_demand"))?;
        let cx = IssuerCx::new(config, app.dns.as_ref());
        let mut on_demand = Vec::new();
        let taken = taken(&automation.policies);
        let for_all = automation.policies.iter().position(|one| one.subjects.is_empty());
        for (at, policy) in automation.policies.iter().enumerate() {
            let path = format!("apps.tls.automation.policies.{at}");
            check(policy, &cx).map_err(|error| error.under(&path))?;
            // After a policy for all names no other one is asked.
            let reached = for_all.is_none_or(|end| at <= end);
            if is_on_demand(policy) {
                let resolved = on_demand_policy(policy, permission.clone(), &cx);
                let resolved = resolved.map_err(|error| error.under(&path))?;
                if reached {
                    on_demand.push(OnDemandPolicy { taken: taken.before(at), ..resolved });
                }
            }
        }
        one_policy_each(&automation.policies)?;
        let tailscale = tailscale_names(managed, &automation.policies);
        if !tailscale.is_empty() {
            // Before the others, since a policy without subjects would have these names too.
            on_demand.insert(0, tailscale_policy(&tailscale, &cx)?);
        }
        // A wildcard that is managed is enough (spec T110).
        let wildcards: HashSet<&str> =
            managed.iter().filter_map(|other| other.name.strip_prefix("*.")).collect();
        let covered = |name: &str| {
            let parent = name.split_once('.').map(|(_, parent)| parent);
            !name.starts_with("*.") && parent.is_some_and(|parent| wildcards.contains(parent))
        };
        let names = managed.iter().map(|managed| managed.name.as_str());
        let names = names.filter(|name| !covered(name)).map(|name| (name, true));
        // Also where a wildcard would do: whoever cannot hide a name asks for the one sent in clear.
        let outer = ech.iter().flat_map(EchNeeds::certificates);
        let named = loaders.automate.iter().chain(own).chain(outer);
        let names = names.chain(named.map(|name| (name.as_str(), false)));
        let by_name = PolicyIndex::new(&automation.policies);
        let mut resolved: HashMap<usize, Vec<Issuer>> = HashMap::new();
        let mut seen: HashSet<&str> = HashSet::new();
        let mut subjects: Vec<ManagedSubject> = Vec::new();
        for (name, from_site) in names {
            let policy = by_name.find(name);
            if policy.is_some_and(|(_, policy)| is_on_demand(policy))
                || tailscale.iter().any(|other| other == name)
                || !seen.insert(name)
            {
                continue;
            }
            // The issuers of a policy are shared by its names.
            let issuers = match policy {
                None => Vec::new(),
                // A policy for all names is not about those that no authority outside can know, unless
                // it is all there is about them (spec T056).
                _ if from_site && !by_name.names(name) && !is_for_public(name) => vec![internal()],
                Some((at, policy)) => match resolved.entry(at) {
                    Entry::Occupied(known) => known.get().clone(),
                    Entry::Vacant(new) => new.insert(issuers(policy, &cx)?).clone(),
                },
            };
            subjects.push(subject(name, policy.map(|(_, policy)| policy), issuers, &cx)?);
        }
        let automated: HashSet<&String> = loaders.automate.iter().collect();
        let needed = |name: &&String| !automated.contains(name) && !own.contains(*name);
        let in_any_case: HashSet<&String> =
            managed.iter().filter(|one| !one.unless_loaded).map(|one| &one.name).collect();
        let outer = ech.iter().flat_map(EchNeeds::certificates);
        let unless_loaded = managed
            .iter()
            .map(|one| &one.name)
            .chain(outer)
            .filter(|name| !in_any_case.contains(name))
            .filter(needed)
            .cloned()
            .collect();
        let storage = storage::from_config(&config.storage)?;
        let rules = automation.policies.iter().map(|policy| StapleRule {
            subjects: policy.subjects.clone(),
            off: policy.disable_ocsp_stapling,
            overrides: policy.ocsp_overrides.clone().into_iter().collect(),
        });
        let ocsp = (!app.disable_ocsp_stapling).then(|| StapleRules::new(rules.collect()));
        let authorities = config.apps.pki.clone().unwrap_or_default().certificate_authorities;
        Ok(Self {
            loaders,
            subjects,
            unless_loaded,
            on_demand,
            capacity,
            ocsp,
            clean: (!app.disable_storage_clean)
                .then(|| automation.storage_clean_interval.positive().unwrap_or(CLEAN_EVERY)),
            tickets: app.session_tickets,
            resolvers: app.resolvers,
            authorities: authorities.into_iter().collect(),
            ech,
            storage,
        })
    }
}

impl TlsPlan {
    /// The issuers of all names, those with the same settings once.
    pub fn acme_issuers(&self) -> Vec<&AcmeConfig> {
        let managed = self.subjects.iter().flat_map(|subject| &subject.issuers);
        let demanded = self.on_demand.iter().flat_map(|policy| &policy.issuers);
        let mut seen = HashSet::new();
        let configs = managed.chain(demanded).filter_map(|issuer| match issuer {
            Issuer::Acme(config) => Some(config),
            _ => None,
        });
        let new = configs.filter(|config| seen.insert(Arc::as_ptr(config)));
        new.map(|config| &**config).collect()
    }
}

/// The names of this server itself (`admin.identity`), kept on this machine.
///
/// # Errors
/// A name that is none, issuers that cannot be.
pub(crate) fn identity(
    config: &IdentityConfig,
    whole: &Config,
) -> Result<IdentityPlan, ConfigError> {
    let dns = whole.apps.tls.as_ref().and_then(|app| app.dns.as_ref());
    let cx = IssuerCx::new(whole, dns);
    let policy =
        AutomationPolicy { issuers: config.issuers.clone(), ..AutomationPolicy::default() };
    // Whatever the name, as in Caddy: who wants the local authority says so.
    let issuers = match issuers(&policy, &cx)? {
        none if none.is_empty() => vec![cx.default_acme()],
        issuers => issuers,
    };
    let mut subjects: Vec<ManagedSubject> = Vec::new();
    for (at, name) in config.identifiers.iter().enumerate() {
        let name = Template::render_global(name, Unknown::Empty);
        if name.is_empty() {
            let message = "an identifier is a name or an address of this server";
            return Err(ConfigError::new(format!("identifiers.{at}"), message));
        }
        if !subjects.iter().any(|subject| subject.name == name) {
            subjects.push(subject(&name, None, issuers.clone(), &cx)?);
        }
    }
    let storage = OtherStorage::open(&json!({ "module": "file_system" }))?;
    Ok(IdentityPlan { subjects, storage })
}

/// Sources of certificates are asked in handshakes, and so make a policy one on demand (T020).
fn is_on_demand(policy: &AutomationPolicy) -> bool {
    policy.on_demand || !policy.get_certificate.is_empty()
}

/// Names that Tailscale gives its certificates for (spec T058), where no policy says of them that
/// somebody else does: one that only names them (the Caddyfile makes such where other options are
/// set) leaves them to Tailscale, since no public authority knows whose they are.
fn tailscale_names(managed: &[ManagedName], policies: &[AutomationPolicy]) -> Vec<String> {
    let says_who = |policy: &AutomationPolicy| !policy.issuers.is_empty() || is_on_demand(policy);
    let named = |name: &String| {
        policies.iter().any(|policy| says_who(policy) && policy.subjects.contains(name))
    };
    let names = managed.iter().map(|managed| &managed.name);
    names.filter(|name| name.ends_with(".ts.net") && !named(name)).cloned().collect()
}

/// They come from Tailscale's daemon in handshakes, and nobody else is asked.
fn tailscale_policy(names: &[String], cx: &IssuerCx<'_>) -> Result<OnDemandPolicy, ConfigError> {
    let policy = AutomationPolicy {
        subjects: names.to_vec(),
        get_certificate: vec![serde_json::json!({ "via": "tailscale" })],
        ..AutomationPolicy::default()
    };
    let nobody = Permission::new(|_| async {
        Err("Tailscale gives the certificates of its names".to_owned())
    });
    on_demand_policy(&policy, Some(nobody), cx)
}

/// The names that policies without `on_demand` have. A policy without subjects has all that come
/// after it, and is the last one that counts.
fn taken(policies: &[AutomationPolicy]) -> Taken {
    let others = policies.iter().enumerate().filter(|(_, policy)| !is_on_demand(policy));
    Taken::new(others.map(|(at, policy)| (at, policy.subjects.as_slice())))
}

fn check(policy: &AutomationPolicy, cx: &IssuerCx<'_>) -> Result<(), ConfigError> {
    cx.storage(policy)?;
    key_type(policy)?;
    // Also where no name is managed by it.
    issuers(policy, cx).map(|_| ())
}

/// A name may be in one policy, and one policy may be for all others (Caddy's sentences).
fn one_policy_each(policies: &[AutomationPolicy]) -> Result<(), ConfigError> {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut has_default = false;
    for (at, policy) in policies.iter().enumerate() {
        let fail = |message: String| {
            let path = format!("apps.tls.automation.policies.{at}");
            Err(ConfigError::new(path, format!("automation policy {at}{message}")))
        };
        if policy.subjects.is_empty() && std::mem::replace(&mut has_default, true) {
            let message =
                " is the second policy that acts as default/catch-all, but will never be used";
            return fail(message.to_owned());
        }
        for subject in &policy.subjects {
            if let Some(before) = first.insert(subject.as_str(), at) {
                return fail(format!(
                    ": cannot apply more than one automation policy to host: {subject} (first match in policy {before})"
                ));
            }
        }
    }
    Ok(())
}

fn key_type(policy: &AutomationPolicy) -> Result<KeyType, ConfigError> {
    let name = Template::render_global(&policy.key_type, Unknown::Keep);
    KeyType::parse(&name)
        .ok_or_else(|| ConfigError::new("key_type", format!("unrecognized key type: {name}")))
}

fn on_demand_policy(
    policy: &AutomationPolicy,
    permission: Option<Permission>,
    cx: &IssuerCx<'_>,
) -> Result<OnDemandPolicy, ConfigError> {
    let mut issuers = issuers(policy, cx)?;
    let internal = !issuers.is_empty()
        && issuers.iter().all(|issuer| matches!(issuer, Issuer::Internal { .. }));
    let mut getters = compile_getters(&policy.get_certificate)?;
    let mut permission = permission;
    // Names that are written down are bounded, and nothing that strangers choose (spec T097).
    let bounded = !policy.subjects.is_empty()
        && !policy.subjects.iter().any(|subject| subject.starts_with('*'));
    let internal = internal || bounded;
    if !internal && permission.is_none() && !getters.is_empty() {
        // Only the sources' own certificates then (T097).
        permission = Some(Permission::new(|_| async {
            Err("there is no permission module, so that only get_certificate is asked".to_owned())
        }));
    }
    if !internal && permission.is_none() {
        let message = "on-demand TLS cannot be enabled without a permission module to prevent abuse; set \
             `permission` (`ask` in a Caddyfile) in apps.tls.automation.on_demand";
        return Err(ConfigError::new("on_demand", message));
    }
    if getters.is_empty() {
        // It is asked for names below `ts.net` alone.
        getters = compile_getters(&[serde_json::json!({ "via": "tailscale" })])?;
    }
    if issuers.is_empty() {
        // Names that no authority outside can know, all of them (spec T056).
        let own = !policy.subjects.is_empty()
            && policy.subjects.iter().all(|subject| internal_name(subject));
        issuers.push(if own { self::internal() } else { cx.default_acme() });
    }
    Ok(OnDemandPolicy {
        storage: cx.storage(policy)?,
        subjects: policy.subjects.clone(),
        issuers,
        key_type: key_type(policy)?,
        reuse_private_keys: policy.reuse_private_keys,
        renewal_window_ratio: policy.renewal_window_ratio,
        must_staple: policy.must_staple,
        permission,
        getters,
        taken: Taken::default(),
    })
}

/// Finds the policy of a name; with thousands of names and policies, going through all of them for
/// each name would take most of a start.
struct PolicyIndex<'a> {
    policies: &'a [AutomationPolicy],
    /// The first policy that has a subject, by the subject in lower case.
    exact: HashMap<String, usize>,
    /// The policies for all names or with wildcards, in order.
    general: Vec<usize>,
}

impl<'a> PolicyIndex<'a> {
    fn new(policies: &'a [AutomationPolicy]) -> Self {
        let (mut exact, mut general) = (HashMap::new(), Vec::new());
        for (at, policy) in policies.iter().enumerate() {
            if policy.subjects.is_empty() || policy.subjects.iter().any(|one| one.contains('*')) {
                general.push(at);
            }
            for subject in &policy.subjects {
                exact.entry(subject.to_ascii_lowercase()).or_insert(at);
            }
        }
        Self { policies, exact, general }
    }

    /// Whether a policy has the very name.
    fn names(&self, name: &str) -> bool {
        self.exact.contains_key(&name.to_ascii_lowercase())
    }

    /// The first policy that matches (spec T055).
    fn find(&self, name: &str) -> Option<(usize, &'a AutomationPolicy)> {
        let exact = self.exact.get(&name.to_ascii_lowercase()).copied();
        let covers = |policy: &AutomationPolicy| {
            policy.subjects.is_empty()
                || policy
                    .subjects
                    .iter()
                    .any(|subject| subject.contains('*') && wildcard_covers(subject, name))
        };
        let before =
            self.general.iter().copied().take_while(|at| exact.is_none_or(|end| *at < end));
        let general = before.into_iter().find(|at| self.policies.get(*at).is_some_and(covers));
        let at = general.or(exact)?;
        Some((at, self.policies.get(at)?))
    }
}

fn subject(
    name: &str,
    policy: Option<&AutomationPolicy>,
    configured: Vec<Issuer>,
    cx: &IssuerCx<'_>,
) -> Result<ManagedSubject, ConfigError> {
    let issuers = if configured.is_empty() { default_issuers(name, cx) } else { configured };
    Ok(ManagedSubject {
        name: name.to_owned(),
        issuers,
        key_type: policy.map(key_type).transpose()?.unwrap_or_default(),
        reuse_private_keys: policy.is_some_and(|policy| policy.reuse_private_keys),
        renewal_window_ratio: policy.map_or(0.0, |policy| policy.renewal_window_ratio),
        must_staple: policy.is_some_and(|policy| policy.must_staple),
        storage: policy.map(|policy| cx.storage(policy)).transpose()?.flatten(),
    })
}

fn internal() -> Issuer {
    Issuer::Internal { ca: String::new(), lifetime: None, sign_with_root: false }
}

/// Whether a public authority could give a certificate; some do for addresses.
fn is_for_public(name: &str) -> bool {
    let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    public_name(name) || is_address && !internal_name(name)
}

/// Names that no public authority can know get certificates of the own one (spec T056, T109).
fn default_issuers(name: &str, cx: &IssuerCx<'_>) -> Vec<Issuer> {
    if internal_name(name) || !public_name(name) {
        return vec![internal()];
    }
    vec![cx.default_acme()]
}

fn issuers(policy: &AutomationPolicy, cx: &IssuerCx<'_>) -> Result<Vec<Issuer>, ConfigError> {
    let resolve = |(at, json): (usize, &Json)| {
        issuer(json, cx).map_err(|error| error.under(at.to_string()).under("issuers"))
    };
    policy.issuers.iter().enumerate().map(resolve).collect()
}

/// What issuers take from the rest of the configuration.
struct IssuerCx<'a> {
    ports: Ports,
    /// The TLS app's DNS provider.
    dns: Option<&'a Json>,
    /// The configuration's own storage.
    storage: Option<&'a Json>,
    /// The authorities of the PKI app.
    pki: Option<&'a Pki>,
    /// Storages of policies, so that policies with the same share one.
    opened: RefCell<Vec<OtherStorage>>,
    /// Shared by all names that have no policy.
    default_acme: OnceCell<Arc<AcmeConfig>>,
}

impl<'a> IssuerCx<'a> {
    fn new(config: &'a Config, dns: Option<&'a Json>) -> Self {
        let http = config.apps.http.as_ref();
        let port = |value: i64, default: u16| match u16::try_from(value) {
            Ok(0) | Err(_) => default,
            Ok(port) => port,
        };
        let defaults = Ports::default();
        let ports = Ports {
            http: http.map_or(defaults.http, |http| port(http.http_port, defaults.http)),
            https: http.map_or(defaults.https, |http| port(http.https_port, defaults.https)),
        };
        Self {
            ports,
            dns,
            storage: config.storage.as_ref(),
            pki: config.apps.pki.as_ref(),
            opened: RefCell::default(),
            default_acme: OnceCell::new(),
        }
    }

    /// Whether there is an authority with this id; `local` is always there.
    fn has_authority(&self, id: &str) -> bool {
        let known = |pki: &Pki| pki.certificate_authorities.contains_key(id);
        id.is_empty() || id == DEFAULT_CA || self.pki.is_some_and(known)
    }

    /// The storage of a policy, if it has one of its own.
    fn storage(&self, policy: &AutomationPolicy) -> Result<Option<OtherStorage>, ConfigError> {
        let Some(config) = policy.storage.as_ref().filter(|config| self.storage != Some(config))
        else {
            return Ok(None);
        };
        let mut opened = self.opened.borrow_mut();
        if let Some(known) = opened.iter().find(|known| known.is_of(config)) {
            return Ok(Some(known.clone()));
        }
        let storage = OtherStorage::open(config)?;
        opened.push(storage.clone());
        Ok(Some(storage))
    }

    fn default_acme(&self) -> Issuer {
        let make = || Arc::new(AcmeConfig { ports: self.ports, ..AcmeConfig::default() });
        Issuer::Acme(self.default_acme.get_or_init(make).clone())
    }
}

fn issuer(json: &Json, cx: &IssuerCx<'_>) -> Result<Issuer, ConfigError> {
    let module = json.get("module").and_then(Json::as_str).unwrap_or_default();
    let mut bare = json.clone();
    if let Some(object) = bare.as_object_mut() {
        object.remove("module");
    }
    match module {
        "internal" => {
            let config: caddis_config::tls::InternalIssuer = caddis_config::decode(bare)?;
            if !cx.has_authority(&config.ca) {
                let message = format!("no certificate authority configured with id: {}", config.ca);
                return Err(ConfigError::new("ca", message));
            }
            Ok(Issuer::Internal {
                ca: config.ca,
                lifetime: config.lifetime.positive(),
                sign_with_root: config.sign_with_root,
            })
        }
        "acme" => Ok(Issuer::Acme(Arc::new(compile_acme(bare, cx.ports, cx.dns)?))),
        "zerossl" => Ok(Issuer::ZeroSsl(Arc::new(compile_zerossl(bare, cx.ports)?))),
        other => Err(ConfigError::new("", format!("unknown module: tls.issuance.{other}"))),
    }
}

#[cfg(test)]
mod tests;
