//! What Prometheus is told.

use std::{sync::atomic::AtomicU64, time::SystemTime};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::api::failover_record::FailoverRecordSpec;
use crate::api::failover_record::Role;
use crate::plan::desired::Owner;
use crate::plan::manifest::Manifest;
use crate::plan::verification::Checked;

const ROLES: [Role; 7] = [
    Role::Active,
    Role::Standby,
    Role::Demoting,
    Role::Demoted,
    Role::Promoting,
    Role::Fenced,
    Role::Diverged,
];

fn of(owner: &Owner) -> OfEmbassy {
    OfEmbassy { namespace: owner.namespace.clone(), name: owner.name.clone() }
}

/// One embassy.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfEmbassy {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One embassy and a word of a closed set.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct WithReason {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The word.
    pub reason: String,
}

/// One certificate.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfCertificate {
    /// The site whose vault it is for.
    pub site: String,
    /// `client` or `authority`.
    pub certificate: &'static str,
}

/// The counters of the controller.
#[derive(Clone, Default)]
pub struct Metrics {
    /// Reconciles.
    pub reconciles: Counter,
    /// Reconciles that ended in an error.
    pub errors: Counter,
    /// Seconds since the epoch at which the newest copy was begun.
    pub last_copy: Family<OfEmbassy, Gauge<f64, AtomicU64>>,
    /// 1 for the role that a site has.
    pub role: Family<WithReason, Gauge>,
    /// Changes of the record.
    pub transitions: Family<OfEmbassy, Counter>,
    /// Failed movers, by reason.
    pub failures: Family<WithReason, Counter>,
    /// Seconds since the epoch at which a certificate ends.
    pub expiry: Family<OfCertificate, Gauge<f64, AtomicU64>>,
    /// Seconds since the epoch at which the last verification of the vault ended.
    pub verified: Family<OfEmbassy, Gauge<f64, AtomicU64>>,
    /// Files that it found wrong.
    pub damaged: Family<OfEmbassy, Gauge>,
}

impl Metrics {
    /// One more change of a record.
    pub fn transition(&self, owner: &Owner) {
        self.transitions.get_or_create(&of(owner)).inc();
    }

    /// What the last reconcile saw.
    pub fn observe(&self, owner: &Owner, record: &FailoverRecordSpec, newest: Option<&Manifest>) {
        for role in ROLES {
            let labels = WithReason {
                namespace: owner.namespace.clone(),
                name: owner.name.clone(),
                reason: role.as_str().to_owned(),
            };
            self.role.get_or_create(&labels).set(i64::from(role == record.role));
        }
        if let Some(newest) = newest {
            let cut = newest.cut_time.0.as_duration().as_secs_f64();
            self.last_copy.get_or_create(&of(owner)).set(cut);
        }
    }

    /// What the last verification found.
    pub fn checked(&self, owner: &Owner, checked: &Checked) {
        self.verified.get_or_create(&of(owner)).set(checked.time.0.as_duration().as_secs_f64());
        self.damaged.get_or_create(&of(owner)).set(checked.damaged_files);
    }

    /// One more failed mover.
    pub fn failure(&self, owner: &Owner, reason: &str) {
        let labels = WithReason {
            namespace: owner.namespace.clone(),
            name: owner.name.clone(),
            reason: reason.to_owned(),
        };
        self.failures.get_or_create(&labels).inc();
    }

    /// When a certificate ends.
    pub fn expires(&self, site: &str, certificate: &'static str, until: SystemTime) {
        let labels = OfCertificate { site: site.to_owned(), certificate };
        let until = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.expiry.get_or_create(&labels).set(until.as_secs_f64());
    }

    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("data_embassy_reconciles", "Reconciles", self.reconciles.clone());
        registry.register(
            "data_embassy_reconcile_errors",
            "Reconciles that ended in an error",
            self.errors.clone(),
        );
        registry.register(
            "data_embassy_last_copy_timestamp_seconds",
            "When the newest committed recovery point was begun",
            self.last_copy.clone(),
        );
        registry.register("data_embassy_role", "1 for the role of this site", self.role.clone());
        registry.register(
            "data_embassy_transitions",
            "Changes of the failover record",
            self.transitions.clone(),
        );
        registry.register("data_embassy_mover_failures", "Failed movers, by reason", self.failures.clone());
        registry.register(
            "data_embassy_certificate_expiry_timestamp_seconds",
            "When a certificate ends",
            self.expiry.clone(),
        );
        registry.register(
            "data_embassy_verification_timestamp_seconds",
            "When the last verification of the vault ended",
            self.verified.clone(),
        );
        registry.register(
            "data_embassy_damaged_files",
            "Files that the last verification found wrong",
            self.damaged.clone(),
        );
    }
}
