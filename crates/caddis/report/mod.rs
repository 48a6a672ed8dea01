//! Drawing diagnostics with miette, for people; Caddy's sentence for those who search for it.

use std::io::IsTerminal;

use caddis_caddyfile::{Diagnostic, SourceMap};
use miette::{GraphicalReportHandler, GraphicalTheme};

/// Draws diagnostics on standard error, in colour only on a terminal.
pub(crate) fn draw(all: &[Diagnostic], sources: &SourceMap) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false);
    for one in all {
        let mut text = String::new();
        match handler.render_report(&mut text, &one.with_sources(sources)) {
            Ok(()) => eprintln!("{}", text.trim_end()),
            Err(_) => eprintln!("{one}"),
        }
        eprintln!();
    }
}
