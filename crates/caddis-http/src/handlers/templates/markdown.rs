//! `markdown`: CommonMark with GitHub's extensions and footnotes, written as Caddy's library
//! (goldmark) writes it: ids of headings, raw HTML as it is, no `/` in empty elements.
//!
//! Code of a known language is not colored: it gets the class `language-…` that Caddy gives to code
//! of a language it does not know. Only plain text is written as Caddy's colorer writes it.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    fmt::Write,
    time::{Duration, Instant},
};

use comrak::{
    Arena, Options,
    arena_tree::NodeEdge,
    nodes::{AstNode, ListType, NodeCodeBlock, NodeLink, NodeValue, TableAlignment},
};

use super::functions::html;

/// Texts longer than this (in bytes) are refused.
const MAX_TEXT: usize = 4 << 20;
/// Pages longer than this (in bytes) are refused: notes that are referred to again and again
/// make many times the text's length.
const MAX_HTML: usize = 32 << 20;
/// A text that takes longer than this is hostile.
const MAX_TIME: Duration = Duration::from_secs(2);

/// The HTML of a text.
///
/// # Errors
/// The text is too long, takes too long, or makes too long a page.
pub(super) fn render(text: &str) -> Result<String, String> {
    if text.len() > MAX_TEXT {
        return Err("markdown: the text is too long".to_owned());
    }
    let start = Instant::now();
    let cancel = || start.elapsed() > MAX_TIME;
    let arena = Arena::new();
    let root = comrak::try_parse_document(&arena, text, &options(), &cancel)
        .map_err(|_| "markdown: the text takes too long".to_owned())?;
    let mut writer = Writer { lines: text.split('\n').collect(), ..Writer::default() };
    writer.document(root)?;
    Ok(writer.out)
}

fn options() -> Options<'static> {
    let mut options = Options::default();
    let extension = &mut options.extension;
    extension.strikethrough = true;
    extension.table = true;
    extension.autolink = true;
    extension.tasklist = true;
    extension.footnotes = true;
    options
}

#[derive(Default)]
struct Writer<'t> {
    out: String,
    /// The text's lines, since ids are made of a heading's source.
    lines: Vec<&'t str>,
    ids: HashSet<String>,
    /// How often an id was wanted, so that the next free one is found at once.
    wanted: HashMap<String, u32>,
    /// Footnotes written so far.
    footnotes: u32,
    /// A check box that belongs to the next paragraph.
    pending_box: Option<bool>,
    /// Columns of the table that is written, and the next cell's.
    alignments: Vec<TableAlignment>,
    cell: usize,
    in_body: Cell<bool>,
}

