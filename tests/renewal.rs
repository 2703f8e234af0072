//! Client certificates renew themselves: two operators on a real API server, the vault a real process with real certificates.

#![cfg(test)]

mod support;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use data_embassy::{
    api::Site,
    plan::renewal::{Answer, INVITED_BY_LABEL, Renewal, Request},
    run::{
        context::{Context, Settings},
        keeper::{AUTHORITY, Keeper, text},
        metrics::Metrics,
        renewal::{self, Renewals, Standing},
    },
    trust::{authorities::Authorities, certificates::Authority, identity::Role},
    vault::client::VaultClient,
};
use futures::channel::mpsc;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::json;
use support::{api_server::ApiServer, vault::TestVault};
use tokio::sync::{Mutex, RwLock};

const SECRET: &str = "vault-luxembourg";
const STORE: &str = "data-embassy-renewal-luxembourg";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Two sites and the vault of one. Each operator has a namespace of its own on the one API server.
struct World {
    vault: TestVault,
    home: Context,
    abroad: Context,
    luxembourg: Site,
    tallinn: Site,
}

async fn operator(client: &Client, site: &str, vault: Option<String>) -> Context {
    let vault = vault.map(|url| (url, vec!["127.0.0.1".to_owned()]));
    let keeper = Keeper::new(client, site, site, vault);
    let keys = RwLock::new(Arc::new(keeper.keys().await.unwrap()));
    Context {
        client: client.clone(),
        streams: client.clone(),
        settings: Settings {
            cluster_domain: "cluster.local".to_owned(),
            site: site.to_owned(),
            namespace: site.to_owned(),
            report_interval: Duration::from_secs(5),
            image: String::new(),
            pull_policy: String::new(),
        },
        keeper,
        keys,
        memories: Mutex::new(HashMap::new()),
        wake: mpsc::channel(1).0,
        introductions: Mutex::default(),
        renewals: Renewals::default(),
        metrics: Metrics::default(),
    }
}

impl World {
    async fn new(server: &ApiServer) -> Self {
        let client = &server.client;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        for site in ["tallinn", "luxembourg"] {
            let namespace = serde_json::from_value(json!({"metadata": {"name": site}})).unwrap();
            namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        }
        let vault = tokio::task::spawn_blocking(TestVault::start).await.unwrap();
        let authority = secret(
            AUTHORITY,
            &[("tls.crt", vault.authority.certificate_pem()), ("tls.key", &vault.authority.key_pem())],
        );
        let secrets: Api<Secret> = Api::namespaced(client.clone(), "luxembourg");
        secrets.create(&PostParams::default(), &authority).await.unwrap();
        let ca = vault.authority.certificate_pem();
        let luxembourg = json!({
            "apiVersion": "dataembassy.io/v1alpha1", "kind": "Site", "metadata": {"name": "luxembourg"},
            "spec": {"jurisdiction": "LU", "vault": {"url": vault.url(), "caBundle": ca, "clientTLSSecretRef": {"name": SECRET}}},
        });
        let tallinn = json!({
            "apiVersion": "dataembassy.io/v1alpha1", "kind": "Site", "metadata": {"name": "tallinn"},
            "spec": {"jurisdiction": "EE", "hosting": {"namespaces": ["land"], "quota": "1Gi"}},
        });
        Self {
            home: operator(client, "tallinn", None).await,
            abroad: operator(client, "luxembourg", Some(vault.url())).await,
            luxembourg: serde_json::from_value(luxembourg).unwrap(),
            tallinn: serde_json::from_value(tallinn).unwrap(),
            vault,
        }
    }

    /// What 'kubectl embassy invite' prints and 'kubectl apply' makes of it.
    fn invitation(&self, life: Duration) -> Secret {
        let issue = |role| self.vault.authority.issue_client_for("tallinn", role, life).unwrap();
        let (operator, mover) = (issue(Role::Operator), issue(Role::Mover));
        let mut invitation = secret(
            SECRET,
            &[
                ("tls.crt", &operator.certificate_pem),
                ("tls.key", &operator.key_pem),
                ("mover.crt", &mover.certificate_pem),
                ("mover.key", &mover.key_pem),
            ],
        );
        invitation.labels_mut().insert(INVITED_BY_LABEL.to_owned(), "luxembourg".to_owned());
        let applied = serde_json::to_string(&invitation).unwrap();
        invitation.annotations_mut().insert(LAST_APPLIED.to_owned(), applied);
        invitation
    }

