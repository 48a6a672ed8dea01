//! Accounts, in the storage of the authorities: `acme_server/<ca>/accounts/<id>.json`, and
//! `acme_server/<ca>/keys/<thumbprint>` with the id. They outlive restarts, and several servers on
//! one storage share them. (Caddy keeps them in a database of its own beside the storage, which is
//! not read.) All calls block.

use std::{io, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{jws::Jwk, problem::Problem, random_id};
use crate::storage::Storage;

const LOCK_WAIT: Duration = Duration::from_secs(10);

/// An account as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Account {
    /// `valid` or `deactivated`.
    pub(super) status: String,
    /// URLs of its people.
    #[serde(default)]
    pub(super) contact: Vec<String>,
    /// The public key.
    pub(super) key: Json,
}

impl Account {
    pub(super) fn new(contact: Vec<String>, key: &Jwk) -> Self {
        Self { status: "valid".to_owned(), contact, key: key.json() }
    }

    pub(super) fn is_valid(&self) -> bool {
        self.status == "valid"
    }
}

/// Where the accounts of an authority are.
#[derive(Debug, Clone)]
pub(super) struct Accounts {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) ca: String,
}

impl Accounts {
    /// The account with this id.
    pub(super) fn get(&self, id: &str) -> Result<Option<Account>, Problem> {
        // An id comes from outside and becomes part of a path.
        if id.is_empty() || id.len() > 64 || !id.bytes().all(is_id) {
            return Ok(None);
        }
        let Some(text) = self.load(&self.account_key(id))? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| stored(&error))
    }

    /// The account with this key, and its id.
    pub(super) fn by_key(&self, key: &Jwk) -> Result<Option<(String, Account)>, Problem> {
        let Some(id) = self.load(&self.thumbprint_key(key))? else { return Ok(None) };
        let id = String::from_utf8(id).map_err(|error| stored(&error))?;
        Ok(self.get(&id)?.map(|account| (id, account)))
    }

    /// Enters an account unless there is one with its key; tells whether it is new.
    pub(super) fn enter(
        &self,
        account: Account,
        key: &Jwk,
    ) -> Result<(String, Account, bool), Problem> {
        let _guard = self.lock()?;
        if let Some((id, account)) = self.by_key(key)? {
            return Ok((id, account, false));
        }
        let id = random_id();
        self.put(&id, &account)?;
        self.store(&self.thumbprint_key(key), id.as_bytes())?;
        Ok((id, account, true))
    }

    /// Changes an account.
    pub(super) fn put(&self, id: &str, account: &Account) -> Result<(), Problem> {
        let text = serde_json::to_vec(account).map_err(|error| stored(&error))?;
        self.store(&self.account_key(id), &text)
    }

    /// Gives an account another key; gives the id of the account that has the key already.
    pub(super) fn change_key(
        &self,
        id: &str,
        old: &Jwk,
        new: &Jwk,
    ) -> Result<Result<Account, String>, Problem> {
        let _guard = self.lock()?;
        if let Some((other, _)) = self.by_key(new)? {
            return Ok(Err(other));
        }
        let mut account = self.get(id)?.ok_or_else(Problem::not_found)?;
        account.key = new.json();
        self.store(&self.thumbprint_key(new), id.as_bytes())?;
        self.put(id, &account)?;
        let gone = self.storage.delete(&self.thumbprint_key(old));
        gone.map_err(|error| stored(&error))?;
        Ok(Ok(account))
    }

    fn account_key(&self, id: &str) -> String {
        format!("acme_server/{}/accounts/{id}.json", self.ca)
    }

    fn thumbprint_key(&self, key: &Jwk) -> String {
        format!("acme_server/{}/keys/{}", self.ca, key.thumbprint())
    }

    fn lock(&self) -> Result<Box<dyn crate::storage::LockGuard>, Problem> {
        let name = format!("acme_server_{}", self.ca);
        self.storage.lock(&name, LOCK_WAIT).map_err(|error| stored(&error))
    }

    fn load(&self, key: &str) -> Result<Option<Vec<u8>>, Problem> {
        match self.storage.load(key) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(stored(&error)),
        }
    }

    fn store(&self, key: &str, content: &[u8]) -> Result<(), Problem> {
        self.storage.store(key, content).map_err(|error| stored(&error))
    }
}

fn is_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// What went wrong is for the log, not for strangers.
fn stored(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(target: "http.handlers.acme_server", %error, "accounts in the storage");
    Problem::internal("the accounts cannot be read or written now")
}
