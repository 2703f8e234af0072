//! What Prometheus sees of the vault.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::route::Place;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Stored {
    namespace: String,
    embassy: String,
}

/// Counters and gauges. Clones count together.
#[derive(Clone, Default)]
pub struct Metrics {
    requests: Family<Answered, Counter>,
    refused: Family<Refused, Counter>,
    received: Counter,
    sent: Counter,
    stored: Family<Stored, Gauge>,
    freed: Family<Stored, Counter>,
    sweep_failed: Family<Stored, Gauge>,
    unprotected: Gauge,
    mended: Counter,
    handshakes: Counter,
    /// Connections open now.
    pub connections: Gauge,
}

impl Metrics {
    /// Makes all of them visible.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("data_embassy_vault");
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register("refused", "Requests refused, by reason", self.refused.clone());
        registry.register_with_unit("received", "Bytes of uploads", Unit::Bytes, self.received.clone());
        registry.register_with_unit("sent", "Bytes of answers", Unit::Bytes, self.sent.clone());
        registry.register_with_unit("stored", "Bytes of an embassy", Unit::Bytes, self.stored.clone());
        registry.register_with_unit("freed", "Bytes freed of an embassy", Unit::Bytes, self.freed.clone());
        registry.register(
            "sweep_failed",
            "1 if nothing of an embassy can be freed",
            self.sweep_failed.clone(),
        );
        registry.register(
            "unprotected",
            "1 if the bucket does not keep what it is given any more",
            self.unprotected.clone(),
        );
        registry.register("mended", "Damaged objects that a good one took the place of", self.mended.clone());
        registry.register("failed_handshakes", "Connections that TLS refused", self.handshakes.clone());
        registry.register("connections", "Connections open now", self.connections.clone());
    }

    /// A request was answered with `bytes`.
    pub fn answered(&self, route: &'static str, status: u16, bytes: u64) {
        self.requests.get_or_create(&Answered { route, status }).inc();
        self.sent.inc_by(bytes);
    }

    /// A request was refused.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Refused { reason }).inc();
    }

    /// Bytes of an upload arrived.
    pub fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    /// A damaged object was replaced by a good one.
    pub fn mended(&self) {
        self.mended.inc();
    }

    /// An embassy takes that much.
    pub fn stored(&self, place: &Place, bytes: u64) {
        self.stored.get_or_create(&labels(place)).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A round freed so much of an embassy, or could not.
    pub fn swept(&self, place: &Place, bytes: u64, succeeded: bool) {
        self.freed.get_or_create(&labels(place)).inc_by(bytes);
        self.sweep_failed.get_or_create(&labels(place)).set(i64::from(!succeeded));
    }

    /// Whether the store keeps what it is given.
    pub fn protected(&self, is_protected: bool) {
        self.unprotected.set(i64::from(!is_protected));
    }

    /// TLS refused a connection.
    pub fn failed_handshake(&self) {
        self.handshakes.inc();
    }
}

fn labels(place: &Place) -> Stored {
    Stored { namespace: place.namespace.clone(), embassy: place.name.clone() }
}