    async fn apply(&self, mut secret: Secret) -> Secret {
        let api = &self.home.keeper.secrets;
        match api.get_opt(SECRET).await.unwrap() {
            None => api.create(&PostParams::default(), &secret).await.unwrap(),
            Some(found) => {
                secret.metadata.resource_version = found.metadata.resource_version;
                api.replace(SECRET, &PostParams::default(), &secret).await.unwrap()
            }
        }
    }

    async fn held(&self) -> Secret {
        self.home.keeper.secrets.get(SECRET).await.unwrap()
    }

    async fn look(&self) -> Standing {
        let vault = self.luxembourg.spec.vault.as_ref().unwrap();
        renewal::look(&self.home, "luxembourg", vault).await.unwrap()
    }

    async fn request(&self) -> Option<Request> {
        self.home.renewals.carried("luxembourg").await
    }

    /// As it arrives: text.
    async fn answer(&self, request: &Request) -> Option<Answer> {
        let letter = serde_json::to_string(&Renewal::Request(request.clone())).unwrap();
        let read: Renewal = serde_json::from_str(&letter).unwrap();
        let answer =
            renewal::answer(&self.abroad, &self.tallinn, read.request().unwrap(), None).await.unwrap()?;
        let letter = serde_json::to_string(&Renewal::Answer(answer)).unwrap();
        serde_json::from_str::<Renewal>(&letter).unwrap().answer().cloned()
    }

    async fn take(&self, answer: &Answer) {
        renewal::take(&self.home, &self.luxembourg, answer).await;
    }

    async fn renew(&self) {
        self.look().await;
        let answer = self.answer(&self.request().await.unwrap()).await.unwrap();
        self.take(&answer).await;
    }

    /// Whom the vault takes the operator and the mover for, with what the Secret holds now.
    async fn at_the_vault(&self) -> Vec<(String, String)> {
        let access = self.home.access(Some(&self.luxembourg), "luxembourg").await.unwrap();
        let mut known = vec![];
        for material in [&access.operator, &access.mover] {
            let who = VaultClient::new(&access.url, material).unwrap().whoami().await.unwrap();
            known.push((who.site, who.role));
        }
        known
    }

    /// The operator ends, and another one begins with what the cluster holds.
    async fn restart(&mut self) {
        let client = self.home.client.clone();
        self.home = operator(&client, "tallinn", None).await;
    }
}

fn secret(name: &str, fields: &[(&str, &str)]) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let data: BTreeMap<_, _> = fields.iter().map(|(name, text)| ((*name).to_owned(), bytes(text))).collect();
    let mut secret = Secret { data: Some(data), ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    secret.type_ = Some(if name == SECRET { "kubernetes.io/tls" } else { "Opaque" }.to_owned());
    secret
}

fn both() -> Vec<(String, String)> {
    ["operator", "mover"].map(|role| ("tallinn".to_owned(), role.to_owned())).to_vec()
}

