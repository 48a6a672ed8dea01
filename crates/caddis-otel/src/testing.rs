//! An environment of tests' own.

use std::collections::HashMap;

use crate::Env;

pub(crate) struct Vars(HashMap<String, String>);

pub(crate) fn env(vars: &[(&str, &str)]) -> Vars {
    Vars(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

impl Vars {
    pub(crate) fn env(&self) -> Env<'_> {
        Env::new(|name| self.0.get(name).cloned())
    }
}
