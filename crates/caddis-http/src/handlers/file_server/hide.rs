//! Which files are hidden (spec D076).
//!
//! A rule without a slash names any element of a path, as a glob; with a slash it is a path (or a
//! glob of one), relative to the working directory.

use std::sync::Arc;

use caddis_core::{Exchange, Template};

use crate::{glob::go_match, path::clean};

/// The rules of a handler, as far as they can be known before a request.
pub(super) struct Hide {
    fixed: Arc<Rules>,
    /// Empty where no rule has a placeholder.
    templates: Vec<Template>,
}

/// Rules for one request.
#[derive(Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    working_directory: String,
}

enum Rule {
    Name(String),
    Path(String),
}

impl Hide {
    pub(super) fn new(texts: &[String]) -> Self {
        let templates: Vec<Template> = texts.iter().map(|text| Template::parse(text)).collect();
        let fixed: Option<Vec<&str>> = templates.iter().map(Template::as_static).collect();
        match fixed {
            Some(fixed) => Self { fixed: Arc::new(Rules::new(fixed)), templates: Vec::new() },
            None => Self { fixed: Arc::default(), templates },
        }
    }

    /// The rules with their placeholders filled in.
    pub(super) fn rules(&self, ex: &Exchange) -> Arc<Rules> {
        if self.templates.is_empty() {
            return self.fixed.clone();
        }
        let texts: Vec<_> = self.templates.iter().map(|template| template.render(ex)).collect();
        Arc::new(Rules::new(texts.iter().map(|text| &**text)))
    }
}

impl Rules {
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let working_directory = std::env::current_dir()
            .map_or_else(|_| "/".into(), |path| path.to_string_lossy().into_owned());
        let rules = texts
            .into_iter()
            .map(|text| {
                if text.contains('/') {
                    Rule::Path(absolute(&working_directory, text))
                } else {
                    Rule::Name(text.to_owned())
                }
            })
            .collect();
        Self { rules, working_directory }
    }

    /// Whether a file is hidden.
    pub(super) fn hides(&self, filename: &str) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let filename = absolute(&self.working_directory, filename);
        self.rules.iter().any(|rule| match rule {
            Rule::Name(pattern) => {
                filename.split('/').any(|element| go_match(pattern, element) == Ok(true))
            }
            Rule::Path(path) => {
                filename.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'))
                    || go_match(path, &filename) == Ok(true)
            }
        })
    }
}

fn absolute(working_directory: &str, path: &str) -> String {
    if path.starts_with('/') {
        return clean(path).into_owned();
    }
    clean(&format!("{working_directory}/{path}")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_by_name_and_by_path() {
        let rules = Rules::new([".git", "secret.txt", "/srv/private", "*.bak", "/srv/*.key"]);
        for (file, want) in [
            ("/srv/a.txt", false),
            ("/srv/.git/config", true),
            ("/srv/.git", true),
            ("/srv/secret.txt", true),
            ("/srv/SECRET.txt", false),
            ("/srv/private", true),
            ("/srv/private/x", true),
            ("/srv/privateer.txt", false),
            ("/srv/x.bak", true),
            ("/srv/x.key", true),
            ("/srv/d/x.key", false),
            ("rel/.git/x", true),
        ] {
            assert_eq!(rules.hides(file), want, "{file}");
        }
        let here = Rules::new(["./Caddyfile"]);
        assert!(here.hides("Caddyfile"));
        assert!(!here.hides("/elsewhere/Caddyfile"));
    }

    #[test]
    fn placeholders() {
        let hide = Hide::new(&["{http.request.uri.query.h}".into()]);
        let ex = Exchange::for_test("/?h=a.txt");
        assert!(hide.rules(&ex).hides("/srv/a.txt"));
    }
}
