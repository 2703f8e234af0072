//! Runs hooks in Pods: those before a copy until one fails that must not, those after it in every Pod that is still there.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::exec::{Place, exec};
use crate::api::hooks::{FrozenPod, HookCommand, OnError};
use crate::plan::hooks::Planned;

/// How the commands before a copy went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frozen {
    /// In so many of the Pods one was begun.
    pub begun: usize,
    /// Why no copy may follow.
    pub failure: Option<String>,
    /// Some failed, and the copy follows nevertheless.
    pub in_part: bool,
}

/// Runs the commands before a copy, one after the other.
pub async fn freeze(client: &Client, namespace: &str, hooks: &[Planned]) -> Frozen {
    let mut frozen = Frozen::default();
    for hook in hooks {
        frozen.begun += 1;
        let Some(pre) = &hook.pre else { continue };
        let at = Place { namespace, pod: &hook.frozen.pod, container: Some(&hook.container) };
        let Err(why) = run(client, &at, &hook.frozen.hook, pre).await else { continue };
        if pre.on_error == OnError::Fail {
            frozen.failure = Some(why);
            return frozen;
        }
        frozen.in_part = true;
    }
    frozen
}

/// Runs the commands after a copy, in the reverse order. What is answered is still frozen, and why.
pub async fn thaw(client: &Client, namespace: &str, pods: &[FrozenPod]) -> Vec<(FrozenPod, String)> {
    let mut left = vec![];
    for frozen in pods.iter().rev() {
        let Some(post) = &frozen.post else { continue };
        match is_there(client, namespace, frozen).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                left.push((frozen.clone(), format!("Pod {} could not be read: {error}", frozen.pod)));
                continue;
            }
        }
        let at = Place { namespace, pod: &frozen.pod, container: Some(&frozen.container) };
        if let Err(why) = run(client, &at, &frozen.hook, post).await
            && post.on_error == OnError::Fail
        {
            left.push((frozen.clone(), why));
        }
    }
    left.reverse();
    left
}

/// Whether it is the Pod that was frozen, and not one that came after it under the same name or has ended.
async fn is_there(client: &Client, namespace: &str, frozen: &FrozenPod) -> Result<bool, kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let named = ListParams::default().fields(&format!("metadata.name={}", frozen.pod));
    let found = api.list(&named).await?;
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    Ok(found.items.iter().any(|pod| pod.uid().as_deref() == Some(frozen.uid.as_str()) && !ended(pod)))
}

async fn run(client: &Client, at: &Place<'_>, hook: &str, command: &HookCommand) -> Result<(), String> {
    let (namespace, pod, container) = (at.namespace, at.pod, at.container.unwrap_or_default());
    let shown = command.command.join(" ");
    match exec(client, at, &command.command, command.limit()).await {
        Ok(said) => {
            tracing::info!(namespace, pod, container, hook, command = shown, said, "hook ran");
            Ok(())
        }
        Err(why) => {
            tracing::warn!(namespace, pod, container, hook, command = shown, why, "hook failed");
            let shown: String = shown.chars().take(200).collect();
            Err(format!("hook {hook} in Pod {pod}, container {container}, command '{shown}': {why}"))
        }
    }
}
