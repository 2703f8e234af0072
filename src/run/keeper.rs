//! The site's own keys and certificates: made once, kept in Secrets of the operator's namespace, renewed in time.

use std::{collections::BTreeMap, time::SystemTime};

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, ResourceExt, api::PostParams};

use crate::plan::renewal::INVITED_BY_LABEL;
use crate::trust::authorities::Authorities;
use crate::trust::certificates::CertificateError;
use crate::trust::certificates::Issued;
use crate::trust::certificates::needs_renewal;
use crate::trust::envelope::digest;
use crate::trust::identity::Role;
use crate::trust::requests::ends_in;
use crate::trust::sealing::SealingError;
use crate::trust::sealing::SiteIdentity;
use crate::trust::signing::KeyError;
use crate::trust::signing::SiteKey;
use crate::trust::tls::Material;

/// Secret with the signing key and the age identity.
pub const SITE_KEYS: &str = "data-embassy-site-keys";
/// Secret with the authority of the vault's certificates.
pub const AUTHORITY: &str = "data-embassy-authority";
/// Secret that the vault mounts.
pub const VAULT_TLS: &str = "data-embassy-vault-tls";
/// Secret with the operator's own client certificates for the vault of its site.
pub const CLIENT_TLS: &str = "data-embassy-client-tls";