impl<'t> Writer<'t> {
    /// Walks without recursion, since texts nest as deep as they wish.
    fn document<'a>(&mut self, root: &'a AstNode<'a>) -> Result<(), String> {
        let mut skipped: Option<*const AstNode<'a>> = None;
        for edge in root.traverse() {
            if self.out.len() > MAX_HTML {
                return Err("markdown: the page is too long".to_owned());
            }
            match edge {
                NodeEdge::Start(node) if skipped.is_none() && self.open(node) => {
                    skipped = Some(std::ptr::from_ref(node));
                }
                NodeEdge::End(node) if skipped.is_none() => self.close(node),
                NodeEdge::End(node) if skipped == Some(std::ptr::from_ref(node)) => skipped = None,
                _ => {}
            }
        }
        if self.footnotes > 0 {
            self.out.push_str("</ol>\n</div>\n");
        }
        Ok(())
    }

    /// Writes a node's beginning; whether what is inside is written, too.
    fn open<'a>(&mut self, node: &'a AstNode<'a>) -> bool {
        let data = node.data();
        match &data.value {
            NodeValue::BlockQuote => self.out.push_str("<blockquote>\n"),
            NodeValue::List(list) => match (list.list_type, list.start) {
                (ListType::Bullet, _) => self.out.push_str("<ul>\n"),
                (ListType::Ordered, 1) => self.out.push_str("<ol>\n"),
                (ListType::Ordered, start) => self.put(format_args!("<ol start=\"{start}\">\n")),
            },
            NodeValue::Item(_) => self.item(node),
            NodeValue::TaskItem(task) => {
                self.item(node);
                self.pending_box = Some(task.symbol.is_some());
            }
            NodeValue::Paragraph => {
                if !is_tight(node) {
                    self.out.push_str("<p>");
                }
                if let Some(checked) = self.pending_box.take() {
                    let checked = if checked { "checked=\"\" " } else { "" };
                    self.put(format_args!("<input {checked}disabled=\"\" type=\"checkbox\"> "));
                }
            }
            NodeValue::Heading(heading) => {
                let source = self.heading_source(node, heading.setext);
                let id = self.id(&source);
                self.put(format_args!("<h{} id=\"{id}\">", heading.level));
            }
            NodeValue::CodeBlock(code) => self.code_block(code),
            NodeValue::HtmlBlock(html) => self.out.push_str(&html.literal),
            NodeValue::ThematicBreak => self.out.push_str("<hr>\n"),
            NodeValue::Table(table) => {
                self.alignments.clone_from(&table.alignments);
                self.in_body.set(false);
                self.out.push_str("<table>\n");
            }
            NodeValue::TableRow(is_head) => {
                if *is_head {
                    self.out.push_str("<thead>\n");
                } else if !self.in_body.replace(true) {
                    self.out.push_str("<tbody>\n");
                }
                self.cell = 0;
                self.out.push_str("<tr>\n");
            }
            NodeValue::TableCell => {
                let name = self.cell_name();
                let style = match self.alignments.get(self.cell) {
                    Some(TableAlignment::Left) => " style=\"text-align:left\"",
                    Some(TableAlignment::Center) => " style=\"text-align:center\"",
                    Some(TableAlignment::Right) => " style=\"text-align:right\"",
                    _ => "",
                };
                self.put(format_args!("<{name}{style}>"));
            }
            NodeValue::Text(text) => escape(text, &mut self.out),
            NodeValue::SoftBreak => self.out.push('\n'),
            NodeValue::LineBreak => self.out.push_str("<br>\n"),
            NodeValue::Code(code) => {
                self.out.push_str("<code>");
                escape(&code.literal, &mut self.out);
                self.out.push_str("</code>");
            }
            NodeValue::HtmlInline(html) | NodeValue::Raw(html) => self.out.push_str(html),
            NodeValue::Emph => self.out.push_str("<em>"),
            NodeValue::Strong => self.out.push_str("<strong>"),
            NodeValue::Strikethrough => self.out.push_str("<del>"),
            NodeValue::Link(link) => {
                self.out.push_str("<a href=\"");
                escape(&url(&link.url), &mut self.out);
                self.title(link);
            }
            NodeValue::Image(link) => {
                self.out.push_str("<img src=\"");
                escape(&url(&link.url), &mut self.out);
                self.out.push_str("\" alt=\"");
                escape(&plain(node), &mut self.out);
                self.title(link);
                return true;
            }
            NodeValue::FootnoteReference(note) => {
                // The first has no number of its own.
                let again = match note.ref_num {
                    0 | 1 => String::new(),
                    more => (more - 1).to_string(),
                };
                let ix = note.ix;
                self.put(format_args!(
                    "<sup id=\"fnref{again}:{ix}\"><a href=\"#fn:{ix}\" class=\"footnote-ref\" role=\"doc-noteref\">{ix}</a></sup>"
                ));
            }
            NodeValue::FootnoteDefinition(_) => {
                if self.footnotes == 0 {
                    self.out
                        .push_str("<div class=\"footnotes\" role=\"doc-endnotes\">\n<hr>\n<ol>\n");
                }
                self.footnotes += 1;
                let ix = self.footnotes;
                self.put(format_args!("<li id=\"fn:{ix}\">\n"));
            }
            _ => {}
        }
        false
    }

    fn close<'a>(&mut self, node: &'a AstNode<'a>) {
        match &node.data().value {
            NodeValue::BlockQuote => self.out.push_str("</blockquote>\n"),
            NodeValue::List(list) => self.out.push_str(match list.list_type {
                ListType::Bullet => "</ul>\n",
                ListType::Ordered => "</ol>\n",
            }),
            NodeValue::Item(_) => self.out.push_str("</li>\n"),
            NodeValue::TaskItem(_) => {
                self.pending_box = None;
                self.out.push_str("</li>\n");
            }
            NodeValue::Paragraph => {
                if is_tight(node) {
                    if node.next_sibling().is_some() && node.first_child().is_some() {
                        self.out.push('\n');
                    }
                    return;
                }
                if node.next_sibling().is_none()
                    && let Some(parent) = node.parent()
                    && let NodeValue::FootnoteDefinition(note) = &parent.data().value
                {
                    self.back_links(note.total_references);
                }
                self.out.push_str("</p>\n");
            }
            NodeValue::Heading(heading) => self.put(format_args!("</h{}>\n", heading.level)),
            NodeValue::Table(_) => {
                self.out.push_str(if self.in_body.get() { "</tbody>\n" } else { "" });
                self.out.push_str("</table>\n");
            }
            NodeValue::TableRow(is_head) => {
                self.out.push_str("</tr>\n");
                self.out.push_str(if *is_head { "</thead>\n" } else { "" });
            }
            NodeValue::TableCell => {
                let name = self.cell_name();
                self.put(format_args!("</{name}>\n"));
                self.cell += 1;
            }
            NodeValue::Emph => self.out.push_str("</em>"),
            NodeValue::Strong => self.out.push_str("</strong>"),
            NodeValue::Strikethrough => self.out.push_str("</del>"),
            NodeValue::Link(_) => self.out.push_str("</a>"),
            NodeValue::FootnoteDefinition(note) => {
                let last = node.last_child();
                let in_paragraph =
                    last.is_some_and(|last| matches!(last.data().value, NodeValue::Paragraph));
                if !in_paragraph {
                    self.back_links(note.total_references);
                }
                self.out.push_str("</li>\n");
            }
            _ => {}
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a text cannot fail.
        let _ = self.out.write_fmt(text);
    }

    fn item<'a>(&mut self, node: &'a AstNode<'a>) {
        self.out.push_str("<li>");
        if node.first_child().is_some_and(|child| !is_tight(child)) {
            self.out.push('\n');
        }
    }

    fn cell_name(&self) -> &'static str {
        if self.in_body.get() { "td" } else { "th" }
    }

    fn title(&mut self, link: &NodeLink) {
        self.out.push('"');
        if !link.title.is_empty() {
            self.out.push_str(" title=\"");
            escape(&link.title, &mut self.out);
            self.out.push('"');
        }
        self.out.push('>');
    }

    fn back_links(&mut self, count: u32) {
        let ix = self.footnotes;
        for again in 0..count {
            let again = if again == 0 { String::new() } else { again.to_string() };
            self.put(format_args!(
                "&#160;<a href=\"#fnref{again}:{ix}\" class=\"footnote-backref\" role=\"doc-backlink\">&#x21a9;&#xfe0e;</a>"
            ));
        }
    }

    fn code_block(&mut self, code: &NodeCodeBlock) {
        let language = code.info.split_whitespace().next().unwrap_or_default();
        let lower = language.to_ascii_lowercase();
        if code.fenced && matches!(&*lower, "text" | "plain" | "plaintext" | "no-highlight") {
            self.out.push_str("<pre class=\"chroma\"><code>");
            for line in code.literal.split_inclusive('\n') {
                self.out.push_str("<span class=\"line\"><span class=\"cl\">");
                self.out.push_str(&html(line));
                self.out.push_str(if line.ends_with('\n') { "" } else { "\n" });
                self.out.push_str("</span></span>");
            }
            return self.out.push_str("</code></pre>");
        }
        self.out.push_str("<pre><code");
        if code.fenced && !language.is_empty() {
            self.out.push_str(" class=\"language-");
            escape(language, &mut self.out);
            self.out.push('"');
        }
        self.out.push('>');
        escape(&code.literal, &mut self.out);
        self.out.push_str("</code></pre>\n");
    }

    /// The last line of a heading as it was written, without its marks.
    fn heading_source<'a>(&self, node: &'a AstNode<'a>, is_setext: bool) -> String {
        let place = node.data().sourcepos;
        let line = match is_setext {
            true => place.end.line.saturating_sub(2),
            false => place.start.line.saturating_sub(1),
        };
        let text = self.lines.get(line).copied().unwrap_or_default();
        let is_first = line + 1 == place.start.line;
        let column = if is_first { place.start.column.saturating_sub(1) } else { 0 };
        let text = text.get(column..).unwrap_or(text).trim();
        if is_setext {
            // A further line of a quote has its marks again.
            return text.trim_start_matches(['>', ' ']).to_owned();
        }
        let text = text.trim_start_matches('#').trim();
        let open = text.trim_end_matches('#');
        if open.is_empty() || (open.len() < text.len() && open.ends_with([' ', '\t'])) {
            return open.trim().to_owned();
        }
        text.to_owned()
    }

    /// An id that no heading has yet.
    fn id(&mut self, source: &str) -> String {
        let mut id = String::new();
        for c in source.chars() {
            match c {
                'A'..='Z' => id.push(c.to_ascii_lowercase()),
                'a'..='z' | '0'..='9' => id.push(c),
                '-' | '_' => id.push('-'),
                c if c.is_ascii_whitespace() => id.push('-'),
                _ => {}
            }
        }
        if id.is_empty() {
            id.push_str("heading");
        }
        let mut unique = id.clone();
        while !self.ids.insert(unique.clone()) {
            // Numbers below were given away, and none is given back.
            let count = self.wanted.entry(id.clone()).or_default();
            *count += 1;
            unique = format!("{id}-{count}");
        }
        unique
    }
}

