//! What all reverse proxies of one generation share: the end of that generation, the checks that
//! already run, and the health gauges.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use caddis_core::{CompileCx, Task};
use tokio_util::sync::CancellationToken;

use crate::upstream::Upstream;

/// How often the gauges are set.
const GAUGE_PERIOD: Duration = Duration::from_secs(10);
const NAME: &str = "reverse_proxy";

/// One generation's shared things.
#[derive(Default)]
pub(crate) struct Generation {
    /// Cancelled when the generation ends.
    pub(crate) ended: CancellationToken,
    checks: Mutex<HashSet<String>>,
    /// How many handlers there are so far by what tells their connections apart.
    places: Mutex<HashMap<u64, u32>>,
    gauges: Mutex<Vec<Watched>>,
}

/// A handler's upstreams and their gauges.
type Watched = (Arc<[Upstream]>, Vec<Arc<AtomicI64>>);

/// The generation that is being compiled.
#[derive(Default)]
struct Current(Mutex<Option<Arc<Generation>>>);

impl Generation {
    /// The generation this compilation belongs to; its task is pushed with the first call.
    pub(crate) fn of(cx: &mut CompileCx<'_>) -> Arc<Self> {
        let current = cx.state.single::<Current>();
        let mut slot = current.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = cx.tasks.iter().any(|task| task.name == NAME);
        if let Some(generation) = slot.as_ref()
            && known
        {
            return generation.clone();
        }
        let generation = Arc::new(Self::default());
        *slot = Some(generation.clone());
        let own = generation.clone();
        cx.tasks.push(Task::new(NAME, move |task| {
            // Also where the task is dropped instead of told.
            let ended = own.ended.clone().drop_guard();
            async move {
                let _ended = ended;
                loop {
                    own.set_gauges();
                    tokio::select! {
                        () = task.cancel.cancelled() => return,
                        () = tokio::time::sleep(GAUGE_PERIOD) => {}
                    }
                }
            }
        }));
        generation
    }

    /// Whether this check (definition and address) is not run by another handler yet.
    pub(crate) fn claim_check(&self, key: &str) -> bool {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned())
    }

    /// The place of a handler among those so far that agree with it in this.
    pub(crate) fn place(&self, of: &str) -> u32 {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // Two that collide get different places, which is no harm.
        let next = places.entry(xxhash_rust::xxh64::xxh64(of.as_bytes(), 0)).or_default();
        *next += 1;
        *next - 1
    }

    /// Shows the health of these upstreams in the metrics.
    pub(crate) fn watch(&self, cx: &CompileCx<'_>, upstreams: &Arc<[Upstream]>) {
        let gauges = upstreams
            .iter()
            .map(|upstream| {
                cx.metrics.gauge(
                    "caddy_reverse_proxy_upstreams_healthy",
                    "Health status of reverse proxy upstreams.",
                    &[("upstream", &upstream.dial)],
                )
            })
            .collect();
        let mut all = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((upstreams.clone(), gauges));
    }

    fn set_gauges(&self) {
        for (upstreams, gauges) in &*self.gauges.lock().unwrap_or_else(PoisonError::into_inner) {
            for (upstream, gauge) in upstreams.iter().zip(gauges) {
                gauge.store(i64::from(upstream.healthy()), Ordering::Relaxed);
            }
        }
    }
}