/// Why the site has no usable keys.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The API server refused.
    #[error("cannot keep Secret {name}: {source}")]
    Secret {
        /// Which.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// A Secret lacks something, or holds what is no text.
    #[error(
        "Secret {name} has no usable {field}: restore it from its backup; it is never replaced by itself, since the other sites have pinned its key"
    )]
    Field {
        /// Which.
        name: String,
        /// What.
        field: String,
    },
    /// A signing key that cannot be read.
    #[error("Secret data-embassy-site-keys: {0}")]
    Key(#[from] KeyError),
    /// An age identity that cannot be read.
    #[error("Secret data-embassy-site-keys: {0}")]
    Identity(#[from] SealingError),
    /// A certificate that cannot be made or read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// The site's keys.
pub struct Keys {
    /// Signs mail and manifests.
    pub signing: SiteKey,
    /// Opens what is sealed to this site.
    pub identity: SiteIdentity,
    /// For the vault of this site, if it has one.
    pub local: Option<Access>,
    /// Issue the certificates of that vault and of its clients.
    pub authorities: Option<Authorities>,
}

/// What is needed to use a vault, as operator and as mover.
#[derive(Debug, Clone)]
pub struct Access {
    /// `https://host:port`.
    pub url: String,
    /// The operator's certificate.
    pub operator: Material,
    /// The mover's certificate.
    pub mover: Material,
}

/// Makes and renews.
pub struct Keeper {
    /// Secrets of the operator's namespace.
    pub secrets: Api<Secret>,
    /// This site.
    pub site: String,
    /// Where the vault of this site is reached from within, and under which names it is known; none if it has no vault.
    pub vault: Option<(String, Vec<String>)>,
}

impl Keeper {
    /// For the operator's namespace.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, site: &str, vault: Option<(String, Vec<String>)>) -> Self {
        Self { secrets: Api::namespaced(client.clone(), namespace), site: site.to_owned(), vault }
    }

    /// The keys, made where they are missing and renewed where they soon expire.
    pub async fn keys(&self) -> Result<Keys, KeeperError> {
        let stored = self
            .get_or_make(SITE_KEYS, || {
                Ok(BTreeMap::from([
                    ("signing.pem".to_owned(), SiteKey::generate()?.to_pem()?.to_string()),
                    ("identity.txt".to_owned(), SiteIdentity::generate().to_secret_text().to_string()),
                ]))
            })
            .await?;
        let signing = SiteKey::from_pem(&field(&stored, SITE_KEYS, "signing.pem")?)?;
        let identity: SiteIdentity = field(&stored, SITE_KEYS, "identity.txt")?.trim().parse()?;
        let Some((url, hosts)) = &self.vault else {
            return Ok(Keys { signing, identity, local: None, authorities: None });
        };
        let authorities = self.authorities().await?;
        let local = Some(self.local(url, hosts, &authorities, &signing, &identity).await?);
        Ok(Keys { signing, identity, local, authorities: Some(authorities) })
    }

    async fn local(
        &self,
        url: &str,
        hosts: &[String],
        authorities: &Authorities,
        signing: &SiteKey,
        identity: &SiteIdentity,
    ) -> Result<Access, KeeperError> {
        let (authority, ca) = (&authorities.issuing, authorities.bundle());
        // Other names and other authorities both lead to another certificate.
        let purpose = format!("{} {}", hosts.join(","), digest(&ca));
        self.renewed(VAULT_TLS, &purpose, || {
            let Issued { certificate_pem, key_pem, .. } = authority.issue_server(&self.site, hosts)?;
            Ok(BTreeMap::from([
                ("tls.crt".to_owned(), certificate_pem),
                ("tls.key".to_owned(), key_pem.to_string()),
                ("ca.crt".to_owned(), ca.clone()),
                ("site.pub".to_owned(), signing.public().to_string()),
                ("recipient".to_owned(), identity.recipient()),
            ]))
        })
        .await?;
        let client = self
            .renewed(CLIENT_TLS, "", || {
                let operator = authority.issue_client(&self.site, Role::Operator)?;
                let mover = authority.issue_client(&self.site, Role::Mover)?;
                Ok(BTreeMap::from([
                    ("tls.crt".to_owned(), operator.certificate_pem),
                    ("tls.key".to_owned(), operator.key_pem.to_string()),
                    ("mover.crt".to_owned(), mover.certificate_pem),
                    ("mover.key".to_owned(), mover.key_pem.to_string()),
                ]))
            })
            .await?;
        access(&client, CLIENT_TLS, url, &ca)
    }

    /// The authorities, of which the next is made and takes over in time.
    async fn authorities(&self) -> Result<Authorities, KeeperError> {
        let stored = self.get_or_make(AUTHORITY, || Ok(Authorities::generate(&self.site)?.fields())).await?;
        let known = Authorities::read(|name| text(&stored, name))?;
        let (authorities, changed) = known.advance(&self.site, SystemTime::now())?;
        if let Some(what) = changed {
            self.keep(AUTHORITY, Some(&stored), authorities.fields()).await?;
            tracing::info!(secret = AUTHORITY, what, "authorities of the vault's certificates changed");
        }
        Ok(authorities)
    }

    /// The client certificates for the vault of `host`, in a Secret that a person, cert-manager or an invitation made.
    pub async fn access(&self, secret: &str, host: &str, url: &str, ca: &str) -> Result<Access, KeeperError> {
        let found = self.secrets.get(secret).await.map_err(failed(secret))?;
        // Only into an invitation's Secret does this operator write, with the certificate, the authorities that the host's signed
        // mail named. Beside the certificate of another authority they are left from before a new invitation.
        let issued = text(&found, "tls.crt").unwrap_or_default();
        let learned = text(&found, "ca.crt")
            .filter(|learned| invited_by(&found) == Some(host) && ends_in(&issued, learned));
        access(&found, secret, url, &trusted(ca, learned.as_deref()))
    }

    /// Writes a Secret of this operator's own over the one that was read, if there was one.
    pub async fn keep(
        &self,
        name: &str,
        found: Option<&Secret>,
        data: BTreeMap<String, String>,
    ) -> Result<Secret, KeeperError> {
        let mut wanted = secret(name, data, BTreeMap::new());
        let Some(found) = found else {
            return self.secrets.create(&PostParams::default(), &wanted).await.map_err(failed(name));
        };
        wanted.metadata = found.metadata.clone();
        self.replace(&wanted).await
    }

    /// Replaces a Secret, if nobody did since it was read.
    pub async fn replace(&self, wanted: &Secret) -> Result<Secret, KeeperError> {
        let name = wanted.name_any();
        self.secrets.replace(&name, &PostParams::default(), wanted).await.map_err(failed(&name))
    }

    /// A Secret that is made once and never replaced.
    pub async fn get_or_make(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<BTreeMap<String, String>, KeeperError>,
    ) -> Result<Secret, KeeperError> {
        if let Some(found) = self.secrets.get_opt(name).await.map_err(failed(name))? {
            return Ok(found);
        }
        let wanted = secret(name, make()?, BTreeMap::new());
        match self.secrets.create(&PostParams::default(), &wanted).await {
            Ok(created) => Ok(created),
            // Another replica was first; its keys are the keys.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                self.secrets.get(name).await.map_err(failed(name))
            }
            Err(source) => Err(failed(name)(source)),
        }
    }

    /// A Secret that is found, if it exists.
    pub async fn get(&self, name: &str) -> Result<Option<Secret>, KeeperError> {
        self.secrets.get_opt(name).await.map_err(failed(name))
    }

    /// Writes a Secret, whatever was in it before.
    pub async fn put(&self, name: &str, data: BTreeMap<String, String>) -> Result<(), KeeperError> {
        let mut wanted = secret(name, data, BTreeMap::new());
        let written = match self.secrets.get_opt(name).await.map_err(failed(name))? {
            Some(found) => {
                wanted.metadata.resource_version = found.metadata.resource_version;
                self.secrets.replace(name, &PostParams::default(), &wanted).await
            }
            None => self.secrets.create(&PostParams::default(), &wanted).await,
        };
        written.map(drop).map_err(failed(name))
    }

    /// A Secret with certificates, made anew when they soon expire or when `purpose` changed.
    async fn renewed(
        &self,
        name: &str,
        purpose: &str,
        make: impl FnOnce() -> Result<BTreeMap<String, String>, KeeperError>,
    ) -> Result<Secret, KeeperError> {
        let annotations = BTreeMap::from([(PURPOSE.to_owned(), purpose.to_owned())]);
        let found = self.secrets.get_opt(name).await.map_err(failed(name))?;
        if let Some(found) = found {
            let same = found.metadata.annotations.as_ref().and_then(|all| all.get(PURPOSE));
            let certificate = field(&found, name, "tls.crt")?;
            if same.is_some_and(|same| same == purpose) && !needs_renewal(&certificate, SystemTime::now())? {
                return Ok(found);
            }
            let mut renewed = secret(name, make()?, annotations);
            renewed.metadata.resource_version = found.metadata.resource_version;
            tracing::info!(secret = name, "certificates renewed");
            return self.replace(&renewed).await;
        }
        let wanted = secret(name, make()?, annotations);
        self.secrets.create(&PostParams::default(), &wanted).await.map_err(failed(name))
    }
}

