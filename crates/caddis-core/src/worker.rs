//! What belongs to one thread: its number, and typed slots for pools and buffers.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    rc::Rc,
};

/// One thread of the engine. Handlers keep thread-local state (idle connections, buffers) in its
/// slots, by type.
#[derive(Default)]
pub struct Worker {
    /// 0 for the control thread, from 1 for the others.
    pub id: usize,
    /// Few, so that looking through them is quicker than hashing.
    slots: RefCell<Vec<(TypeId, Rc<dyn Any>)>>,
}

impl Worker {
    /// A worker of this number.
    pub fn new(id: usize) -> Rc<Self> {
        Rc::new(Self { id, slots: RefCell::default() })
    }

    /// This worker's value of a type, made on first use.
    pub fn local<T: Default + 'static>(&self) -> Rc<T> {
        let mut slots = self.slots.borrow_mut();
        let id = TypeId::of::<T>();
        let found = slots.iter().find(|(other, _)| *other == id).map(|(_, any)| any.clone());
        let any = found.unwrap_or_else(|| {
            let made: Rc<dyn Any> = Rc::new(T::default());
            slots.push((id, made.clone()));
            made
        });
        any.downcast().expect("slots are keyed by their type")
    }
}
