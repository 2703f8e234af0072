//! The mover's identity in a protected namespace: a ServiceAccount, bound there only, to roles that the chart ships.

use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{RoleBinding, RoleRef, Subject},
};

use super::Owner;

/// ClusterRole with the right to read every object of a namespace, for the capture.
pub const CAPTURE_ROLE: &str = "data-embassy-mover-capture";
/// ClusterRole with the right to write every object of a namespace, for the activation.
pub const ACTIVATE_ROLE: &str = "data-embassy-mover-activate";
/// ClusterRole with the right to run hooks in the Pods of one namespace.
pub const HOOK_ROLE: &str = "data-embassy-hooks";
/// The operator's own ServiceAccount.
const OPERATOR: &str = "data-embassy-controller";

/// Name of the mover's ServiceAccount; the fence lets only Pods with it through.
#[must_use]
pub fn service_account_name(owner: &Owner) -> String {
    format!("{}-mover", owner.name)
}

/// The ServiceAccount; Pods ask for its token only where they talk to the API server.
#[must_use]
pub fn service_account(owner: &Owner) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.metadata("mover"),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Binds the mover to a ClusterRole within the namespace.
#[must_use]
pub fn binding(owner: &Owner, role: &str) -> RoleBinding {
    let suffix = role.trim_start_matches("data-embassy-");
    role_binding(owner, suffix, role, (&service_account_name(owner), &owner.namespace))
}

/// Binds the operator itself to a ClusterRole within the namespace.
#[must_use]
pub fn operator_binding(owner: &Owner, suffix: &str, role: &str, operator_namespace: &str) -> RoleBinding {
    role_binding(owner, suffix, role, (OPERATOR, operator_namespace))
}

fn role_binding(owner: &Owner, suffix: &str, role: &str, (account, namespace): (&str, &str)) -> RoleBinding {
    RoleBinding {
        metadata: owner.metadata(suffix),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: role.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: account.to_owned(),
            namespace: Some(namespace.to_owned()),
            api_group: None,
        }]),
    }
}

/// Lets the operator run hooks in this namespace.
#[must_use]
pub fn hook_binding(owner: &Owner, operator_namespace: &str) -> RoleBinding {
    operator_binding(owner, "hooks", HOOK_ROLE, operator_namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mover_is_bound_in_its_own_namespace_only() {
        let owner = Owner { namespace: "registers".to_owned(), name: "land".to_owned() };
        let made = binding(&owner, CAPTURE_ROLE);
        assert_eq!(made.metadata.name.as_deref(), Some("land-mover-capture"));
        assert_eq!(made.metadata.namespace.as_deref(), Some("registers"));
        let subject = &made.subjects.unwrap()[0];
        assert_eq!((subject.name.as_str(), subject.namespace.as_deref()), ("land-mover", Some("registers")));
    }
}