/// The site with whose invitation a Secret came.
pub fn invited_by(secret: &Secret) -> Option<&str> {
    secret.metadata.labels.as_ref()?.get(INVITED_BY_LABEL).map(String::as_str)
}

/// The authorities that a person named, and those that the site has named since.
#[must_use]
pub fn trusted(ca: &str, learned: Option<&str>) -> String {
    match learned {
        Some(learned) if !ca.contains(learned.trim()) => format!("{}\n{learned}", ca.trim_end()),
        _ => ca.to_owned(),
    }
}

/// What a certificate was made for, so that new names of the vault lead to a new one.
const PURPOSE: &str = "dataembassy.io/purpose";

fn failed(name: &str) -> impl FnOnce(kube::Error) -> KeeperError {
    let name = name.to_owned();
    move |source| KeeperError::Secret { name, source }
}

fn secret(name: &str, data: BTreeMap<String, String>, annotations: BTreeMap<String, String>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([(
                "app.kubernetes.io/managed-by".to_owned(),
                crate::api::MANAGED_BY.to_owned(),
            )])),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        data: Some(data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect()),
        ..Secret::default()
    }
}

/// A field of a Secret, as text.
pub fn field(secret: &Secret, name: &str, field: &str) -> Result<String, KeeperError> {
    text(secret, field).ok_or_else(|| KeeperError::Field { name: name.to_owned(), field: field.to_owned() })
}

/// A field of a Secret, if it is there and is text.
#[must_use]
pub fn text(secret: &Secret, field: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(field)?.0.clone()).ok()
}

fn access(secret: &Secret, name: &str, url: &str, ca: &str) -> Result<Access, KeeperError> {
    let operator = Material {
        ca: ca.to_owned(),
        certificate: field(secret, name, "tls.crt")?,
        key: field(secret, name, "tls.key")?,
    };
    // A Secret of cert-manager has one certificate; the mover uses that one too.
    let mover = match (text(secret, "mover.crt"), text(secret, "mover.key")) {
        (Some(certificate), Some(key)) => Material { ca: ca.to_owned(), certificate, key },
        _ => operator.clone(),
    };
    Ok(Access { url: url.to_owned(), operator, mover })
}
