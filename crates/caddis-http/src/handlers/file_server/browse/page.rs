//! A listing as a page, or as plain text.

use std::fmt::Write;

use time::macros::format_description;

use super::listing::{By, Item, Listing, Order};
use crate::handlers::support::{date_time, escape_html};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884}\
*{box-sizing:border-box}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:2rem 1rem}\
h1{font-size:1.3rem;overflow-wrap:anywhere}h1 a{text-decoration:none}\
p{opacity:.7;font-size:.9rem}\
table{width:100%;border-collapse:collapse}\
th,td{text-align:left;padding:.35rem .5rem;border-bottom:1px solid var(--line)}\
th:nth-child(n+2),td:nth-child(n+2){text-align:right;white-space:nowrap}\
td:first-child{overflow-wrap:anywhere}\
ul{list-style:none;padding:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr));gap:.5rem}\
li{border:1px solid var(--line);border-radius:.4rem;padding:.6rem;overflow-wrap:anywhere}\
li small{display:block;opacity:.7}";

/// The page. The path is the request's, decoded.
pub(super) fn html(listing: &Listing, path: &str, order: Order, grid: bool) -> String {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = escape_html(if name.is_empty() { "/" } else { name });
    let mut out = String::with_capacity(2048 + listing.items.len() * 256);
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{}</h1>\n\
         <p>{} · {}",
        crumbs(path),
        count(listing.directories, "directory", "directories"),
        count(listing.files, "file", "files"),
    );
    let shown = listing.items.len();
    if shown < listing.directories + listing.files {
        let _ = write!(out, " · {shown} shown");
    }
    let (other, label) = if grid { ("list", "List") } else { ("grid", "Grid") };
    let _ = writeln!(out, " · <a href=\"?layout={other}\">{label}</a></p>");
    if grid {
        cards(listing, &mut out);
    } else {
        table(listing, path, order, &mut out);
    }
    out.push_str("</body>\n</html>\n");
    out
}

/// The path with a link for each directory above.
fn crumbs(path: &str) -> String {
    let elements: Vec<&str> = path.split('/').filter(|element| !element.is_empty()).collect();
    let mut out = String::new();
    for (at, element) in std::iter::once(&"").chain(&elements).enumerate() {
        let up = elements.len() - at;
        let text = escape_html(element);
        if up == 0 {
            let _ = write!(out, "{text}/");
        } else {
            let _ = write!(out, "<a href=\"{}\">{text}/</a>", "../".repeat(up));
        }
    }
    out
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn table(listing: &Listing, path: &str, order: Order, out: &mut String) {
    out.push_str("<table>\n<thead><tr>");
    for (label, by, name) in [
        ("Name", By::NameDirFirst, "namedirfirst"),
        ("Size", By::Size, "size"),
        ("Modified", By::Time, "time"),
    ] {
        let current = order.by == by;
        let direction = if current && !order.descending { "desc" } else { "asc" };
        let arrow = match (current, order.descending) {
            (false, _) => "",
            (true, false) => " ↑",
            (true, true) => " ↓",
        };
        let _ = write!(
            out,
            "<th><a href=\"?sort={name}&amp;order={direction}\">{label}{arrow}</a></th>"
        );
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    if !path.trim_matches('/').is_empty() {
        out.push_str("<tr><td><a href=\"..\">Up</a></td><td></td><td></td></tr>\n");
    }
    for item in &listing.items {
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td><time datetime=\"{}\">{}</time></td></tr>",
            link(item),
            size_cell(item),
            escape_html(&item.mod_time),
            date(item),
        );
    }
    out.push_str("</tbody>\n</table>\n");
}

fn cards(listing: &Listing, out: &mut String) {
    out.push_str("<ul>\n");
    for item in &listing.items {
        let _ = writeln!(out, "<li>{}<small>{}</small></li>", link(item), size_cell(item));
    }
    out.push_str("</ul>\n");
}

fn link(item: &Item) -> String {
    let mut text =
        format!("<a href=\"{}\">{}</a>", escape_html(&item.url), escape_html(&item.name));
    if item.is_symlink {
        text.push_str(" ↗");
        if !item.symlink_path.is_empty() {
            let _ = write!(text, " <code>{}</code>", escape_html(&item.symlink_path));
        }
    }
    text
}

fn size_cell(item: &Item) -> String {
    if item.is_dir { "—".into() } else { human_size(item.size) }
}

/// A table without markup.
pub(super) fn text(listing: &Listing) -> String {
    let mut rows = vec![
        ["Name".to_owned(), "Size".into(), "Modified".into()],
        ["----".to_owned(), "----".into(), "--------".into()],
    ];
    for item in &listing.items {
        rows.push([item.name.clone(), human_size(item.size), long_date(item)]);
    }
    // Columns are filled up with tabs, eight characters each.
    let tabs = |column: usize| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        longest / 8 + 1
    };
    let (names, sizes) = (tabs(0), tabs(1));
    let fill = |text: &str, tabs: usize| "\t".repeat(tabs - text.chars().count() / 8);
    let mut out = String::new();
    for [name, size, date] in &rows {
        let _ = writeln!(out, "{name}{}{size}{}{date}", fill(name, names), fill(size, sizes));
    }
    out
}

/// A size in binary units.
pub(crate) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut unit, mut whole, mut rest) = (0, bytes, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        (whole, rest) = (whole / 1024, whole % 1024);
        unit += 1;
    }
    if unit == 0 {
        return format!("{whole} B");
    }
    format!("{whole}.{} {}", rest * 10 / 1024, UNITS[unit])
}

fn date(item: &Item) -> String {
    date_time(item.modified)
        .format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC"))
        .unwrap_or_default()
}

fn long_date(item: &Item) -> String {
    date_time(item.modified)
        .format(format_description!(
            "[month repr:long] [day padding:none], [year] at [hour]:[minute]:[second]"
        ))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(human_size(5), "5 B");
        assert_eq!(human_size(1536), "1.5 KiB");
        assert_eq!(human_size(3 << 20), "3.0 MiB");
    }

    #[test]
    fn paths_with_links() {
        assert_eq!(crumbs("/a<b/c/"), "<a href=\"../../\">/</a><a href=\"../\">a&lt;b/</a>c/");
        assert_eq!(crumbs("/"), "/");
    }
}
