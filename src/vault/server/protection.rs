//! Whether a bucket keeps what it is given, even from whoever has its keys: Object Lock, with a default retention in mode COMPLIANCE.

use std::time::Duration;

use http::Request;
use opendal_core::HttpTransporter;
use opendal_http_transport_reqwest::ReqwestTransport;
use reqsign_aws_v4::{DefaultCredentialProvider, RequestSigner};
use reqsign_core::{Context, OsEnv, Signer};
use reqsign_file_read_tokio::TokioFileRead;
use serde::Deserialize;

use crate::api::duration;

/// Why nothing is known to be kept.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unprotected {
    /// The bucket lets its objects go.
    #[error("{0}")]
    Open(String),
    /// The object store does not say.
    #[error("{0}")]
    Unknown(String),
}

/// What a vault counts on.
pub struct Promise {
    /// Reaches the object store.
    pub client: reqwest::Client,
    /// Its address.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// That it keeps every version of an object so long.
    pub immutable_for: Duration,
    /// Or that a person accepted less.
    pub accepts_less: bool,
}

impl Promise {
    /// Whether the bucket keeps it, now.
    pub async fn check(&self) -> Result<(), Unprotected> {
        if self.accepts_less {
            return Ok(());
        }
        let kept = retention_of(self).await?;
        if kept >= self.immutable_for {
            return Ok(());
        }
        let (kept, promised) = (duration::format(kept), duration::format(self.immutable_for));
        Err(Unprotected::Open(format!("its default retention is {kept}, and this vault promises {promised}")))
    }
}

/// So long the bucket keeps every version of an object from everybody.
async fn retention_of(asked: &Promise) -> Result<Duration, Unprotected> {
    let unknown = |why: &dyn ToString| {
        Unprotected::Unknown(format!(
            "bucket '{}' at {} cannot be asked for its Object Lock: {}",
            asked.bucket,
            asked.endpoint,
            why.to_string()
        ))
    };
    let request = signed(asked).await.map_err(|error| unknown(&error))?;
    let request = reqwest::Request::try_from(request.map(|()| "")).map_err(|error| unknown(&error))?;
    let answer = asked.client.execute(request).await.map_err(|error| unknown(&error))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| unknown(&error))?;
    if status.is_success() {
        retention(&text)
    } else if status == http::StatusCode::NOT_FOUND && text.contains("ObjectLockConfigurationNotFoundError") {
        Err(Unprotected::Open("it has no Object Lock".to_owned()))
    } else {
        Err(unknown(&format!("{status} {text}")))
    }
}

/// `GetObjectLockConfiguration`.
async fn signed(asked: &Promise) -> Result<Request<()>, Box<dyn std::error::Error + Send + Sync>> {
    let url = format!("{}/{}?object-lock", asked.endpoint.trim_end_matches('/'), asked.bucket);
    let transport = HttpTransporter::new(ReqwestTransport::new(asked.client.clone()));
    let context = Context::new().with_file_read(TokioFileRead).with_env(OsEnv).with_http_send(transport);
    let credentials = DefaultCredentialProvider::builder().no_imds().build();
    let signer = Signer::new(context, credentials, RequestSigner::new("s3", &asked.region));
    let (mut parts, ()) = Request::get(url).body(())?.into_parts();
    signer.sign(&mut parts, None).await?;
    Ok(Request::from_parts(parts, ()))
}

/// As much of the answer as counts.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    #[serde(default)]
    object_lock_enabled: String,
    rule: Option<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    default_retention: Option<Retention>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Retention {
    #[serde(default)]
    mode: String,
    days: Option<u64>,
    years: Option<u64>,
}

fn retention(text: &str) -> Result<Duration, Unprotected> {
    let open = |why: &str| Err(Unprotected::Open(why.to_owned()));
    let Ok(found) = quick_xml::de::from_str::<Configuration>(text) else {
        return Err(Unprotected::Unknown(format!(
            "the object store's answer about Object Lock is unknown: {text}"
        )));
    };
    if found.object_lock_enabled != "Enabled" {
        return open("its Object Lock is not enabled");
    }
    let Some(retention) = found.rule.and_then(|rule| rule.default_retention) else {
        return open("its Object Lock has no default retention");
    };
    if retention.mode != "COMPLIANCE" {
        return open("its default retention is not in mode COMPLIANCE, so some may shorten it");
    }
    let days = retention.days.unwrap_or(0) + retention.years.unwrap_or(0) * 365;
    Ok(Duration::from_hours(days * 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rule: &str) -> Result<Duration, Unprotected> {
        retention(&format!(
            r#"<?xml version="1.0"?><ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
            <ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>"#
        ))
    }

    fn why(answer: Result<Duration, Unprotected>) -> String {
        match answer {
            Err(Unprotected::Open(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_compliance_for_a_time_protects() {
        let days = |mode: &str| {
            answer(&format!(
                "<Rule><DefaultRetention><Mode>{mode}</Mode><Days>7</Days></DefaultRetention></Rule>"
            ))
        };
        assert_eq!(days("COMPLIANCE"), Ok(Duration::from_hours(7 * 24)));
        assert!(why(days("GOVERNANCE")).contains("COMPLIANCE"));
        let year =
            "<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Years>1</Years></DefaultRetention></Rule>";
        assert_eq!(answer(year), Ok(Duration::from_hours(365 * 24)));
        assert!(why(answer("")).contains("no default retention"));
        assert!(why(retention("<ObjectLockConfiguration/>")).contains("not enabled"));
        assert!(matches!(retention("nothing"), Err(Unprotected::Unknown(_))));
    }
}
