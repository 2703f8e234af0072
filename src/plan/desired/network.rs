//! Network policies of a protected namespace, at home and abroad, from the same spec.
//!
//! Policies only add up: the first denies everything, the others each open what one concern needs. While the namespace
//! is closed (standby, fenced, held) only the mover's way stays open.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::Owner;
use crate::api::{MOVER_LABEL, data_embassy::Network};

/// What decides a namespace's policies.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkIntent<'a> {
    /// For whom.
    pub owner: &'a Owner,
    /// The user's wishes.
    pub network: &'a Network,
    /// Whether the workload may be reached and reach others: only at the active site, and only while it is not held.
    pub open: bool,
    /// Where the mover finds the vault and the API server.
    pub mover: &'a [Destination],
}

/// An address that the mover must reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// One address, such as an endpoint of the API server.
    Address(IpAddr, u16),
    /// A host known by name only: any address, this port.
    AnyAddress(u16),
    /// Pods of the cluster itself, such as the local vault.
    Pods {
        /// Namespace of the Pods.
        namespace: String,
        /// Labels of the Pods.
        labels: BTreeMap<String, String>,
        /// Port of the container.
        port: u16,
    },
}

/// The policies that should exist; the operator removes those of its own that are not among them.
#[must_use]
pub fn policies(intent: &NetworkIntent) -> Vec<NetworkPolicy> {
    let mover = mover(intent.owner, intent.mover);
    if !intent.open {
        return vec![deny_all(intent.owner), mover];
    }
    if !intent.network.isolate {
        return vec![];
    }
    let mut policies = vec![deny_all(intent.owner), mover, needed(intent.owner)];
    policies.extend(user_rules(intent.owner, intent.network));
    policies
}

fn policy(owner: &Owner, suffix: &str, spec: NetworkPolicySpec) -> NetworkPolicy {
    NetworkPolicy { metadata: owner.metadata(suffix), spec: Some(spec) }
}

fn both_ways() -> Vec<String> {
    vec!["Ingress".to_owned(), "Egress".to_owned()]
}

/// Selects every Pod of the namespace and allows nothing.
pub(super) fn deny_all(owner: &Owner) -> NetworkPolicy {
    policy(
        owner,
        "deny-all",
        NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()),
            policy_types: Some(both_ways()),
            ..NetworkPolicySpec::default()
        },
    )
}

/// The namespace to itself, and DNS.
pub(super) fn needed(owner: &Owner) -> NetworkPolicy {
    let itself = || vec![NetworkPolicyPeer { pod_selector: Some(LabelSelector::default()), ..peer() }];
    policy(
        owner,
        "needed",
        NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()),
            policy_types: Some(both_ways()),
            ingress: Some(vec![NetworkPolicyIngressRule { from: Some(itself()), ports: None }]),
            egress: Some(vec![NetworkPolicyEgressRule { to: Some(itself()), ports: None }, dns()]),
        },
    )
}

/// The mover's Pods to the vault, the API server and DNS; nobody to the mover.
pub(super) fn mover(owner: &Owner, destinations: &[Destination]) -> NetworkPolicy {
    let mut egress = vec![dns()];
    egress.extend(destinations.iter().map(destination));
    policy(
        owner,
        "mover",
        NetworkPolicySpec {
            pod_selector: Some(labels(BTreeMap::from([(MOVER_LABEL.to_owned(), owner.name.clone())]))),
            policy_types: Some(vec!["Egress".to_owned()]),
            egress: Some(egress),
            ingress: None,
        },
    )
}

/// What people open beside that.
pub(super) fn user_rules(owner: &Owner, network: &Network) -> Option<NetworkPolicy> {
    let mut types = vec![];
    if !network.ingress.is_empty() {
        types.push("Ingress".to_owned());
    }
    if !network.egress.is_empty() {
        types.push("Egress".to_owned());
    }
    (!types.is_empty()).then(|| {
        policy(
            owner,
            "user-rules",
            NetworkPolicySpec {
                pod_selector: Some(LabelSelector::default()),
                policy_types: Some(types),
                ingress: (!network.ingress.is_empty()).then(|| network.ingress.clone()),
                egress: (!network.egress.is_empty()).then(|| network.egress.clone()),
            },
        )
    })
}

