//! What the operator of this site would say to an order: its own rules, on what its status shows.

use std::time::Duration;

use data_embassy::{
    api::{
        FENCE_ANNOTATION, Failover,
        data_embassy::SiteReport,
        duration,
        epoch::PointRef,
        failover_record::{DataPoint, Role},
    },
    plan::failover::{
        Document, Order, Peer, Point, View, document::DOCUMENT_VERSION, gates::Refusal, orders::judge,
    },
};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::register::Register;

/// Refuses with the sentence that the order would be rejected with.
pub fn of(register: &Register, order: &Failover) -> Result<(), Refusal> {
    judge(&view(register), &asked(register, order)).map(|_| ())
}

fn asked(register: &Register, order: &Failover) -> Order {
    let spec = &order.spec;
    let limit = spec.max_data_loss.as_ref().unwrap_or(&register.embassy.spec.failover.max_data_loss);
    Order {
        name: order.name_any(),
        epoch: spec.epoch(),
        kind: spec.mode,
        ticket: spec.ticket.clone(),
        attestation: spec.attestation.as_ref().map(|attestation| attestation.peer),
        max_data_loss: duration::parse(limit).unwrap_or_default(),
    }
}

/// What the status shows. What it does not show is taken to be in the order's favour: the operator looks again.
fn view(register: &Register) -> View {
    let (record, status) = (&register.record, register.status());
    let vault_answers = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "PeerReachable")
        .is_none_or(|condition| condition.reason != "VaultUnreachable");
    let newest = status.last_recovery_point.as_ref();
    let point = newest.and_then(|newest| {
        let point = PointRef { epoch: newest.epoch.parse().ok()?, sequence: newest.sequence };
        let data = DataPoint { point, digest: String::new() };
        Some(Point { data, ancestry: vec![] })
    });
    let newest_of = |site: &String| point.clone().filter(|point| point.data.point.epoch.site == *site);
    let shares = |site: &String| {
        let home = &register.embassy.spec.home;
        *home == record.site || home == site
    };
    let peer = |site: &String| {
        let shown = status.sites.iter().find(|shown| shown.name == *site);
        Peer {
            document: shown.and_then(document),
            reach: vault_answers,
            drained: true,
            recent: shown.is_some_and(|shown| shown.reachable),
            shares_vault: shares(site),
            point: newest_of(site),
        }
    };
    let age = |time: Timestamp| Duration::try_from(Timestamp::now().duration_since(time)).unwrap_or_default();
    let annotation = register.embassy.annotations().get(FENCE_ANNOTATION).map(String::as_str);
    View {
        record: record.clone(),
        cold_start: false,
        boot_ids: record.boot_ids.clone(),
        pods: false,
        started: true,
        peers: record.peers.keys().map(|site| (site.clone(), peer(site))).collect(),
        own_point: newest_of(&record.site).filter(|_| vault_answers),
        loss: newest.map(|newest| age(newest.time.0)),
        orders: vec![],
        fence_asked: annotation == Some("true"),
        lift_asked: annotation == Some("lift"),
        approved: None,
        suspended: register.embassy.spec.suspend,
        replaced: false,
        sealed: false,
    }
}

/// As far as the other site's last report is shown.
fn document(site: &SiteReport) -> Option<Document> {
    let shown = site.role.as_deref()?;
    let held = shown == "Fenced";
    let role: Role = serde_json::from_value(serde_json::Value::String(shown.to_owned())).ok()?;
    Some(Document {
        version: DOCUMENT_VERSION,
        revision: site.revision.unwrap_or_default(),
        echoes: std::collections::BTreeMap::new(),
        role,
        epoch: site.epoch.as_ref()?.parse().ok()?,
        intent: None,
        abort: None,
        handover: None,
        diverged: None,
        held,
        human_fence: held,
        asks: false,
        writable_pods: false,
        sequence: 0,
        at: None,
    })
}
