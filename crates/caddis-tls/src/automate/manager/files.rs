//! Certificate files that change on disk are read again; the storage is tidied.

use std::{sync::Arc, time::Duration};

use super::CertManager;
use crate::storage::{
    clean::{clean, instance_id},
    data_dir,
};

impl CertManager {
    /// Tidies the storage where that is wanted and due.
    pub(in crate::automate) async fn tidy(self: &Arc<Self>) {
        let (storages, interval) = {
            let inner = self.lock();
            let Some(interval) = inner.clean else { return };
            (inner.storages(), interval)
        };
        let now = self.now();
        for storage in storages {
            let tidied = tokio::task::spawn_blocking(move || {
                clean(&*storage, now, interval, instance_id(&data_dir()))
            });
            let tidied = tidied.await;
            match tidied {
                Ok(Ok(true)) => tracing::info!(target: "tls", "finished cleaning storage units"),
                Ok(Err(error)) => tracing::error!(target: "tls", %error, "could not clean storage"),
                Ok(Ok(false)) | Err(_) => {}
            }
        }
    }

    /// How often the storage is to be tidied; never if absent.
    pub(in crate::automate) fn tidies_every(&self) -> Option<Duration> {
        self.lock().clean
    }

    /// Looks at the files of given certificates, and reads them where they changed. What cannot be
    /// read leaves the certificates as they are.
    pub(in crate::automate) async fn look_at_files(self: &Arc<Self>) {
        let (loaders, storage) = {
            let inner = self.lock();
            if !inner.loaders.watchable() {
                return;
            }
            (inner.loaders.clone(), inner.storage.clone())
        };
        let known = self.lock().stamp.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let stamp = loaders.stamp();
            let changed = known.is_some_and(|known| known != stamp);
            (stamp, changed.then(|| loaders.load(&*storage)))
        });
        let Ok((stamp, loaded)) = looked.await else { return };
        let mut inner = self.lock();
        inner.stamp = Some(stamp);
        match loaded {
            None => return,
            Some(Err(error)) => {
                drop(inner);
                tracing::error!(
                    target: "tls",
                    error = %error,
                    "certificate files changed, but cannot be used: the old ones stay"
                );
                return;
            }
            Some(Ok(loaded)) => {
                inner.loaded = loaded;
                drop(inner);
            }
        }
        tracing::info!(target: "tls", "certificate files changed: read again");
        self.publish();
    }
}
