//! What the vault does without being asked: it keeps its time, and frees what may go.

use std::{sync::Arc, time::Duration};

use super::{
    Vault,
    sweep::{Rules, sweep},
};

/// So many times in a round the time is written down where others on the same store judge by it what is about to go.
const PARTS_OF_A_ROUND: u32 = 8;
/// The time is kept in seconds.
const SHORTEST: Duration = Duration::from_secs(1);

/// The time is written down at least so often.
const TICK: Duration = Duration::from_mins(10);

/// As the vault counts time.
pub fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Goes on until the vault stops.
pub async fn keep(vault: Arc<Vault>, every: Duration, least: Duration) {
    let tick = if vault.store.is_shared() { (every / PARTS_OF_A_ROUND).max(SHORTEST) } else { every };
    let rules = Rules { least: seconds(least), grace: seconds(every) };
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK.min(tick)) => {}
            () = vault.stopping.cancelled() => return,
        }
        let vault = Arc::clone(&vault);
        let round = tokio::task::spawn_blocking(move || {
            let is_due = vault.clock.since_sweep() >= rules.grace;
            match vault.clock.keep(is_due) {
                Err(error) => {
                    tracing::error!(%error, "the vault's time cannot be written down: nothing is freed");
                }
                Ok(is_ours) if is_ours && is_due => all(&vault, rules),
                Ok(_) => {}
            }
            if vault.store.is_shared() {
                recount(&vault);
            }
            look_at_protection(&vault);
        });
        if let Err(error) = round.await {
            tracing::error!(%error, "a round of freeing bytes ended before its time");
        }
    }
}

/// A bucket's retention can be taken away later: what is stored from then on can be deleted, and somebody must know.
fn look_at_protection(vault: &Vault) {
    let promised = vault.store.keeps_its_promise();
    vault.metrics.protected(promised.is_ok());
    if let Err(why) = promised {
        tracing::error!(
            why,
            "the bucket does not keep what it is given any more: give it back its default retention"
        );
    }
}

/// Counts again what is stored, since others on the same store do not say what they take.
fn recount(vault: &Vault) {
    for (place, embassy) in vault.embassies.all() {
        if let Err(error) = embassy.recount() {
            tracing::error!(namespace = place.namespace, name = place.name, %error, "what is stored cannot be counted");
        }
        vault.metrics.stored(&place, embassy.used());
    }
}

fn all(vault: &Vault, rules: Rules) {
    let now = vault.clock.now();
    if let Err(error) = vault.embassies.look() {
        tracing::error!(%error, "the store's embassies cannot be listed: nothing is freed");
        return;
    }
    for (place, embassy) in vault.embassies.all() {
        let (namespace, name) = (&place.namespace, &place.name);
        match sweep(&*vault.store, &embassy, rules, now) {
            Ok(swept) => {
                if swept.freed > 0 || swept.condemned > 0 {
                    tracing::info!(
                        namespace,
                        name,
                        condemned = swept.condemned,
                        freed = swept.freed,
                        bytes = swept.bytes,
                        "bytes of points that were given up"
                    );
                }
                vault.metrics.swept(&place, swept.bytes, true);
            }
            Err(error) => {
                tracing::error!(namespace, name, %error, "nothing is freed");
                vault.metrics.swept(&place, 0, false);
            }
        }
        vault.metrics.stored(&place, embassy.used());
    }
}
