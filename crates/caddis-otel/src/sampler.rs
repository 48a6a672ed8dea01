//! Which traces are recorded: `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.

use crate::settings::Env;

/// Decides for each span. Without settings: as the parent decided, and every new trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sampler {
    /// Whether the parent's decision is followed where there is a parent.
    parent_based: bool,
    root: Root,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Root {
    Always,
    Never,
    /// Where the lower half of the trace's id, without its last bit, is below this.
    Below(u64),
}

impl Default for Sampler {
    fn default() -> Self {
        Self { parent_based: true, root: Root::Always }
    }
}

impl Sampler {
    /// From the environment; what is wrong is told, and does not stop a start, as in the SDK.
    pub(crate) fn from_env(env: &Env<'_>, warnings: &mut Vec<String>) -> Self {
        let Some(name) = env.text("OTEL_TRACES_SAMPLER") else { return Self::default() };
        let name = name.to_ascii_lowercase();
        let (root, parent_based) = match name.strip_prefix("parentbased_") {
            Some(root) => (root, true),
            None => (name.as_str(), false),
        };
        let root = match root {
            "always_on" => Root::Always,
            "always_off" => Root::Never,
            "traceidratio" => match env.text("OTEL_TRACES_SAMPLER_ARG") {
                None => Root::Always,
                Some(text) => Root::ratio(&text).unwrap_or_else(|| {
                    warnings.push(format!(
                        "OTEL_TRACES_SAMPLER_ARG: \"{text}\" is no number from 0 to 1; every trace is recorded"
                    ));
                    Root::Always
                }),
            },
            _ => {
                warnings.push(format!("OTEL_TRACES_SAMPLER: unsupported sampler: {name}"));
                return Self::default();
            }
        };
        Self { parent_based, root }
    }

    /// Whether a span is recorded; `parent` is its parent's decision, where there is one.
    pub(crate) fn samples(&self, parent: Option<bool>, trace_id: [u8; 16]) -> bool {
        if let (true, Some(sampled)) = (self.parent_based, parent) {
            return sampled;
        }
        match self.root {
            Root::Always => true,
            Root::Never => false,
            // The lower half is what the SDKs agreed on, so that all of them choose alike.
            Root::Below(bound) => (u128::from_be_bytes(trace_id) as u64) >> 1 < bound,
        }
    }
}

impl Root {
    fn ratio(text: &str) -> Option<Self> {
        let ratio: f64 = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))?;
        if ratio >= 1.0 {
            return Some(Self::Always);
        }
        Some(Self::Below((ratio * (1u64 << 63) as f64) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::Sampler;
    use crate::testing::env;

    fn sampler(name: &str, arg: Option<&str>) -> (Sampler, usize) {
        let mut vars = vec![("OTEL_TRACES_SAMPLER", name)];
        vars.extend(arg.map(|arg| ("OTEL_TRACES_SAMPLER_ARG", arg)));
        let vars = env(&vars);
        let mut warnings = Vec::new();
        let sampler = Sampler::from_env(&vars.env(), &mut warnings);
        (sampler, warnings.len())
    }

    #[test]
    fn follows_the_parent() {
        for (name, without, with_not, with) in [
            ("always_on", true, true, true),
            ("always_off", false, false, false),
            ("parentbased_always_on", true, false, true),
            ("ParentBased_Always_Off", false, false, true),
            ("parentbased_traceidratio", true, false, true),
        ] {
            let (sampler, warnings) = sampler(name, None);
            assert_eq!(warnings, 0, "{name}");
            assert_eq!(sampler.samples(None, [1; 16]), without, "{name}");
            assert_eq!(sampler.samples(Some(false), [1; 16]), with_not, "{name}");
            assert_eq!(sampler.samples(Some(true), [1; 16]), with, "{name}");
        }
    }

    #[test]
    fn ratio_looks_at_the_lower_half() {
        let (half, _) = sampler("traceidratio", Some("0.5"));
        let mut id = [0xff; 16];
        assert!(!half.samples(None, id));
        id[8] = 0x7f;
        assert!(half.samples(None, id));
        assert!(!sampler("traceidratio", Some("0")).0.samples(None, [0; 16]));
    }

    #[test]
    fn tells_what_is_wrong() {
        for (name, arg) in
            [("x", None), ("traceidratio", Some("2")), ("parentbased_traceidratio", Some("a"))]
        {
            let (sampler, warnings) = sampler(name, arg);
            assert_eq!(warnings, 1, "{name}");
            assert!(sampler.samples(None, [1; 16]));
        }
    }
}
