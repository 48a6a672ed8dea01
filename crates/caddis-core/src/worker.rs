//! What belongs to one thread: its number, and typed slots for pools and buffers.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
};

/// One thread of the engine. Handlers keep thread-local state (idle connections, buffers) in its
/// slots, by type.
#[derive(Default)]
pub struct Worker {
    /// 0 for the control thread, from 1 for the others.
    pub id: usize,
    slots: RefCell<HashMap<TypeId, Rc<dyn Any>>>,
}

impl Worker {
    /// A worker of this number.
    pub fn new(id: usize) -> Rc<Self> {
        Rc::new(Self { id, slots: RefCell::default() })
    }

    /// This worker's value of a type, made on first use.
    pub fn local<T: Default + 'static>(&self) -> Rc<T> {
        let mut slots = self.slots.borrow_mut();
        let any = slots.entry(TypeId::of::<T>()).or_insert_with(|| Rc::new(T::default())).clone();
        any.downcast().expect("slots are keyed by their type")
    }
}