const SHORT: Duration = Duration::from_mins(10);
const LONG: Duration = Duration::from_hours(90 * 24);

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_renews_itself_and_its_keys_are_gone() {
    let server = ApiServer::start().await;
    let mut world = World::new(&server).await;
    let before = world.apply(world.invitation(SHORT)).await;
    assert_eq!(world.at_the_vault().await, both());

    assert!(matches!(world.look().await, Standing::Expiring(_)), "no mail carries the request yet");
    let request = world.request().await.unwrap();
    assert_eq!(world.look().await, Standing::Renewing);
    assert_eq!(world.held().await, before, "nothing is touched before there is something better");

    world.restart().await;
    world.look().await;
    assert_eq!(world.request().await.as_ref(), Some(&request), "the keys that wait survive the operator");

    let answer = world.answer(&request).await.unwrap();
    world.take(&answer).await;
    let after = world.held().await;
    for field in ["tls.crt", "tls.key", "mover.crt", "mover.key"] {
        assert_ne!(text(&after, field), text(&before, field), "{field}");
    }
    assert_eq!(text(&after, "tls.crt").unwrap(), answer.operator);
    assert_eq!(world.at_the_vault().await, both());
    assert_eq!(world.look().await, Standing::Fresh);
    assert!(world.request().await.is_none(), "nothing more is asked");
    assert_eq!(after.labels(), before.labels());

    let old = [text(&before, "tls.key").unwrap(), text(&before, "mover.key").unwrap()];
    for secret in world.home.keeper.secrets.list(&ListParams::default()).await.unwrap() {
        let everything = serde_json::to_string(&secret).unwrap();
        let fields =
            secret.data.iter().flatten().map(|(_, value)| String::from_utf8_lossy(&value.0).into_owned());
        let texts: String = fields.chain([everything]).collect();
        assert!(
            old.iter().all(|key| !texts.contains(key.trim())),
            "{} still holds an old key",
            secret.name_any()
        );
        assert!(secret.annotations().get(LAST_APPLIED).is_none());
    }
    let version = world.held().await.resource_version();
    world.look().await;
    world.take(&answer).await;
    assert_eq!(world.held().await.resource_version(), version, "it costs one write");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_invitation_that_is_applied_again_takes_nothing_away() {
    let server = ApiServer::start().await;
    let world = World::new(&server).await;
    let invitation = world.invitation(SHORT);
    world.apply(invitation.clone()).await;
    world.renew().await;
    let renewed = text(&world.held().await, "tls.crt");
    assert_ne!(renewed, text(&invitation, "tls.crt"));
    world.apply(invitation).await;
    assert_eq!(world.look().await, Standing::Fresh);
    assert_eq!(text(&world.held().await, "tls.crt"), renewed);
    assert_eq!(world.at_the_vault().await, both());

    let newer = world.invitation(LONG);
    world.apply(newer.clone()).await;
    assert_eq!(world.look().await, Standing::Fresh);
    assert_eq!(text(&world.held().await, "tls.crt"), text(&newer, "tls.crt"), "a new invitation stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_invitation_ends_what_was_asked() {
    let server = ApiServer::start().await;
    let world = World::new(&server).await;
    world.apply(world.invitation(SHORT)).await;
    world.look().await;
    let answer = world.answer(&world.request().await.unwrap()).await.unwrap();
    let newer = world.apply(world.invitation(LONG)).await;
    assert_eq!(world.look().await, Standing::Fresh);
    assert!(world.request().await.is_none());
    let store = world.home.keeper.get(STORE).await.unwrap().unwrap();
    assert!(text(&store, "next-operator.key").is_none(), "no key waits for nothing");
    world.take(&answer).await;
    assert_eq!(world.held().await, newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_people_are_never_touched() {
    let server = ApiServer::start().await;
    let world = World::new(&server).await;
    for label in [None, Some("riga")] {
        let mut theirs = world.invitation(SHORT);
        theirs.labels_mut().clear();
        if let Some(label) = label {
            theirs.labels_mut().insert(INVITED_BY_LABEL.to_owned(), label.to_owned());
        }
        let theirs = world.apply(theirs).await;
        assert!(matches!(world.look().await, Standing::Expiring(_)));
        assert!(world.request().await.is_none());
        assert_eq!(world.held().await, theirs);
        assert!(world.home.keeper.get(STORE).await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_not_used_and_said() {
    let server = ApiServer::start().await;
    let mut world = World::new(&server).await;
    let before = world.apply(world.invitation(SHORT)).await;
    world.look().await;
    let request = world.request().await.unwrap();
    let good = world.answer(&request).await.unwrap();

    let stranger = Authority::generate("luxembourg").unwrap();
    let of_stranger = |request: &str, role| stranger.answer(request, "tallinn", role).unwrap();
    let foreign = Answer {
        operator: of_stranger(&request.operator, Role::Operator),
        mover: of_stranger(&request.mover, Role::Mover),
        authorities: stranger.certificate_pem().to_owned(),
        ..good.clone()
    };
    let swapped = Answer { operator: good.mover.clone(), mover: good.operator.clone(), ..good.clone() };
    let unreadable = Answer { operator: "none".to_owned(), ..good.clone() };
    for bad in [foreign, swapped, unreadable] {
        world.take(&bad).await;
        assert_eq!(world.held().await, before);
        let Standing::Expiring(why) = world.look().await else { panic!("it is said") };
        assert!(why.contains("is not used"), "{why}");
    }
    let to_another_request =
        Answer { request: Request { operator: String::new(), ..request }, ..good.clone() };
    world.take(&to_another_request).await;
    assert_eq!(world.held().await, before);

    world.vault.stop();
    world.take(&good).await;
    assert_eq!(world.held().await, before, "not before the vault took it");
    let again = tokio::task::spawn_blocking(move || {
        world.vault.restart();
        world
    });
    let mut world = again.await.unwrap();
    world.luxembourg.spec.vault.as_mut().unwrap().url = world.vault.url();
    world.take(&good).await;
    assert_eq!(text(&world.held().await, "tls.crt"), Some(good.operator));
    assert_eq!(world.at_the_vault().await, both());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_hosted_gets_no_certificate() {
    let server = ApiServer::start().await;
    let mut world = World::new(&server).await;
    world.apply(world.invitation(SHORT)).await;
    world.look().await;
    let request = world.request().await.unwrap();
    world.tallinn.spec.hosting = None;
    assert!(world.answer(&request).await.is_none());
    let forged = Request { operator: "none".to_owned(), ..request };
    world.tallinn.spec.hosting =
        serde_json::from_value(json!({"namespaces": ["land"], "quota": "1Gi"})).unwrap();
    assert!(renewal::answer(&world.abroad, &world.tallinn, &forged, None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn home_hears_of_the_next_authority_and_follows_it() {
    let server = ApiServer::start().await;
    let mut world = World::new(&server).await;
    world.apply(world.invitation(SHORT)).await;
    let old = world.vault.authority.certificate_pem().to_owned();

    // In the last third of its life the operator of luxembourg makes the next authority beside it.
    let fields = BTreeMap::from([
        ("tls.crt".to_owned(), old.clone()),
        ("tls.key".to_owned(), world.vault.authority.key_pem().to_string()),
    ]);
    let first = Authorities::read(|name| fields.get(name).cloned()).unwrap();
    let (announced, _) =
        first.advance("luxembourg", std::time::SystemTime::now() + Duration::from_hours(2440 * 24)).unwrap();
    let stored = world.abroad.keeper.get(AUTHORITY).await.unwrap();
    world.abroad.keeper.keep(AUTHORITY, stored.as_ref(), announced.fields()).await.unwrap();
    *world.abroad.keys.write().await = Arc::new(world.abroad.keeper.keys().await.unwrap());
    world.renew().await;
    let access = world.home.access(Some(&world.luxembourg), "luxembourg").await.unwrap();
    assert_eq!(
        access.operator.ca.matches("BEGIN CERTIFICATE").count(),
        3,
        "the person's, and the two learned"
    );

    // The vault goes over to the next one; home's Site still names the old one only.
    let fields = announced.fields();
    let next = Authority::from_pem(&fields["next.crt"], &fields["next.key"]).unwrap();
    std::fs::write(world.vault.tls("ca.crt"), format!("{}{old}", next.certificate_pem())).unwrap();
    world.vault.authority = next.into();
    let restarted = tokio::task::spawn_blocking(move || {
        world.vault.renew();
        world.vault.restart();
        world
    });
    let mut world = restarted.await.unwrap();
    world.luxembourg.spec.vault.as_mut().unwrap().url = world.vault.url();
    assert!(
        !world
            .luxembourg
            .spec
            .vault
            .as_ref()
            .unwrap()
            .ca_bundle
            .contains(world.vault.authority.certificate_pem())
    );
    assert_eq!(world.at_the_vault().await, both());
}
