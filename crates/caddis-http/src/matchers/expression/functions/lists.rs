//! The library for lists.

use caddis_core::Result;

use crate::matchers::expression::{
    eval::{MAX_SIZE, error, no_overload, sorted},
    node::Val::{self, Int, List},
};

pub(super) fn slice(args: &[Val]) -> Result<Val> {
    let [List(items), Int(start), Int(end)] = args else { return Err(no_overload()) };
    let bad = || {
        let len = items.len();
        error(format_args!("cannot slice({start}, {end}), list is length {len}"))
    };
    let start = usize::try_from(*start).map_err(|_| bad())?;
    let end = usize::try_from(*end).map_err(|_| bad())?;
    items.get(start..end).map(|part| List(part.to_vec())).ok_or_else(bad)
}

pub(super) fn flatten(args: &[Val]) -> Result<Val> {
    let (items, depth) = match args {
        [List(items)] => (items, 1),
        [List(_), Int(depth)] if *depth < 0 => {
            return Err(error("level must be non-negative"));
        }
        [List(items), Int(depth)] => (items, *depth),
        _ => return Err(no_overload()),
    };
    let mut flat = items.clone();
    for _ in 0..depth {
        if !flat.iter().any(|item| matches!(item, List(_))) {
            break;
        }
        let items = std::mem::take(&mut flat);
        for item in items {
            match item {
                List(inner) => flat.extend(inner),
                item => flat.push(item),
            }
        }
        if flat.len() > MAX_SIZE {
            return Err(error("a list is too long"));
        }
    }
    Ok(List(flat))
}

pub(super) fn sort(args: &[Val]) -> Result<Val> {
    let [List(items)] = args else { return Err(no_overload()) };
    Ok(List(sorted(items.clone(), items)?))
}

pub(super) fn distinct(args: &[Val]) -> Result<Val> {
    let [List(items)] = args else { return Err(no_overload()) };
    let mut kept: Vec<Val> = Vec::new();
    // Each is compared with all before it, so the number is bounded.
    if items.len() > 10_000 {
        return Err(error("a list is too long"));
    }
    for item in items {
        if !kept.iter().any(|known| known.equals(item)) {
            kept.push(item.clone());
        }
    }
    Ok(List(kept))
}

pub(super) fn range(args: &[Val]) -> Result<Val> {
    let [Int(end)] = args else { return Err(no_overload()) };
    if usize::try_from(*end).is_ok_and(|end| end > MAX_SIZE) {
        return Err(error("a list is too long"));
    }
    Ok(List((0..*end).map(Int).collect()))
}
