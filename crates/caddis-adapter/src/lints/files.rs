//! `unused-root` and `try-files-without-effect`: files that nobody serves.

use super::subject::{Statement, Subject, Text};
use super::{Findings, Lint, Run};

pub(super) static UNUSED_ROOT: Lint = Lint {
    code: "unused-root",
    summary: "a `root` in a site that serves no files",
    explanation: "\
`root` only says where files are; it serves none. Without `file_server` (or `php_fastcgi`, a `file`
matcher and the like) in the same site it has no effect, and where nothing else answers, visitors get an
empty page. Add `file_server`, or remove the line.",
    run: Run::Sites(roots),
};

pub(super) static TRY_FILES_WITHOUT_EFFECT: Lint = Lint {
    code: "try-files-without-effect",
    summary: "a `try_files` that leaves every path as it is",
    explanation: "\
`try_files` rewrites the request to the first of its files that exists. With the request's own path
alone it changes nothing: there is no file to fall back to. Name one at the end, as in
`try_files {path} /index.html`, or remove the line (`file_server` finds the file by itself).",
    run: Run::Text(try_files),
};

/// Words that show that a site looks at files.
const USES: &[&str] = &[
    "acme_server",
    "file",
    "file_server",
    "fs",
    "invoke",
    "php_fastcgi",
    "templates",
    "try_files",
];

fn roots(subject: &Subject<'_>, findings: &mut Findings) {
    for site in subject.text.real_sites() {
        if site.body.iter().any(uses_files) {
            continue;
        }
        let mut see = |statement: &Statement<'_>| {
            // In a snippet it may be for another of the sites that import it.
            if statement.name() == "root" && statement.token().imports().is_none() {
                let message = "no files are served from this root";
                findings.add(statement.token(), message, "has no effect by itself").help =
                    Some("add `file_server`, or remove this line".into());
            }
        };
        for statement in &site.body {
            see(statement);
            let nested = ["handle", "handle_path", "route"].contains(&statement.name());
            statement.body.iter().filter(|_| nested).for_each(&mut see);
        }
    }
}

fn uses_files(statement: &Statement<'_>) -> bool {
    statement.words.iter().any(|word| {
        USES.contains(&word.text.as_str())
            || word.text.contains("vars.root}")
            || word.text.contains("{file.")
            || word.text.contains("file(")
    }) || statement.body.iter().any(uses_files)
}

fn try_files(text: &Text<'_>, findings: &mut Findings) {
    const OWN: &[&str] = &["{path}", "{path}/", "{http.request.uri.path}"];
    text.each_directive(&mut |statement| {
        let files = &statement.words[1..];
        if statement.name() != "try_files"
            || files.is_empty()
            || !files.iter().all(|file| OWN.contains(&file.text.as_str()))
        {
            return;
        }
        let message = "this leaves every path as it is";
        findings.add(statement.token(), message, "tries the request's own path alone").help = Some(
            "name a file to fall back to (`try_files {path} /index.html`), or remove it".into(),
        );
    });
}
