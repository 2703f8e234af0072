//! Orders and drills that name an embassy which this namespace is not protected by: each is ended with a sentence, or a
//! typing error would wait for ever without a word.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::error::RunError;
use super::round::Round;
use crate::api::drill::{DrillPhase, DrillStatus};
use crate::api::failover::{FailoverPhase, FailoverStatus};

impl Round {
    /// Ends those that have not ended; none of them ever had an effect.
    pub(super) async fn end_strays(&self) -> Result<(), RunError> {
        for order in &self.seen.strays.orders {
            let old = order.status.clone().unwrap_or_default();
            if old.phase.is_some_and(FailoverPhase::is_final) {
                continue;
            }
            let status = FailoverStatus {
                phase: Some(FailoverPhase::Rejected),
                reason: Some("UnknownEmbassy".to_owned()),
                message: Some(self.stray(&order.spec.embassy, "Failover")),
                ended_at: Some(Time(Timestamp::now())),
                ..old
            };
            self.write_order(order, &status).await?;
        }
        for drill in self.seen.strays.drills.iter().filter(|drill| !drill.has_ended()) {
            let old = drill.status.clone().unwrap_or_default();
            let message = Some(self.stray(&drill.spec.embassy, "Drill"));
            let status = DrillStatus { phase: Some(DrillPhase::Failed), passed: Some(false), message, ..old };
            self.write_drill(drill, status).await?;
        }
        Ok(())
    }

    fn stray(&self, named: &str, kind: &str) -> String {
        let ours = &self.owner.name;
        format!(
            "spec.embassy names {named}, but this namespace is protected by DataEmbassy {ours}: create another {kind} that names it"
        )
    }
}
