//! The TLS app: loaders, automation policies resolved per name, tickets, authorities.

use std::{collections::BTreeMap, sync::Arc};

use caddis_config::{AutomationPolicy, Ca, Config, ConfigError, tls::SessionTicketService};
use caddis_tls::{
    Issuer, KeyType, Loaders, ManagedSubject, OnDemandPolicy, Permission, compile_loaders,
    on_demand_permission,
    storage::{self, Storage},
};
use serde_json::Value as Json;

use crate::{
    ManagedName,
    names::{internal_name, public_name, wildcard_covers},
};

/// What the certificate manager is told at commit.
pub struct TlsPlan {
    /// Certificates to load.
    pub loaders: Loaders,
    /// Names to manage, with their issuers.
    pub subjects: Vec<ManagedSubject>,
    /// Policies with `on_demand`.
    pub on_demand: Vec<OnDemandPolicy>,
    /// Session ticket settings.
    pub tickets: Option<SessionTicketService>,
    /// Certificate authorities by id.
    pub authorities: BTreeMap<String, Ca>,
    /// The storage.
    pub storage: Arc<dyn Storage>,
}

impl TlsPlan {
    /// Resolves the TLS and PKI apps, given the names that automatic HTTPS found.
    ///
    /// # Errors
    /// Unknown modules, settings that cannot be.
    pub fn compile(config: &Config, managed: &[ManagedName]) -> Result<Self, ConfigError> {
        let app = config.apps.tls.clone().unwrap_or_default();
        let loaders = compile_loaders(&app.certificates)
            .map_err(|error| error.under("certificates").under("apps.tls"))?;
        let automation = app.automation.clone().unwrap_or_default();
        let permission = on_demand_permission(automation.on_demand.as_ref())
            .map_err(|error| error.under("apps.tls.automation.on_demand"))?;
        let mut on_demand = Vec::new();
        for (at, policy) in automation.policies.iter().enumerate() {
            let path = format!("apps.tls.automation.policies.{at}");
            check(policy).map_err(|error| error.under(&path))?;
            if policy.on_demand {
                let resolved = on_demand_policy(policy, permission.clone());
                on_demand.push(resolved.map_err(|error| error.under(&path))?);
            }
        }
        let names = managed.iter().map(|name| name.0.as_str());
        let names = names.chain(loaders.automate.iter().map(String::as_str));
        let mut subjects: Vec<ManagedSubject> = Vec::new();
        for name in names {
            let policy = policy_for(&automation.policies, name);
            if policy.is_some_and(|policy| policy.on_demand)
                || subjects.iter().any(|subject| subject.name == name)
            {
                continue;
            }
            subjects.push(subject(name, policy)?);
        }
        let storage = storage::from_config(&config.storage)?;
        let authorities = config.apps.pki.clone().unwrap_or_default().certificate_authorities;
        Ok(Self {
            loaders,
            subjects,
            on_demand,
            tickets: app.session_tickets,
            authorities: authorities.into_iter().collect(),
            storage,
        })
    }
}

fn check(policy: &AutomationPolicy) -> Result<(), ConfigError> {
    if !policy.get_certificate.is_empty() {
        let message = "certificate managers (get_certificate) are not supported yet";
        return Err(ConfigError::new("get_certificate", message));
    }
    if policy.storage.is_some() {
        return Err(ConfigError::new("storage", "storage per policy is not supported yet"));
    }
    key_type(policy).map(|_| ())
}

fn key_type(policy: &AutomationPolicy) -> Result<KeyType, ConfigError> {
    KeyType::parse(&policy.key_type).ok_or_else(|| {
        ConfigError::new("key_type", format!("unrecognized key type: {}", policy.key_type))
    })
}

fn on_demand_policy(
    policy: &AutomationPolicy,
    permission: Option<Permission>,
) -> Result<OnDemandPolicy, ConfigError> {
    let issuers = issuers(policy)?;
    let internal = !issuers.is_empty()
        && issuers.iter().all(|issuer| matches!(issuer, Issuer::Internal { .. }));
    if !internal && permission.is_none() {
        let message =
            "on-demand TLS cannot be enabled without a permission module to prevent abuse";
        return Err(ConfigError::new("on_demand", message));
    }
    Ok(OnDemandPolicy {
        subjects: policy.subjects.clone(),
        issuers,
        key_type: key_type(policy)?,
        reuse_private_keys: policy.reuse_private_keys,
        renewal_window_ratio: policy.renewal_window_ratio,
        permission,
    })
}

fn policy_for<'a>(policies: &'a [AutomationPolicy], name: &str) -> Option<&'a AutomationPolicy> {
    policies.iter().find(|policy| {
        policy.subjects.is_empty()
            || policy.subjects.iter().any(|subject| wildcard_covers(subject, name))
    })
}

fn subject(name: &str, policy: Option<&AutomationPolicy>) -> Result<ManagedSubject, ConfigError> {
    let configured = policy.map(issuers).transpose()?.unwrap_or_default();
    let issuers = if configured.is_empty() { default_issuers(name) } else { configured };
    Ok(ManagedSubject {
        name: name.to_owned(),
        issuers,
        key_type: policy.map(key_type).transpose()?.unwrap_or_default(),
        reuse_private_keys: policy.is_some_and(|policy| policy.reuse_private_keys),
        renewal_window_ratio: policy.map_or(0.0, |policy| policy.renewal_window_ratio),
    })
}

/// Names that no public authority can know get certificates of the own one (spec T056, T109).
fn default_issuers(name: &str) -> Vec<Issuer> {
    if internal_name(name) || !public_name(name) {
        let ca = String::new();
        return vec![Issuer::Internal { ca, lifetime: None, sign_with_root: false }];
    }
    vec![Issuer::Acme { directory: String::new() }]
}

fn issuers(policy: &AutomationPolicy) -> Result<Vec<Issuer>, ConfigError> {
    let resolve = |(at, json): (usize, &Json)| {
        issuer(json).map_err(|error| error.under(at.to_string()).under("issuers"))
    };
    policy.issuers.iter().enumerate().map(resolve).collect()
}

fn issuer(json: &Json) -> Result<Issuer, ConfigError> {
    let module = json.get("module").and_then(Json::as_str).unwrap_or_default();
    let mut bare = json.clone();
    if let Some(object) = bare.as_object_mut() {
        object.remove("module");
    }
    match module {
        "internal" => {
            let config: caddis_config::tls::InternalIssuer = caddis_config::decode(bare)?;
            Ok(Issuer::Internal {
                ca: config.ca,
                lifetime: config.lifetime.positive(),
                sign_with_root: config.sign_with_root,
            })
        }
        "acme" => {
            let config: caddis_config::tls::AcmeIssuer = caddis_config::decode(bare)?;
            Ok(Issuer::Acme { directory: config.ca })
        }
        "zerossl" => Ok(Issuer::Other("zerossl".into())),
        other => Err(ConfigError::new("", format!("unknown module: tls.issuance.{other}"))),
    }
}
