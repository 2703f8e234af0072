//! What the vault does without being asked: it keeps its time, and frees what may go.

use std::{sync::Arc, time::Duration};

use super::{
    Vault,
    sweep::{Rules, sweep},
};

/// The time is written down at least so often.
const TICK: Duration = Duration::from_mins(10);

/// Goes on until the vault stops.
pub async fn keep(vault: Arc<Vault>, every: Duration, least: Duration) {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let rules = Rules { least: seconds(least), grace: seconds(every) };
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK.min(every)) => {}
            () = vault.stopping.cancelled() => return,
        }
        let vault = Arc::clone(&vault);
        let round = tokio::task::spawn_blocking(move || {
            let is_due = vault.clock.since_sweep() >= rules.grace;
            if is_due {
                vault.clock.begin_sweep();
            }
            if let Err(error) = vault.clock.keep(&vault.workshop) {
                tracing::error!(%error, "the vault's time cannot be written down: nothing is freed");
            } else if is_due {
                all(&vault, rules);
            }
        });
        if let Err(error) = round.await {
            tracing::error!(%error, "a round of freeing bytes ended before its time");
        }
    }
}

fn all(vault: &Vault, rules: Rules) {
    let now = vault.clock.now();
    for (place, embassy) in vault.embassies.all() {
        let (namespace, name) = (&place.namespace, &place.name);
        match sweep(&embassy, rules, now, &vault.workshop) {
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
