//! What outlives a plan: typed tables of leased values. No globals, no type of a higher crate.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Shared state, one table per pair of key and value type.
#[derive(Default)]
pub struct State(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

/// Values by key; the last holder to let go frees a value.
pub struct Table<K, V>(Mutex<HashMap<K, Weak<V>>>);

impl State {
    /// The table for these types, made on first use.
    pub fn table<K, V>(&self) -> Arc<Table<K, V>>
    where
        K: Send + 'static,
        V: Send + Sync + 'static,
    {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let any = tables
            .entry(TypeId::of::<Table<K, V>>())
            .or_insert_with(|| Arc::new(Table::<K, V>(Mutex::default())))
            .clone();
        any.downcast().expect("tables are keyed by their type")
    }

    /// The one value of this type, made on first use; it lives as long as the state.
    pub fn single<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let any = tables.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default())).clone();
        any.downcast().expect("singles are keyed by their type")
    }
}

impl<K: Eq + Hash + Clone, V> Table<K, V> {
    /// The value of this key, made if nobody holds one.
    pub fn lease(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = map.get(&key).and_then(Weak::upgrade) {
            return value;
        }
        if map.len() > 64 && map.len().is_power_of_two() {
            map.retain(|_, value| value.strong_count() > 0);
        }
        let value = Arc::new(make());
        map.insert(key, Arc::downgrade(&value));
        value
    }

    /// All values that somebody holds.
    pub fn live(&self) -> Vec<(K, Arc<V>)> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.iter().filter_map(|(key, value)| Some((key.clone(), value.upgrade()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn lease_shares_and_frees() {
        let state = State::default();
        let table = state.table::<String, u32>();
        let one = table.lease("a".into(), || 1);
        assert_eq!(*table.lease("a".into(), || 2), 1);
        drop(one);
        assert_eq!(*table.lease("a".into(), || 2), 2);
    }
}
