//! `kubectl embassy invite`: run against the site with the vault, applied at the one that is invited.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use clap::Args;
use data_embassy::{
    api::{
        Site, duration,
        site::{SecretReference, SiteSpec, VaultAccess},
    },
    plan::renewal::INVITED_BY_LABEL,
    trust::{authorities::Authorities, certificates::LEAF_LIFE, identity::Role},
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
    /// How long the keys in the invitation work, such as 1h: they are carried by hand, and worth nothing once the invited site
    /// has renewed them with keys of its own. It does so in the last third of this time, by the mail of its first DataEmbassy.
    #[arg(long, default_value = "90d", value_parser = life)]
    valid_for: Duration,
}

fn life(text: &str) -> Result<Duration, String> {
    let life = duration::parse(text).map_err(|error| error.to_string())?;
    if (SHORTEST..=LEAF_LIFE).contains(&life) {
        Ok(life)
    } else {
        Err("an invitation is valid for 10m at least, so that it can be carried, and for 90d at most"
            .to_owned())
    }
}

const SHORTEST: Duration = Duration::from_mins(10);

/// Prints the manifest. It holds a private key: it goes to the invited site on a safe way and is kept nowhere.
pub async fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let host = local_site(client).await?;
    let name = host.name_any();
    if name == arguments.site {
        return Err(format!("{name} is this very site: name the one that shall use its vault").into());
    }
    let authorities = authorities(client, &arguments.operator_namespace).await?;
    let secret = secret(arguments, &name, &authorities)?;
    let status = host.status.clone().unwrap_or_default();
    let site = Site {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        spec: SiteSpec {
            vault: Some(VaultAccess {
                url: arguments.url.clone(),
                ca_bundle: authorities.bundle(),
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

pub(super) async fn local_site(client: &Client) -> Result<Site, Failure> {
    let sites: Api<Site> = Api::all(client.clone());
    let found = sites.list(&ListParams::default()).await?.items;
    let local = found.into_iter().find(|site| site.status.as_ref().is_some_and(|status| status.local));
    local.ok_or_else(|| {
        "the operator here does not know its own Site yet: apply the Site that bears the name given to the chart \
         as 'site', then try again"
            .into()
    })
}

pub(super) async fn authorities(client: &Client, namespace: &str) -> Result<Authorities, Failure> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get("data-embassy-authority").await.map_err(|error| {
        format!("cannot read Secret data-embassy-authority in {namespace}: {error}; a site without a vault invites nobody")
    })?;
    let field = |name: &str| String::from_utf8(secret.data.as_ref()?.get(name)?.0.clone()).ok();
    Authorities::read(field).map_err(|error| format!("Secret data-embassy-authority: {error}").into())
}

fn secret(arguments: &Arguments, host: &str, authorities: &Authorities) -> Result<Secret, Failure> {
    let (authority, life) = (&authorities.issuing, arguments.valid_for);
    let operator = authority.issue_client_for(&arguments.site, Role::Operator, life)?;
    let mover = authority.issue_client_for(&arguments.site, Role::Mover, life)?;
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
            labels: Some(BTreeMap::from([(INVITED_BY_LABEL.to_owned(), host.to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use data_embassy::trust::certificates::Validity;

    use super::*;

    #[test]
    fn an_invitation_lives_long_enough_to_be_carried_and_no_longer_than_any_certificate() {
        assert_eq!(life("10m"), Ok(SHORTEST));
        assert_eq!(life("90d"), Ok(LEAF_LIFE));
        for bad in ["9m", "91d"] {
            assert!(life(bad).unwrap_err().contains("10m at least"), "{bad}");
        }
        assert!(life("soon").unwrap_err().contains("is not a duration"));
    }

    #[test]
    fn the_secret_says_who_invited_and_lives_as_asked() {
        let authorities = Authorities::generate("luxembourg").unwrap();
        let arguments = Arguments {
            site: "tallinn".to_owned(),
            url: "https://vault.example.lu:8443".to_owned(),
            operator_namespace: "data-embassy-system".to_owned(),
            valid_for: SHORTEST,
        };
        let secret = secret(&arguments, "luxembourg", &authorities).unwrap();
        assert_eq!(secret.labels().get(INVITED_BY_LABEL).map(String::as_str), Some("luxembourg"));
        for field in ["tls.crt", "mover.crt"] {
            let certificate = String::from_utf8(secret.data.as_ref().unwrap()[field].0.clone()).unwrap();
            let left = Validity::of(&certificate).unwrap().until.duration_since(SystemTime::now()).unwrap();
            assert!(left <= SHORTEST, "{field} is valid for {left:?}");
        }
    }
}