/// Cluster DNS, wherever its Pods run in `kube-system`; node-local DNS has no Pod address and listens on 169.254.20.10.
fn dns() -> NetworkPolicyEgressRule {
    let pods = NetworkPolicyPeer {
        namespace_selector: Some(namespace("kube-system")),
        pod_selector: Some(labels(BTreeMap::from([("k8s-app".to_owned(), "kube-dns".to_owned())]))),
        ..peer()
    };
    let node_local = NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: "169.254.20.10/32".to_owned(), except: None }),
        ..peer()
    };
    NetworkPolicyEgressRule {
        to: Some(vec![pods, node_local]),
        ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
    }
}

fn destination(destination: &Destination) -> NetworkPolicyEgressRule {
    let (to, number) = match destination {
        Destination::Address(address, number) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let block = IPBlock { cidr: format!("{address}/{bits}"), except: None };
            (Some(vec![NetworkPolicyPeer { ip_block: Some(block), ..peer() }]), *number)
        }
        Destination::AnyAddress(number) => (None, *number),
        Destination::Pods { namespace: name, labels: wanted, port } => {
            let pods = NetworkPolicyPeer {
                namespace_selector: Some(namespace(name)),
                pod_selector: Some(labels(wanted.clone())),
                ..peer()
            };
            (Some(vec![pods]), *port)
        }
    };
    NetworkPolicyEgressRule { to, ports: Some(vec![port("TCP", number)]) }
}

fn peer() -> NetworkPolicyPeer {
    NetworkPolicyPeer::default()
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(i32::from(number))),
        end_port: None,
    }
}

fn labels(match_labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(match_labels), match_expressions: None }
}

fn namespace(name: &str) -> LabelSelector {
    labels(BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { namespace: "registers".to_owned(), name: "land".to_owned() }
    }

    fn names(policies: &[NetworkPolicy]) -> Vec<&str> {
        policies.iter().filter_map(|p| p.metadata.name.as_deref()).collect()
    }

    #[test]
    fn a_closed_namespace_leaves_only_the_mover_its_way() {
        let (owner, network) = (owner(), Network::default());
        let intent = NetworkIntent { owner: &owner, network: &network, open: false, mover: &[] };
        assert_eq!(names(&policies(&intent)), ["land-deny-all", "land-mover"]);
    }

    #[test]
    fn a_closed_namespace_is_closed_even_without_isolation() {
        let (owner, network) = (owner(), Network { isolate: false, ..Network::default() });
        let closed = NetworkIntent { owner: &owner, network: &network, open: false, mover: &[] };
        assert_eq!(names(&policies(&closed)), ["land-deny-all", "land-mover"]);
        let open = NetworkIntent { open: true, ..closed };
        assert!(policies(&open).is_empty());
    }

    #[test]
    fn an_open_namespace_has_its_own_and_the_users_rules() {
        let owner = owner();
        let rule = NetworkPolicyIngressRule {
            from: Some(vec![NetworkPolicyPeer { namespace_selector: Some(namespace("portal")), ..peer() }]),
            ports: Some(vec![port("TCP", 5432)]),
        };
        let network = Network { ingress: vec![rule.clone()], ..Network::default() };
        let intent = NetworkIntent { owner: &owner, network: &network, open: true, mover: &[] };
        let made = policies(&intent);
        assert_eq!(names(&made), ["land-deny-all", "land-mover", "land-needed", "land-user-rules"]);
        let user = made[3].spec.as_ref().unwrap();
        assert_eq!(user.ingress, Some(vec![rule]));
        assert_eq!(user.policy_types, Some(vec!["Ingress".to_owned()]), "egress must stay denied");
    }

    #[test]
    fn destinations_are_exact_where_the_address_is_known() {
        let owner = owner();
        let to = [
            Destination::Address("10.0.0.1".parse().unwrap(), 6443),
            Destination::Address("fd00::1".parse().unwrap(), 6443),
            Destination::AnyAddress(8443),
        ];
        let made = mover(&owner, &to).spec.unwrap().egress.unwrap();
        let cidr = |n: usize| made[n].to.as_ref().map(|to| to[0].ip_block.clone().unwrap().cidr);
        assert_eq!(cidr(1).as_deref(), Some("10.0.0.1/32"));
        assert_eq!(cidr(2).as_deref(), Some("fd00::1/128"));
        assert_eq!((cidr(3), made[3].ports.as_ref().unwrap().len()), (None, 1));
    }
}
