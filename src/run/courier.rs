//! Waits for mail at the vaults beside the reconciles.

use std::time::Duration;

use futures::SinkExt;

use super::context::target;
use super::memory::{Background, Memory};
use super::round::Round;
use crate::observe::post::Correspondence;

impl Round {
    /// Waits for mail at every vault beside the reconciles, and asks for one when some comes.
    pub(super) fn await_mail(&self, memory: &mut Memory) {
        for (vault, way) in &mut memory.ways {
            let post = self.links.get(vault).and_then(|link| link.post.clone());
            let waits = way.courier.as_ref().is_some_and(|courier| !courier.0.is_finished());
            let (Some(post), Some(met), false) = (post, &way.met, waits) else { continue };
            way.courier = Some(self.courier(post, self.parties.met_at(vault), met.head.sequence));
        }
    }

    fn courier(&self, post: Correspondence, site: String, mut after: i64) -> Background {
        let mut wake = self.context.wake.clone();
        let target = target(&self.owner);
        Background(tokio::spawn(async move {
            let wait = Duration::from_secs(25);
            while let Ok(letters) =
                post.vault.mail(&post.owner.namespace, &post.owner.name, &site, after, wait).await
            {
                if let Some(last) = letters.last() {
                    after = last.sequence;
                    if wake.send(target.clone()).await.is_err() {
                        return;
                    }
                }
            }
            // The vault is gone: the next reconcile starts another one.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let _ = wake.send(target).await;
        }))
    }
}
