//! `kubectl embassy invite`: run against the site with the vault, applied at the one that is invited.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Args;
use data_embassy::{
    api::{
        Site,
        site::{SecretReference, SiteSpec, VaultAccess},
    },
    trust::{certificates::Authority, identity::Role},
};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::Failure;

/// Whom to invite, and how it gets here.
#[derive(Args)]
pub struct Arguments {
    /// The site that shall use the vault here.
    site: String,
    /// Where that site reaches the vault, such as `https://vault.example.lu:8443`.
    #[arg(long)]
    url: String,
    /// Namespace of the operator, here and there.
    #[arg(long, default_value = "data-embassy-system")]
    operator_namespace: String,
}

/// Prints the manifest. It holds a private key: it goes to the invited site on a safe way and is kept nowhere.
pub async fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let host = local_site(client).await?;
    let name = host.name_any();
    if name == arguments.site {
        return Err(format!("{name} is this very site: name the one that shall use its vault").into());
    }
    let authority = authority(client, &arguments.operator_namespace).await?;
    let secret = secret(arguments, &name, &authority)?;
    let status = host.status.clone().unwrap_or_default();
    let site = Site {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        spec: SiteSpec {
            vault: Some(VaultAccess {
                url: arguments.url.clone(),
                ca_bundle: authority.certificate_pem().to_owned(),
                client_tls_secret_ref: SecretReference { name: secret.name_any() },
            }),
            public_key: status.public_key,
            recipient: status.recipient,
            hosting: None,
            ..host.spec
        },
        status: None,
    };
    eprintln!(
        "# Apply this in {}'s cluster. It holds a private key: send it on a safe way and keep no copy.",
        arguments.site
    );
    println!("---\n{}\n---\n{}", serde_yaml::to_string(&secret)?, serde_yaml::to_string(&site)?);
    Ok(ExitCode::SUCCESS)
}

async fn local_site(client: &Client) -> Result<Site, Failure> {
    let sites: Api<Site> = Api::all(client.clone());
    let found = sites.list(&ListParams::default()).await?.items;
    let local = found.into_iter().find(|site| site.status.as_ref().is_some_and(|status| status.local));
    local.ok_or_else(|| {
        "the operator here does not know its own Site yet: apply the Site that bears the name given to the chart \
         as 'site', then try again"
            .into()
    })
}

async fn authority(client: &Client, namespace: &str) -> Result<Authority, Failure> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get("data-embassy-authority").await.map_err(|error| {
        format!("cannot read Secret data-embassy-authority in {namespace}: {error}; a site without a vault invites nobody")
    })?;
    let field = |name: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(name));
        bytes
            .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
            .ok_or(format!("Secret data-embassy-authority has no {name}"))
    };
    Ok(Authority::from_pem(&field("tls.crt")?, &field("tls.key")?)?)
}

fn secret(arguments: &Arguments, host: &str, authority: &Authority) -> Result<Secret, Failure> {
    let operator = authority.issue_client(&arguments.site, Role::Operator)?;
    let mover = authority.issue_client(&arguments.site, Role::Mover)?;
    let data: BTreeMap<String, ByteString> = [
        ("tls.crt", operator.certificate_pem),
        ("tls.key", operator.key_pem.to_string()),
        ("mover.crt", mover.certificate_pem),
        ("mover.key", mover.key_pem.to_string()),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())))
    .collect();
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(format!("vault-{host}")),
            namespace: Some(arguments.operator_namespace.clone()),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    })
}