/// Whether a node is a paragraph without a `<p>` of its own.
fn is_tight<'a>(node: &'a AstNode<'a>) -> bool {
    if !matches!(node.data().value, NodeValue::Paragraph) {
        return false;
    }
    let Some(list) = node.parent().and_then(|item| item.parent()) else { return false };
    match &list.data().value {
        NodeValue::List(list) => list.tight,
        _ => false,
    }
}

/// The text inside of an image's description.
fn plain<'a>(root: &'a AstNode<'a>) -> String {
    let mut out = String::new();
    for node in root.descendants() {
        match &node.data().value {
            NodeValue::Text(text) => out.push_str(text),
            NodeValue::Code(code) => out.push_str(&code.literal),
            NodeValue::SoftBreak | NodeValue::LineBreak => out.push('\n'),
            _ => {}
        }
    }
    out
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// A link's address with what may not stand there encoded; what is encoded already stays.
fn url(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    for (at, byte) in bytes.iter().copied().enumerate() {
        let is_hex = |ahead: usize| bytes.get(at + ahead).is_some_and(u8::is_ascii_hexdigit);
        let stays = match byte {
            b'%' => is_hex(1) && is_hex(2),
            byte => byte.is_ascii_alphanumeric() || b"!#$&'()*+,-./:;=?@_~".contains(&byte),
        };
        if stays {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn writes_as_caddy_does() {
        for (text, want) in [
            (
                "# Title *here*\n\n## Title *here*\n\n#\n\n#### Closed ####\n",
                "<h1 id=\"title-here\">Title <em>here</em></h1>\n<h2 id=\"title-here-1\">Title <em>here</em></h2>\n<h1 id=\"heading\"></h1>\n<h4 id=\"closed\">Closed</h4>\n",
            ),
            (
                "Setext *one*\nline two\n=====\n",
                "<h1 id=\"line-two\">Setext <em>one</em>\nline two</h1>\n",
            ),
            (
                "- one\n- two\n  1. nested\n- three\n",
                "<ul>\n<li>one</li>\n<li>two\n<ol>\n<li>nested</li>\n</ol>\n</li>\n<li>three</li>\n</ul>\n",
            ),
            (
                "3) a\n\n4) b\n",
                "<ol start=\"3\">\n<li>\n<p>a</p>\n</li>\n<li>\n<p>b</p>\n</li>\n</ol>\n",
            ),
            (
                "- [x] a\n\n- [ ] b\n",
                "<ul>\n<li>\n<p><input checked=\"\" disabled=\"\" type=\"checkbox\"> a</p>\n</li>\n<li>\n<p><input disabled=\"\" type=\"checkbox\"> b</p>\n</li>\n</ul>\n",
            ),
            (
                "| a | b |\n|---|--:|\n| `x\\|y` | ~~2~~ |\n",
                "<table>\n<thead>\n<tr>\n<th>a</th>\n<th style=\"text-align:right\">b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td><code>x|y</code></td>\n<td style=\"text-align:right\"><del>2</del></td>\n</tr>\n</tbody>\n</table>\n",
            ),
            (
                "www.example.com/a, me@x.test <http://a.test/?q=\"x\">",
                "<p><a href=\"http://www.example.com/a\">www.example.com/a</a>, <a href=\"mailto:me@x.test\">me@x.test</a> <a href=\"http://a.test/?q=%22x%22\">http://a.test/?q=&quot;x&quot;</a></p>\n",
            ),
            (
                "```\na <b>\n```\n\n```zzz q\nx\n```\n\n    in & dent\n",
                "<pre><code>a &lt;b&gt;\n</code></pre>\n<pre><code class=\"language-zzz\">x\n</code></pre>\n<pre><code>in &amp; dent\n</code></pre>\n",
            ),
            (
                "```text\na\n\nb\n```\n",
                "<pre class=\"chroma\"><code><span class=\"line\"><span class=\"cl\">a\n</span></span><span class=\"line\"><span class=\"cl\">\n</span></span><span class=\"line\"><span class=\"cl\">b\n</span></span></code></pre>",
            ),
            (
                "<div>\n*kept*\n</div>\n\na <b>x</b>  \nb\\\nc\n\n***\n",
                "<div>\n*kept*\n</div>\n<p>a <b>x</b><br>\nb<br>\nc</p>\n<hr>\n",
            ),
            (
                "![a *b* \"q\"](/i.png \"T & t\") [b](/ä?q=[1]%20%zz)",
                "<p><img src=\"/i.png\" alt=\"a b &quot;q&quot;\" title=\"T &amp; t\"> <a href=\"/%C3%A4?q=%5B1%5D%20%25zz\">b</a></p>\n",
            ),
            ("", ""),
        ] {
            assert_eq!(render(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn footnotes_know_their_places() {
        let text = "a[^1] b[^1]\n\n[^1]: note\n[^unused]: x\n";
        let want = "<p>a<sup id=\"fnref:1\"><a href=\"#fn:1\" class=\"footnote-ref\" role=\"doc-noteref\">1</a></sup> b<sup id=\"fnref1:1\"><a href=\"#fn:1\" class=\"footnote-ref\" role=\"doc-noteref\">1</a></sup></p>\n<div class=\"footnotes\" role=\"doc-endnotes\">\n<hr>\n<ol>\n<li id=\"fn:1\">\n<p>note&#160;<a href=\"#fnref:1\" class=\"footnote-backref\" role=\"doc-backlink\">&#x21a9;&#xfe0e;</a>&#160;<a href=\"#fnref1:1\" class=\"footnote-backref\" role=\"doc-backlink\">&#x21a9;&#xfe0e;</a></p>\n</li>\n</ol>\n</div>\n";
        assert_eq!(render(text).as_deref(), Ok(want));
    }

    #[test]
    fn hostile_texts_end() {
        for text in [
            "> ".repeat(50_000) + "x",
            "[".repeat(50_000),
            "*a ".repeat(50_000),
            "- ".repeat(20_000) + "x",
            "![".repeat(20_000) + &"](x)".repeat(20_000),
            "a".repeat(5 << 20),
            "# a\n".repeat(1 << 20),
            "[^1]".repeat(1 << 19) + "\n\n[^1]: x\n",
        ] {
            // An error is as good as an answer.
            let _ = render(&text);
        }
    }
}
