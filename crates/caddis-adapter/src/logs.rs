//! The `logging` object: logs of the `log` option and of sites.

use caddis_config::{CustomLog, Logging};

use crate::listeners::Pairing;
use crate::options::Options;
use crate::site::{NamedLog, Site};

/// Name of the log that always exists.
pub(crate) const DEFAULT: &str = "default";

/// Builds the object; none if there are no logs to set.
pub(crate) fn build(
    pairings: &[Pairing],
    sites: &mut [Site],
    options: &Options,
) -> Option<Logging> {
    let debug = options.is_set("debug");
    let mut logs: Vec<NamedLog> = options.logs.clone();
    if debug && !logs.iter().any(|log| log.name == DEFAULT) {
        let (name, log) = (DEFAULT.to_owned(), Some(CustomLog::default()));
        logs.push(NamedLog { name, log, ..NamedLog::default() });
    }
    let served = || pairings.iter().flat_map(|pairing| &pairing.sites);
    let mut uses = vec![0_usize; sites.len()];
    served().for_each(|served| uses[served.site] += 1);
    for served in served() {
        let own = &mut sites[served.site].pile.logs;
        uses[served.site] -= 1;
        match uses[served.site] {
            0 => logs.append(own),
            _ => logs.extend(own.iter().cloned()),
        }
    }
    if debug {
        for log in logs.iter_mut().filter_map(|named| named.log.as_mut()) {
            if log.level.is_empty() {
                log.level = "DEBUG".to_owned();
            }
        }
    }
    let mut logging = Logging::default();
    let (default, others): (Vec<_>, Vec<_>) = logs
        .into_iter()
        .filter(|named| !named.name.is_empty())
        .filter_map(|named| Some((named.name, named.log?)))
        .partition(|(name, _)| name == DEFAULT);
    logging.logs.extend(default.into_iter().take(1));
    for (name, log) in others {
        let included = log.include.clone();
        logging.logs.insert(name, log);
        if included.is_empty() {
            continue;
        }
        // What has a log of its own is not to be in the default one too.
        let default = logging.logs.entry(DEFAULT.to_owned()).or_default();
        default.exclude.extend(included);
    }
    if let Some(default) = logging.logs.get_mut(DEFAULT) {
        default.exclude.sort();
        default.exclude.dedup();
    }
    (!logging.logs.is_empty()).then_some(logging)
}
