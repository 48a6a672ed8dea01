//! Templates of directory listings (`file_server browse <template>`): the listing's fields and
//! methods, beside what every template has.

use std::rc::Rc;

use caddis_core::{Exchange, Result, Template};
use http::HeaderMap;
use time::OffsetDateTime;

use super::{
    Page,
    eval::Stop,
    functions,
    value::{Object, Val},
};

/// The data of a listing.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The directory's name.
    pub(crate) name: String,
    /// The request's path, escaped, without a slash at its end.
    pub(crate) path: String,
    pub(crate) can_go_up: bool,
    pub(crate) items: Vec<Item>,
    /// Directories and files, whatever is shown of them.
    pub(crate) directories: usize,
    pub(crate) files: usize,
    /// Bytes of all files; and with those that links lead to.
    pub(crate) total_size: u64,
    pub(crate) total_size_followed: u64,
    pub(crate) offset: usize,
    pub(crate) limit: usize,
    pub(crate) sort: &'static str,
    pub(crate) order: &'static str,
    pub(crate) layout: String,
}

/// An entry of it.
#[derive(Debug)]
pub(crate) struct Item {
    /// With a slash where it is a directory.
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) url: String,
    pub(crate) modified: OffsetDateTime,
    /// Go's mode bits.
    pub(crate) mode: u32,
    pub(crate) is_dir: bool,
    pub(crate) is_symlink: bool,
    pub(crate) symlink_path: String,
}

/// Runs a template with a listing as its data; `root` is where it may read files.
///
/// # Errors
/// 500 for a mistake of the template, or what it asked for by `httpError`.
pub(crate) async fn run(
    ex: &Exchange,
    template: &str,
    listing: Rc<Listing>,
    root: &Template,
) -> Result<(String, HeaderMap)> {
    let page = Page { root, headers: HeaderMap::new(), delimiters: ("{{", "}}") };
    let dot = Val::Object(Object::Listing(listing));
    page.run(ex, |run| run.data("", template, dot.clone())).await
}

/// What a template asks a listing for; `None` where it is something that every template has.
pub(super) fn field(listing: &Rc<Listing>, name: &str) -> Option<Val> {
    Some(match name {
        "Name" => Val::str(&listing.name),
        "Path" => Val::str(&listing.path),
        "CanGoUp" => Val::Bool(listing.can_go_up),
        "Items" => Val::list(
            (0..listing.items.len())
                .map(|at| Val::Object(Object::Item(listing.clone(), at)))
                .collect(),
        ),
        "NumDirs" => count(listing.directories),
        "NumFiles" => count(listing.files),
        "TotalFileSize" => size(listing.total_size),
        "TotalFileSizeFollowingSymlinks" => size(listing.total_size_followed),
        "HumanTotalFileSize" => human(listing.total_size),
        "HumanTotalFileSizeFollowingSymlinks" => human(listing.total_size_followed),
        "Offset" => count(listing.offset),
        "Limit" => count(listing.limit),
        "Sort" => Val::str(listing.sort),
        "Order" => Val::str(listing.order),
        "Layout" => Val::str(&listing.layout),
        "Breadcrumbs" => breadcrumbs(&listing.path),
        _ => return None,
    })
}

/// What a template asks an entry for.
pub(super) fn item_field(
    listing: &Rc<Listing>,
    at: usize,
    name: &str,
    args: &[Val],
) -> std::result::Result<Val, Stop> {
    let unknown = || Stop::text(format!("can't evaluate field {name}"));
    let item = listing.items.get(at).ok_or_else(unknown)?;
    Ok(match name {
        "Name" => Val::str(&item.name),
        "Size" => size(item.size),
        "URL" => Val::str(&item.url),
        "ModTime" => Val::Time(item.modified),
        "Mode" => Val::str(&mode(item.mode)),
        "IsDir" => Val::Bool(item.is_dir),
        "IsSymlink" => Val::Bool(item.is_symlink),
        "SymlinkPath" => Val::str(&item.symlink_path),
        "Tpl" => Val::Object(Object::Listing(listing.clone())),
        "HumanSize" => human(item.size),
        "HumanModTime" => {
            let format = args.first().map(Val::shown).unwrap_or_default();
            Val::str(&functions::date(&format, &item.modified))
        }
        "HasExt" => {
            let name = item.name.to_lowercase();
            Val::Bool(args.iter().any(|end| name.ends_with(&end.shown().to_lowercase())))
        }
        _ => return Err(unknown()),
    })
}

/// The path's elements, each with the way to it.
fn breadcrumbs(path: &str) -> Val {
    if path.is_empty() {
        return Val::list(Vec::new());
    }
    let parts: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    let crumbs = parts.iter().enumerate().map(|(at, part)| {
        let text = if at == 0 && part.is_empty() { "/" } else { part };
        let text = caddis_core::target::decode(text).unwrap_or_default();
        let link = "../".repeat(parts.len() - at - 1);
        Val::map_of([("Link", Val::str(&link)), ("Text", Val::str(&text))])
    });
    Val::list(crumbs.collect())
}

/// Go's mode bits as Go writes them, for example `drwxr-xr-x`.
pub(super) fn mode(bits: u32) -> String {
    let is_set = |at: u32| bits & (1 << at) != 0;
    let kinds = (19..=31).rev().zip("dalTLDpSugct?".chars());
    let mut text: String = kinds.filter(|(at, _)| is_set(*at)).map(|(_, kind)| kind).collect();
    if text.is_empty() {
        text.push('-');
    }
    let rights = (0..9).rev().zip("rwxrwxrwx".chars());
    text.extend(rights.map(|(at, right)| if is_set(at) { right } else { '-' }));
    text
}

fn count(number: usize) -> Val {
    Val::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn size(bytes: u64) -> Val {
    Val::Int(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn human(bytes: u64) -> Val {
    Val::str(&crate::handlers::file_server::human_size(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_as_go_writes_them() {
        assert_eq!(mode(420), "-rw-r--r--");
        assert_eq!(mode(2_147_484_141), "drwxr-xr-x");
        assert_eq!(mode(134_218_239), "Lrwxrwxrwx");
        assert_eq!(mode(1 << 23 | 0o755), "urwxr-xr-x");
    }
}
